"""score: what only healthy calibration scans may set: reference, thresholds, scales and distributions.

A frozen bundle brings all of it; recalibration makes it anew of a site's own scans.
"""

import json
import shlex


rule score_reference:
    """What residual is usual at each voxel of a healthy brain, and how far it strays, from held-out healthy scans."""
    input:
        raw=of_each(f"{ROOT}/score/raw/{{subject}}.npz", CALIBRATORS + STOPPERS),
        maps=of_each(f"{ROOT}/score/maps/{{subject}}.npz", CALIBRATORS + STOPPERS),
        slices=of_each(f"{ROOT}/preprocess/{{subject}}/slices.npz", CALIBRATORS + STOPPERS),
        parent=[str(FROZEN.reference)] if RECALIBRATE else [],
    output:
        reference=REFERENCE,
        sums=REFERENCE_SUMS,
    log:
        f"{ROOT}/logs/score/reference.log",
    threads: 1
    resources:
        mem_mb=growing(3000),
        runtime=growing(60),
    params:
        score=f"{ROOT}/score",
        preprocess=f"{ROOT}/preprocess",
        calibrate=listed(CALIBRATORS),
        stop=listed(STOPPERS),
        patients=listed([patient_of(s) for s in CALIBRATORS]),
        settings=json.dumps(REFERENCE_SETTINGS),
        parent=f"--parent {shlex.quote(str(FROZEN.reference))}" if RECALIBRATE else "",
        code=code("normct.score.build_reference"),
    shell:
        "python -m normct.score.build_reference {params.score:q} {params.preprocess:q}"
        " --calibrate {params.calibrate} --stop {params.stop} --patients {params.patients}"
        " --settings {params.settings:q} {params.parent} --reference {output.reference:q} --sums {output.sums:q} > {log:q} 2>&1"


rule score_thresholds:
    """What |residual| and |z| few voxels of the calibration scans reach, and what still shows above it."""
    input:
        raw=of_each(f"{ROOT}/score/raw/{{subject}}.npz", CALIBRATORS),
        maps=of_each(f"{ROOT}/score/maps/{{subject}}.npz", CALIBRATORS),
        z_maps=of_each(f"{ROOT}/score/calibrated/{{subject}}.npz", CALIBRATORS),
        slices=of_each(f"{ROOT}/preprocess/{{subject}}/slices.npz", CALIBRATORS),
    output:
        VOXEL_THRESHOLDS,
    log:
        f"{ROOT}/logs/score/thresholds.log",
    threads: 1
    resources:
        mem_mb=growing(1000),
        runtime=growing(60),
    params:
        folder=f"{ROOT}/score",
        preprocess=f"{ROOT}/preprocess",
        subjects=listed(CALIBRATORS),
        settings=json.dumps(
            {"voxel_fpr": SCORE_CONFIG["score"]["voxel_fpr"]}
            | ({"cross_fit": config["score"]["cross_fit"]} if FOLD_OF else {})
        ),
        code=code("normct.score.voxel_thresholds"),
    shell:
        "python -m normct.score.voxel_thresholds {params.folder:q} {params.preprocess:q} {output:q}"
        " --subjects {params.subjects} --settings {params.settings:q} > {log:q} 2>&1"


rule score_calibrate:
    """Scale of the residual and healthy distributions, from the calibration scans only; no map is read."""
    input:
        raw=of_each(f"{ROOT}/score/raw/{{subject}}.npz", CALIBRATORS),
        pooled=of_each(f"{ROOT}/score/pooled/{{subject}}.npz", CALIBRATORS),
        voxels=VOXEL_THRESHOLDS,
        quality=of_each(f"{ROOT}/preprocess/{{subject}}/quality.json", CALIBRATORS),
    output:
        calibration=f"{ROOT}/score/calibration.json",
        left_out=f"{ROOT}/score/left_out.npz",
        healthy_slices=HEALTHY_SLICES,
    log:
        f"{ROOT}/logs/score/calibrate.log",
    threads: 1
    resources:
        mem_mb=growing(1000),
        runtime=growing(60),
    params:
        folder=f"{ROOT}/score",
        preprocess=f"{ROOT}/preprocess",
        subjects=listed(CALIBRATORS),
        patients=listed([patient_of(s) for s in CALIBRATORS]),
        settings=json.dumps(
            {k: SCORE_CONFIG["score"][k] for k in ("lambda", "head")}
            | {"calibrated": POOL_SETTINGS}
            | ({"cross_fit": config["score"]["cross_fit"]} if FOLD_OF else {})
        ),
        code=code("normct.score.calibrate"),
    shell:
        "python -m normct.score.calibrate {params.folder:q} {output.calibration:q} --left-out {output.left_out:q}"
        " --voxels {input.voxels:q} --healthy-slices {output.healthy_slices:q}"
        " --subjects {params.subjects} --patients {params.patients}"
        " --preprocess {params.preprocess:q} --settings {params.settings:q} > {log:q} 2>&1"
