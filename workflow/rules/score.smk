"""score: inference, trivial baselines, calibration, combination and export.

With BUNDLE set, weights, statistical atlas and calibration are the frozen ones and nothing is made anew; with
RECALIBRATE too, reference and calibration are a site's own and go into a new bundle.
"""

import json
import shlex

from normct.common.bundle import bundle_paths, read_manifest
from normct.common.registry import POOL_SHARES

FROZEN = bundle_paths(BUNDLE) if BUNDLE else None
CALIBRATED_ELSEWHERE = bool(BUNDLE) and not RECALIBRATE
# the settings that made the networks hold for scoring with them, whatever config.yaml says of training today
SCORE_CONFIG = read_bundle_config(BUNDLE, config) if BUNDLE else config
SCORE_METHODS = read_manifest(BUNDLE)["methods"] if BUNDLE else config["train"]["methods"]
SCORE_SEEDS = read_manifest(BUNDLE)["seeds"] if BUNDLE else config["train"]["seeds"]
STATISTICAL_ATLAS = str(FROZEN.statistical_atlas) if BUNDLE else f"{ROOT}/score/statistical_atlas.npz"
REFERENCE = str(FROZEN.reference) if CALIBRATED_ELSEWHERE else f"{ROOT}/score/reference.npz"
REFERENCE_SUMS = f"{ROOT}/score/reference_sums.npz"
CALIBRATION = str(FROZEN.calibration) if CALIBRATED_ELSEWHERE else f"{ROOT}/score/calibration.json"
# a bundle made before healthy slices were kept has none: its slices have no percentile, and the scan's record says so
HEALTHY_SLICES = f"{ROOT}/score/healthy_slices.npz"
if CALIBRATED_ELSEWHERE:
    HEALTHY_SLICES = str(FROZEN.healthy_slices)
    if FROZEN.healthy_slices.name not in read_manifest(BUNDLE)["files"]:
        HEALTHY_SLICES = ""
# what thresholds maps reads this alone: lambda and pooling rewrite the calibration, which carries the same keys
VOXEL_THRESHOLDS = CALIBRATION if CALIBRATED_ELSEWHERE else f"{ROOT}/score/voxel_thresholds.json"


def score_weights(method, seed) -> str:
    """Return where the weights of one network lie."""
    return (
        str(FROZEN.weights(method, seed))
        if BUNDLE
        else f"{ROOT}/train/{method}/seed-{seed}/model.safetensors"
    )


NETWORKS = [(method, seed, score_weights(method, seed)) for method in SCORE_METHODS for seed in SCORE_SEEDS]
NETWORK_ARGUMENTS = " ".join(f"--network {m} {s} {shlex.quote(path)}" for m, s, path in NETWORKS)
# a training scan has no scores: its residual would be an in-sample one; out of fold it calibrates, no more
SCORED = [p.participant_id for p in PARTICIPANTS if p.role != "train"]
EXPORTED = SCORED if BUNDLE else [p.participant_id for p in PARTICIPANTS if p.split in {"val", "test"}]
# a cohort with one validation patient has its early-stopping scans only, unless training scans are cross-fitted
CALIBRATORS = [p.participant_id for p in PARTICIPANTS if p.role == "calibrate"] + list(FOLD_OF) or [
    p.participant_id for p in PARTICIPANTS if p.role == "stop"
]
STOPPERS = [
    p.participant_id for p in PARTICIPANTS if p.role == "stop" and p.participant_id not in CALIBRATORS
]
STOPS = set(STOPPERS)
# what makes the z maps apart from what makes scores of them, so that pooling reruns no reference
REFERENCE_KEYS = ("smooth_mm", "prior_scans", "band_mm", "use_stop", "components")
REFERENCE_SETTINGS = {k: SCORE_CONFIG["score"]["calibrated"][k] for k in REFERENCE_KEYS}
POOL_KEYS = ("pool_share", "position_mm", "slice_smooth_mm", "volume_share")
POOL_SETTINGS = {k: SCORE_CONFIG["score"]["calibrated"][k] for k in POOL_KEYS}
SCORE_INTENSITY = {k: SCORE_CONFIG["preprocess"]["slices"][k] for k in ("normalisation", "window")}
# what new scans are registered to in a second pass
BUNDLED_MEAN = [
    f"{ROOT}/preprocess/{name}.nii.gz"
    for name in ("mean_brain", "mean_brain_mask")
    if config["preprocess"]["register"].get("second_pass")
]


def patient_of(subject) -> str:
    """Return whose scan it is."""
    return BY_ID[subject].patient or subject


# looked up for every scan: a search through the reference each time would grow with the cohort's square
REFERENCE_OF = {}
for scan in CALIBRATORS + STOPPERS:
    REFERENCE_OF.setdefault(patient_of(scan), []).append(scan)


def own_scans(subject, role=None) -> list[str]:
    """Return the scans that the reference is built from (or those of one role) and that show the subject's patient."""
    own = [] if CALIBRATED_ELSEWHERE else REFERENCE_OF.get(patient_of(subject), [])
    return [s for s in own if role is None or (s in STOPS) == (role == "stop")]


def z_inputs(wildcards) -> dict:
    """Return a scan's maps and slices, its patient's own in the reference, and the reference without or with them."""
    own = own_scans(wildcards.subject)
    scans = list(dict.fromkeys([wildcards.subject, *own]))
    return {
        "raw": f"{ROOT}/score/raw/{wildcards.subject}.npz",
        "maps": [f"{ROOT}/score/maps/{s}.npz" for s in scans],
        "slices": [f"{ROOT}/preprocess/{s}/slices.npz" for s in scans],
        "reference": REFERENCE_SUMS if own else REFERENCE,
    }


rule score_infer:
    """Every method and seed on one scan: raw residuals, head probabilities and trivial measures, unweighted."""
    input:
        slices=f"{ROOT}/preprocess/{{subject}}/slices.npz",
        quality=f"{ROOT}/preprocess/{{subject}}/quality.json",
        atlas=lambda wc: fold_atlas(wc.subject) if wc.subject in FOLD_OF else STATISTICAL_ATLAS,
        weights=lambda wc: (
            fold_files(wc.subject) if wc.subject in FOLD_OF else [path for _, _, path in NETWORKS]
        ),
        verified=[f"{ROOT}/score/bundle_verified.json"] if BUNDLE else [],
    output:
        raw=f"{ROOT}/score/raw/{{subject}}.npz",
        maps=f"{ROOT}/score/maps/{{subject}}.npz",
    log:
        f"{ROOT}/logs/score/infer/{{subject}}.log",
    threads: 1
    resources:
        scans=1,
        mem_mb=growing(2000),
        runtime=growing(10),
        gpu=0 if config["score"]["accelerator"] == "cpu" else 1,
    params:
        networks=lambda wc: fold_arguments(wc.subject) if wc.subject in FOLD_OF else NETWORK_ARGUMENTS,
        accelerator=config["score"]["accelerator"],
        role=lambda wc: BY_ID[wc.subject].role,
        settings=json.dumps(
            {
                "transforms": SCORE_CONFIG["score"]["transforms"],
                "max_shift": SCORE_CONFIG["train"]["multitask"]["max_shift"],
                **SCORE_INTENSITY,
            }
        ),
        code=code("normct.score.infer"),
    shell:
        "python -m normct.score.infer {input.slices:q} {input.quality:q} {input.atlas:q} {params.networks}"
        " --role {params.role} --settings {params.settings:q} --threads {threads}"
        " --accelerator {params.accelerator} --raw {output.raw:q} --maps {output.maps:q} > {log:q} 2>&1"


rule score_zmap:
    """One scan's residual maps as z against the healthy reference, its own patient left out, and their top values."""
    input:
        unpack(z_inputs),
    output:
        maps=f"{ROOT}/score/calibrated/{{subject}}.npz",
        pooled=f"{ROOT}/score/pooled/{{subject}}.npz",
    log:
        f"{ROOT}/logs/score/zmap/{{subject}}.log",
    threads: 1
    resources:
        scans=1,
        mem_mb=growing(1500),
        runtime=growing(5),
    params:
        score=f"{ROOT}/score",
        preprocess=f"{ROOT}/preprocess",
        own=lambda wc: shlex.join(own_scans(wc.subject, "calibrate")),
        own_stop=lambda wc: shlex.join(own_scans(wc.subject, "stop")),
        settings=json.dumps(
            {
                "calibrated": REFERENCE_SETTINGS | {"centre": SCORE_CONFIG["score"]["calibrated"]["centre"]},
                "fusion": SCORE_CONFIG["score"]["fusion"],
                "pool_shares": [s for s in [POOL_SETTINGS["pool_share"]] if s not in POOL_SHARES],
            }
        ),
        code=code("normct.score.calibrated_map"),
    shell:
        "python -m normct.score.calibrated_map {wildcards.subject} {params.score:q} {params.preprocess:q}"
        " {input.reference:q} --own {params.own} --own-stop {params.own_stop} --settings {params.settings:q}"
        " --maps {output.maps:q} --pooled {output.pooled:q} > {log:q} 2>&1"


rule score_combine:
    """From one scan's raw measures and pooled z to its slice scores and volume scores."""
    input:
        raw=f"{ROOT}/score/raw/{{subject}}.npz",
        pooled=f"{ROOT}/score/pooled/{{subject}}.npz",
        left_out=[] if CALIBRATED_ELSEWHERE else f"{ROOT}/score/left_out.npz",
        quality=f"{ROOT}/preprocess/{{subject}}/quality.json",
        calibration=CALIBRATION,
        healthy_slices=HEALTHY_SLICES or [],
    output:
        table=f"{ROOT}/score/subjects/{{subject}}.parquet",
        volumes=f"{ROOT}/score/subjects/{{subject}}.json",
    log:
        f"{ROOT}/logs/score/combine/{{subject}}.log",
    threads: 1
    resources:
        scans=1,
        mem_mb=growing(500),
        runtime=growing(5),
    params:
        row=lambda wc: json.dumps(
            {
                k: getattr(BY_ID[wc.subject], k) or "n/a"
                for k in ("group", "pathology", "split", "role", "patient")
            }
        ),
        settings=json.dumps(
            {k: SCORE_CONFIG["score"][k] for k in ("lambda", "head")} | {"calibrated": POOL_SETTINGS}
        ),
        left_out="" if CALIBRATED_ELSEWHERE else f"--left-out {ROOT}/score/left_out.npz",
        healthy_slices=f"--healthy-slices {shlex.quote(HEALTHY_SLICES)}" if HEALTHY_SLICES else "",
        code=code("normct.score.combine"),
    shell:
        "python -m normct.score.combine {input.raw:q} {input.quality:q} {input.calibration:q} --row {params.row:q}"
        " --pooled {input.pooled:q} {params.left_out} {params.healthy_slices} --settings {params.settings:q}"
        " --table {output.table:q} --volumes {output.volumes:q} > {log:q} 2>&1"


rule score_export:
    """The long table of usable slices, and one of volumes, of the validation and test scans (all new scans)."""
    input:
        tables=of_each(f"{ROOT}/score/subjects/{{subject}}.parquet", EXPORTED),
        volumes=of_each(f"{ROOT}/score/subjects/{{subject}}.json", EXPORTED),
    output:
        slices=f"{ROOT}/score/slices.csv.gz",
        volumes=f"{ROOT}/score/volumes.csv",
    log:
        f"{ROOT}/logs/score/export.log",
    threads: 1
    resources:
        mem_mb=growing(600),
        runtime=growing(60),
    params:
        folder=f"{ROOT}/score/subjects",
        subjects=listed(EXPORTED),
        code=code("normct.score.export"),
    shell:
        "python -m normct.score.export {params.folder:q} --subjects {params.subjects}"
        " --slices {output.slices:q} --volumes {output.volumes:q} > {log:q} 2>&1"
