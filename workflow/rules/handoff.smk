"""handoff: a page a scan, the worklist, tables and checksums; everything a clinician opens."""

import json
import shlex

# the learning scans have no page; those of them that quality control set aside are listed by the index
HANDED_OFF = [p.participant_id for p in PARTICIPANTS if p.role in {"test", "unlabelled"}]
HANDOFF = config["handoff"]
HANDOFF_PATIENT = f"{ROOT}/handoff/patients/{{subject}}"
# a map of the calibrated score may also be the statistical atlas's, or that of all together
HANDOFF_KNOWN = list(SCORE_METHODS) + (
    [FUSED, "statistical_atlas"] if HANDOFF["score"] == "calibrated" else []
)
# what the networks of all expect is shown beside a map that is no single network's
HANDOFF_WEIGHTS = [
    path for method, _, path in NETWORKS if HANDOFF["method"] in (method, FUSED, "statistical_atlas")
]

if HANDOFF["method"] not in HANDOFF_KNOWN:
    print(
        f"\nhandoff.method: {HANDOFF['method']} draws no map with handoff.score: {HANDOFF['score']};"
        f" choose one of {', '.join(HANDOFF_KNOWN)}\n",
        file=sys.stderr,
    )
    raise SystemExit(1)


CALIBRATION_PATIENTS = {patient_of(subject) for subject in CALIBRATORS}


# said before anything is computed; where quality control leaves fewer, the pages say it
def handoff_maps(wildcards) -> str:
    """Return the scan's z maps; refuse a calibrated hand-off of a cohort that cannot calibrate."""
    if HANDOFF["score"] == "calibrated" and not BUNDLE and len(CALIBRATION_PATIENTS) < 2:
        raise WorkflowError(
            "handoff.score: calibrated needs two healthy calibration patients at least: give more scans the split"
            " val, or set handoff.score: thesis and handoff.method to a network"
        )
    return f"{ROOT}/score/calibrated/{wildcards.subject}.npz"


HANDOFF_SHARED = {
    "method": HANDOFF["method"],
    "score": HANDOFF["score"],
    "title": TITLE,
    "min_finding_ml": HANDOFF["min_finding_ml"],
    "threshold_factor": HANDOFF["threshold_factor"],
    "synthetic": SYNTHETIC,
    "trained_on_synthetic": bool(BUNDLE and read_manifest(BUNDLE)["training"].get("synthetic")),
    "voxel_fpr": SCORE_CONFIG["score"]["voxel_fpr"],
}
# what made the results: a frozen model's settings, whatever config.yaml says of training today, on this machine's device
HANDOFF_CONFIG = {
    **config,
    **SCORE_CONFIG,
    "score": {**SCORE_CONFIG["score"], "accelerator": config["score"]["accelerator"]},
}


rule handoff_patient:
    """One scan: anomaly map, findings and masks on its own grid, and the page with the viewer."""
    input:
        ct=f"{ROOT}/cohort/{{subject}}/ct.nii.gz",
        record=f"{ROOT}/cohort/{{subject}}/import.json",
        private=f"{ROOT}/cohort/{{subject}}/dicom_private.json",
        transform=f"{ROOT}/preprocess/{{subject}}/native_to_atlas.mat",
        atlas=ATLAS,
        statistical_atlas=STATISTICAL_ATLAS,
        quality=f"{ROOT}/preprocess/{{subject}}/quality.json",
        picture=f"{ROOT}/preprocess/{{subject}}/quality.png",
        slices=f"{ROOT}/preprocess/{{subject}}/slices.npz",
        brain_mask=f"{ROOT}/preprocess/{{subject}}/brain_mask.nii.gz",
        scores=f"{ROOT}/score/subjects/{{subject}}.json",
        slice_scores=f"{ROOT}/score/subjects/{{subject}}.parquet",
        maps=f"{ROOT}/score/maps/{{subject}}.npz",
        z_maps=handoff_maps,
        calibration=CALIBRATION,
    output:
        page=f"{HANDOFF_PATIENT}/index.html",
        record=f"{HANDOFF_PATIENT}/patient.json",
    log:
        f"{ROOT}/logs/handoff/{{subject}}.log",
    threads: 1
    resources:
        scans=1,
        mem_mb=growing(2500),
        runtime=growing(15),
    params:
        folder=HANDOFF_PATIENT,
        settings=lambda wc: json.dumps(
            {
                **HANDOFF_SHARED,
                "dicom": HANDOFF["dicom"],
                # never group or pathology: reading stays blinded
                "person": {"age": BY_ID[wc.subject].age, "scanner": BY_ID[wc.subject].scanner},
                "dicom_source": BY_ID[wc.subject].ct if HANDOFF["dicom"]["copy_patient"] else None,
                "windows": HANDOFF["windows"],
                "viewer": HANDOFF["viewer"],
                # with per-scan normalisation a residual has no unit
                "hu_range": (
                    SCORE_INTENSITY["window"] if SCORE_INTENSITY["normalisation"] == "window" else None
                ),
            }
        ),
        code=code("normct.handoff.patient"),
    shell:
        "python -m normct.handoff.patient {wildcards.subject} {params.folder:q} --ct {input.ct:q}"
        " --record {input.record:q} --private {input.private:q} --statistical-atlas {input.statistical_atlas:q}"
        " --transform {input.transform:q} --atlas {input.atlas:q} --quality {input.quality:q}"
        " --picture {input.picture:q} --slices {input.slices:q} --brain-mask {input.brain_mask:q}"
        " --scores {input.scores:q} --slice-scores {input.slice_scores:q} --maps {input.maps:q} --z-maps {input.z_maps:q}"
        " --calibration {input.calibration:q}"
        " --settings {params.settings:q} > {log:q} 2>&1"


rule handoff_index:
    """The worklist, tables, guide, provenance, status and checksums; pages of removed scans are deleted."""
    input:
        participants=f"{ROOT}/cohort/participants.tsv",
        pages=of_each(f"{HANDOFF_PATIENT}/index.html", HANDED_OFF),
        records=of_each(f"{HANDOFF_PATIENT}/patient.json", HANDED_OFF),
        quality=of_each(f"{ROOT}/preprocess/{{subject}}/quality.json", BY_ID),
        weights=HANDOFF_WEIGHTS,
        bundle=[str(FROZEN.manifest)] if BUNDLE else [],
    output:
        *(
            f"{ROOT}/handoff/{name}"
            for name in (
                "index.html",
                "summary.csv",
                "findings.csv",
                "summary.json",
                "changes.csv",
                "report.pdf",
                "methods.txt",
                "README.txt",
                "provenance.json",
                "status.json",
                "SHA256SUMS",
            )
        ),
    log:
        f"{ROOT}/logs/handoff/index.log",
    threads: 1
    resources:
        mem_mb=growing(1000),
        runtime=growing(30),
    params:
        root=ROOT,
        settings=json.dumps(
            {
                **HANDOFF_SHARED,
                # what is behind the hand-off: the evaluation reads other files and changes nothing here
                "config": {k: v for k, v in HANDOFF_CONFIG.items() if k != "evaluate"},
                "networks": list(SCORE_METHODS),
                "fusion": SCORE_CONFIG["score"]["fusion"],
                "seeds": list(SCORE_SEEDS),
                "code": code("normct.handoff.patient"),
            }
        ),
        weights=f"--weights {shlex.join(HANDOFF_WEIGHTS)}" if HANDOFF_WEIGHTS else "",
        bundle=f"--bundle {shlex.quote(str(BUNDLE))}" if BUNDLE else "",
        code=code("normct.handoff.index"),
    shell:
        "python -m normct.handoff.index {params.root:q} --settings {params.settings:q} {params.weights}"
        " {params.bundle} > {log:q} 2>&1"
