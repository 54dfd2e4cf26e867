"""handoff: a page a scan, the worklist, tables and checksums; everything a clinician opens."""

import json
import shlex

# the learning scans have no page; those of them that quality control set aside are listed by the index
HANDED_OFF = [p.participant_id for p in PARTICIPANTS if p.role in {"test", "unlabelled"}]
HANDOFF = config["handoff"]
HANDOFF_PATIENT = f"{ROOT}/handoff/patients/{{subject}}"
HANDOFF_WEIGHTS = [path for method, _, path in NETWORKS if method == HANDOFF["method"]]

if not HANDOFF_WEIGHTS:
    known = ", ".join(SCORE_METHODS)
    print(
        f"\nhandoff.method: {HANDOFF['method']} is not among the trained methods; choose one of {known}\n",
        file=sys.stderr,
    )
    raise SystemExit(1)

HANDOFF_SHARED = {
    "method": HANDOFF["method"],
    "title": HANDOFF["title"],
    "min_finding_ml": HANDOFF["min_finding_ml"],
    "synthetic": SYNTHETIC,
    "voxel_fpr": SCORE_CONFIG["score"]["voxel_fpr"],
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
        maps=f"{ROOT}/score/maps/{{subject}}.npz",
        calibration=CALIBRATION,
    output:
        page=f"{HANDOFF_PATIENT}/index.html",
        record=f"{HANDOFF_PATIENT}/patient.json",
    log:
        f"{ROOT}/logs/handoff/{{subject}}.log",
    threads: 1
    resources:
        mem_mb=lambda wc, attempt: 2500 * attempt,
        runtime=15,
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
        " --scores {input.scores:q} --maps {input.maps:q} --calibration {input.calibration:q}"
        " --settings {params.settings:q} > {log:q} 2>&1"


rule handoff_index:
    """The worklist, tables, guide, provenance, status and checksums; pages of removed scans are deleted."""
    input:
        participants=f"{ROOT}/cohort/participants.tsv",
        pages=expand(
            f"{ROOT}/handoff/patients/{{subject}}/{{name}}",
            subject=HANDED_OFF,
            name=["index.html", "patient.json"],
        ),
        quality=[f"{ROOT}/preprocess/{p.participant_id}/quality.json" for p in PARTICIPANTS],
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
        mem_mb=lambda wc, attempt: 1000 * attempt,
        runtime=30,
    params:
        root=ROOT,
        settings=json.dumps(
            {
                **HANDOFF_SHARED,
                "config": config,
                "seeds": list(SCORE_SEEDS),
                "code": code("normct.handoff.patient"),
            }
        ),
        weights=f"--weights {shlex.join(HANDOFF_WEIGHTS)}",
        bundle=f"--bundle {shlex.quote(str(BUNDLE))}" if BUNDLE else "",
        code=code("normct.handoff.index"),
    shell:
        "python -m normct.handoff.index {params.root:q} --settings {params.settings:q} {params.weights}"
        " {params.bundle} > {log:q} 2>&1"
