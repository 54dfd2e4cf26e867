"""preprocess: resample, strip, register, judge, slice. With the import one subject's rules are one group, one cluster job."""

import json
import shlex

from normct.common.bundle import bundle_paths

PREPROCESS = f"{ROOT}/preprocess/{{subject}}"
PREPROCESS_LOGS = f"{ROOT}/logs/preprocess/{{subject}}"
# a frozen bundle brings its own atlas
ATLAS = bundle_paths(BUNDLE).atlas if BUNDLE else f"{ROOT}/preprocess/atlas/atlas.nii.gz"
ATLAS_MASK = bundle_paths(BUNDLE).atlas_mask if BUNDLE else f"{ROOT}/preprocess/atlas/atlas_mask.nii.gz"
SECOND_PASS = config["preprocess"]["register"]["second_pass"]
# ... and the mean of the brains it was trained on
MEAN_BRAIN = bundle_paths(BUNDLE).mean_brain if BUNDLE else f"{ROOT}/preprocess/mean_brain.nii.gz"
MEAN_MASK = bundle_paths(BUNDLE).mean_brain_mask if BUNDLE else f"{ROOT}/preprocess/mean_brain_mask.nii.gz"
# what a registration to the atlas alone leaves: the last word, or where the second pass starts
FIRST_MAT = f"{PREPROCESS}/native_to_atlas{'_first' if SECOND_PASS else ''}.mat"
FIRST_JSON = f"{PREPROCESS}/register{'_first' if SECOND_PASS else ''}.json"
# one group cannot hold what comes before and after a job of the whole cohort
LATER_GROUP = "preprocess_second" if SECOND_PASS else "preprocess"


def nifti_slice_folders() -> list[str]:
    """Return the folders of per-slice NIfTI files, where the configuration asks for them."""
    wanted = config["preprocess"]["slices"]["write_nifti"]
    return [f"{ROOT}/preprocess/{p.participant_id}/slices_nifti" for p in PARTICIPANTS if wanted]


def verdict_by_hand(subject: str) -> str:
    """Return the arguments that carry the table's own verdict on a scan, if it has one."""
    person = BY_ID[subject]
    if person.quality is None:
        return ""
    return f"--override-verdict {person.quality} --override-reason {shlex.quote(person.quality_reason or 'no reason given')}"


if BUNDLE is None:

    rule preprocess_atlas:
        """The atlas and its brain mask on the grid that every scan is brought to."""
        input:
            **(config["preprocess"]["register"]["atlas"] or {}),
        output:
            image=ATLAS,
            mask=ATLAS_MASK,
        log:
            f"{ROOT}/logs/preprocess/atlas.log",
        threads: 1
        resources:
            mem_mb=growing(1500),
            runtime=growing(10),
        params:
            own=lambda wc, input: " ".join(f"--{k} {shlex.quote(str(v))}" for k, v in input.items()),
            code=code("normct.preprocess.atlas"),
        shell:
            "python -m normct.preprocess.atlas {output.image} {output.mask} {params.own} > {log} 2>&1"


rule preprocess_resample:
    """Resample a scan to 1 mm in its own pose, cropped to the head."""
    input:
        ct=f"{ROOT}/cohort/{{subject}}/ct.nii.gz",
        record=f"{ROOT}/cohort/{{subject}}/import.json",
    output:
        head=temp(f"{PREPROCESS}/head_1mm.nii"),
    log:
        f"{PREPROCESS_LOGS}/resample.log",
    priority: learnt_first
    group:
        "preprocess"
    threads: 1
    resources:
        scans=1,
        mem_mb=growing(2000),
        runtime=growing(10),
    params:
        spacing=config["preprocess"]["resample"]["spacing"],
        code=code("normct.preprocess.resample"),
    shell:
        "python -m normct.preprocess.resample {input.ct} {output.head} --import-json {input.record}"
        " --spacing {params.spacing} > {log} 2>&1"


rule preprocess_skullstrip:
    """Take the skull off with the configured engine."""
    input:
        head=f"{PREPROCESS}/head_1mm.nii",
    output:
        brain=f"{PREPROCESS}/brain.nii.gz",
        mask=f"{PREPROCESS}/brain_mask.nii.gz",
        record=f"{PREPROCESS}/skullstrip.json",
    log:
        f"{PREPROCESS_LOGS}/skullstrip.log",
    priority: learnt_first
    group:
        "preprocess"
    conda:
        # FSL comes by `--sdm conda`; the other engines run in Snakemake's own environment
        "../../envs/fsl.yaml" if config["preprocess"]["skullstrip"]["engine"] == "fsl" else None
    threads: 1
    resources:
        scans=1,
        # BET in Python takes two to three times what the others do
        mem_mb=growing(4000 if config["preprocess"]["skullstrip"]["engine"] == "brainextractor" else 1500),
        runtime=growing(30),
    params:
        settings=json.dumps(config["preprocess"]["skullstrip"], sort_keys=True),
        code=code("normct.preprocess.skullstrip"),
    shell:
        "python -m normct.preprocess.skullstrip {input.head} {output.brain} {output.mask} {output.record}"
        " --settings {params.settings:q} > {log} 2>&1"


rule preprocess_register:
    """Register the brain rigidly to the atlas's brain, from several starting pitches."""
    input:
        brain=f"{PREPROCESS}/brain.nii.gz",
        mask=f"{PREPROCESS}/brain_mask.nii.gz",
        atlas=ATLAS,
        atlas_mask=ATLAS_MASK,
    output:
        transform=FIRST_MAT,
        record=FIRST_JSON,
    log:
        f"{PREPROCESS_LOGS}/register.log",
    priority: learnt_first
    group:
        "preprocess"
    threads: 1
    resources:
        scans=1,
        mem_mb=growing(1500),
        runtime=growing(20),
    params:
        pitch_starts=config["preprocess"]["register"]["pitch_starts"],
        side_starts=config["preprocess"]["register"]["side_starts"],
        code=code("normct.preprocess.register"),
    shell:
        "python -m normct.preprocess.register {input.brain} {input.mask} {input.atlas} {input.atlas_mask}"
        " {output.transform} {output.record}"
        " --pitch-starts {params.pitch_starts} --side-starts {params.side_starts} > {log} 2>&1"


rule preprocess_quality:
    """Judge one scan: verdict, reasons, measures, and a picture of brain and atlas outlines."""
    input:
        imported=f"{ROOT}/cohort/{{subject}}/import.json",
        stripped=f"{PREPROCESS}/skullstrip.json",
        registered=f"{PREPROCESS}/register.json",
        brain=f"{PREPROCESS}/brain.nii.gz",
        mask=f"{PREPROCESS}/brain_mask.nii.gz",
        transform=f"{PREPROCESS}/native_to_atlas.mat",
        atlas=ATLAS,
        atlas_mask=ATLAS_MASK,
    output:
        record=f"{PREPROCESS}/quality.json",
        picture=f"{PREPROCESS}/quality.png",
    log:
        f"{PREPROCESS_LOGS}/quality.log",
    priority: learnt_first
    group:
        LATER_GROUP
    threads: 1
    resources:
        scans=1,
        mem_mb=growing(1500),
        runtime=growing(10),
    params:
        settings=json.dumps(config["preprocess"]["quality"], sort_keys=True),
        override=lambda wc: verdict_by_hand(wc.subject),
        code=code("normct.preprocess.quality"),
    shell:
        "python -m normct.preprocess.quality {output.record} {output.picture} --subject {wildcards.subject}"
        " --import-json {input.imported} --skullstrip-json {input.stripped} --register-json {input.registered}"
        " --brain {input.brain} --mask {input.mask} --transform {input.transform} --atlas {input.atlas}"
        " --atlas-mask {input.atlas_mask} --settings {params.settings:q} {params.override} > {log} 2>&1"


rule preprocess_slices:
    """Cut the registered brain into the slices the networks see; none for a scan that was set aside."""
    input:
        brain=f"{PREPROCESS}/brain.nii.gz",
        mask=f"{PREPROCESS}/brain_mask.nii.gz",
        transform=f"{PREPROCESS}/native_to_atlas.mat",
        atlas=ATLAS,
        lesion=f"{ROOT}/cohort/{{subject}}/lesion.nii.gz",
        record=f"{ROOT}/cohort/{{subject}}/import.json",
        quality=f"{PREPROCESS}/quality.json",
    output:
        npz=f"{PREPROCESS}/slices.npz",
        tsv=f"{PREPROCESS}/slices.tsv",
    log:
        f"{PREPROCESS_LOGS}/slices.log",
    priority: learnt_first
    group:
        LATER_GROUP
    threads: 1
    resources:
        scans=1,
        mem_mb=growing(1500),
        runtime=growing(10),
    params:
        # writing NIfTI files too changes no slice
        settings=json.dumps(
            {k: v for k, v in config["preprocess"]["slices"].items() if k != "write_nifti"},
            sort_keys=True,
        ),
        interpolation=config["preprocess"]["register"]["interpolation"],
        code=code("normct.preprocess.slices"),
    shell:
        "python -m normct.preprocess.slices {input.brain} {input.mask} {input.transform} {input.atlas}"
        " {input.lesion} {input.record} {input.quality} {output.npz} {output.tsv}"
        " --settings {params.settings:q} --interpolation {params.interpolation} > {log} 2>&1"


if config["preprocess"]["slices"]["write_nifti"]:

    rule preprocess_nifti_slices:
        """The thesis's 155 NIfTI files a volume, for other tools."""
        input:
            npz=f"{PREPROCESS}/slices.npz",
            atlas=ATLAS,
        output:
            folder=directory(f"{PREPROCESS}/slices_nifti"),
        log:
            f"{PREPROCESS_LOGS}/nifti_slices.log",
        group:
            LATER_GROUP
        threads: 1
        resources:
            scans=1,
            mem_mb=growing(800),
            runtime=growing(10),
        params:
            code=code("normct.preprocess.nifti_slices"),
        shell:
            "python -m normct.preprocess.nifti_slices {input.npz} {input.atlas} {output.folder} > {log} 2>&1"


rule preprocess_quality_page:
    """One table and one page of the whole cohort's quality, worst first."""
    input:
        of_each(f"{PREPROCESS}/quality.json", BY_ID),
    output:
        page=f"{ROOT}/preprocess/quality.html",
        table=f"{ROOT}/preprocess/quality.tsv",
    log:
        f"{ROOT}/logs/preprocess/quality_page.log",
    threads: 1
    resources:
        mem_mb=growing(1000),
        runtime=growing(20),
    params:
        title=TITLE,
        code=code("normct.preprocess.quality_page"),
    run:
        # a command line holds a few thousand paths, a cohort more
        listed = Path(str(log)).with_suffix(".inputs")
        listed.write_text("\n".join(input) + "\n", "utf-8")
        shell(
            "python -m normct.preprocess.quality_page {output.page} {output.table} --inputs-file {listed:q}"
            " --title {params.title:q} > {log} 2>&1"
        )


rule preprocess_all:
    """Every scan's slices and the quality page, and nothing trained: snakemake --cores all preprocess_all."""
    input:
        of_each(f"{PREPROCESS}/slices.npz", BY_ID),
        rules.preprocess_quality_page.output,
