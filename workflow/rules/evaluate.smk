"""evaluate: tables, curves, statistics and the report, of the test scans."""

import json

EVALUATED = [p.participant_id for p in PARTICIPANTS if p.role == "test"]
EVALUATE_TABLES = [
    "detection",
    "detection_summary",
    "detection_paired",
    "pathology",
    "operating_points",
    "cohort",
    "set_aside",
]
SEGMENTATION_TABLES = ["segmentation", "segmentation_summary", "segmentation_volumes"]
FROC_TABLES = ["froc", "froc_curve"]
STRATA_TABLES = ["strata", "subgroups"]
CONFOUND_TABLES = ["confound", "leaks"]
RISK_TABLES = ["risk_coverage", "risk_coverage_summary"]
COLLECTED = f"{ROOT}/evaluate/collected"
EVALUATE_SCORES = {name: f"{COLLECTED}/{name}.parquet" for name in ("scans", "slices", "volumes")}
# maps are read of marked lesions, and for false findings of healthy scans
MARKED = [s for s in EVALUATED if BY_ID[s].group == "abnormal" and BY_ID[s].lesion_mask]
HEALTHY_TEST = [s for s in EVALUATED if BY_ID[s].group == "healthy"]


def evaluate_maps(subjects: list[str]) -> dict[str, list[str]]:
    """Return the maps and slices of some scans, as inputs."""
    return {
        "maps": of_each(f"{ROOT}/score/maps/{{subject}}.npz", subjects),
        "z_maps": of_each(f"{ROOT}/score/calibrated/{{subject}}.npz", subjects),
        "stores": of_each(f"{ROOT}/preprocess/{{subject}}/slices.npz", subjects),
    }


def evaluate_tables(names: list[str]):
    """Return tables as outputs that Snakemake's own report shows."""
    paths = [f"{ROOT}/evaluate/{name}.csv" for name in names]
    return report(paths, caption="../report/tables.rst", category="Tables")


rule evaluate_scans:
    """Every verdict, read once for the rules below; no score, so that maps are not read again when scores change."""
    input:
        participants=f"{ROOT}/cohort/participants.tsv",
        quality=of_each(f"{ROOT}/preprocess/{{subject}}/quality.json", BY_ID),
        imports=of_each(f"{ROOT}/cohort/{{subject}}/import.json", BY_ID),
    output:
        EVALUATE_SCORES["scans"],
    log:
        f"{ROOT}/logs/evaluate/scans.log",
    group:
        "evaluate"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(60),
    params:
        preprocess=f"{ROOT}/preprocess",
        imports=f"{ROOT}/cohort",
        out=COLLECTED,
        code=code("normct.evaluate.scans"),
    shell:
        "python -m normct.evaluate.scans --participants {input.participants:q} --preprocess {params.preprocess:q}"
        " --imports {params.imports:q} --out {params.out:q} > {log:q} 2>&1"


rule evaluate_collect:
    """Every test scan's scores, read once for the rules below."""
    input:
        scans=EVALUATE_SCORES["scans"],
        scores=of_each(f"{ROOT}/score/subjects/{{subject}}.parquet", EVALUATED),
        volumes=of_each(f"{ROOT}/score/subjects/{{subject}}.json", EVALUATED),
    output:
        slices=EVALUATE_SCORES["slices"],
        volumes=EVALUATE_SCORES["volumes"],
    log:
        f"{ROOT}/logs/evaluate/collect.log",
    group:
        "evaluate"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(60),
    params:
        scores=f"{ROOT}/score/subjects",
        out=COLLECTED,
        code=code("normct.evaluate.collect"),
    shell:
        "python -m normct.evaluate.collect --scores {params.scores:q} --out {params.out:q} > {log:q} 2>&1"


rule evaluate_detection:
    """AUROC and AUPR by protocol and pathology, intervals over patients, paired differences, operating points."""
    input:
        **EVALUATE_SCORES,
        calibration=CALIBRATION,
    output:
        evaluate_tables(EVALUATE_TABLES),
    log:
        f"{ROOT}/logs/evaluate/detection.log",
    group:
        "evaluate"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(60),
    params:
        collected=COLLECTED,
        settings=json.dumps(config["evaluate"]),
        out=f"{ROOT}/evaluate",
        code=code("normct.evaluate.detection"),
    shell:
        "python -m normct.evaluate.detection --collected {params.collected:q} --calibration {input.calibration:q}"
        " --settings {params.settings:q} --out {params.out:q} > {log:q} 2>&1"


rule evaluate_segmentation:
    """Dice of the thresholded residual on the 1 mm grid, at the calibrated threshold and at the best possible one."""
    input:
        **evaluate_maps(MARKED),
        scans=EVALUATE_SCORES["scans"],
        calibration=VOXEL_THRESHOLDS,
    output:
        evaluate_tables(SEGMENTATION_TABLES),
    log:
        f"{ROOT}/logs/evaluate/segmentation.log",
    group:
        "evaluate"
    threads: 1  # small matrix products: more BLAS threads only spin
    resources:
        mem_mb=growing(1500),
        runtime=growing(120),
    params:
        collected=COLLECTED,
        preprocess=f"{ROOT}/preprocess",
        maps=f"{ROOT}/score/maps",
        z_maps=f"{ROOT}/score/calibrated",
        settings=json.dumps({k: config["evaluate"][k] for k in ("bootstrap", "seed")}),
        out=f"{ROOT}/evaluate",
        code=code("normct.evaluate.segmentation"),
    shell:
        "python -m normct.evaluate.segmentation --collected {params.collected:q}"
        " --preprocess {params.preprocess:q} --maps {params.maps:q} --z-maps {params.z_maps:q} --calibration {input.calibration:q}"
        " --settings {params.settings:q} --threads {threads} --out {params.out:q} > {log:q} 2>&1"


rule evaluate_froc:
    """Lesions found against false findings in healthy scans (FROC), of the residuals and of the z maps."""
    input:
        **evaluate_maps(MARKED + HEALTHY_TEST),
        scans=EVALUATE_SCORES["scans"],
        calibration=VOXEL_THRESHOLDS,
    output:
        evaluate_tables(FROC_TABLES),
    log:
        f"{ROOT}/logs/evaluate/froc.log",
    group:
        "evaluate"
    threads: 1
    resources:
        mem_mb=growing(1500),
        runtime=growing(120),
    params:
        collected=COLLECTED,
        preprocess=f"{ROOT}/preprocess",
        maps=f"{ROOT}/score/maps",
        z_maps=f"{ROOT}/score/calibrated",
        settings=json.dumps({k: config["evaluate"][k] for k in ("bootstrap", "seed")}),
        out=f"{ROOT}/evaluate",
        code=code("normct.evaluate.froc"),
    shell:
        "python -m normct.evaluate.froc --collected {params.collected:q} --preprocess {params.preprocess:q}"
        " --maps {params.maps:q} --z-maps {params.z_maps:q} --calibration {input.calibration:q}"
        " --settings {params.settings:q} --threads {threads} --out {params.out:q} > {log:q} 2>&1"


rule evaluate_strata:
    """Detection by lesion volume, third of the brain and subtype; by scanner, slice thickness and age."""
    input:
        **EVALUATE_SCORES,
        calibration=CALIBRATION,
    output:
        evaluate_tables(STRATA_TABLES),
    log:
        f"{ROOT}/logs/evaluate/strata.log",
    group:
        "evaluate"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(60),
    params:
        collected=COLLECTED,
        settings=json.dumps(config["evaluate"]),
        out=f"{ROOT}/evaluate",
        code=code("normct.evaluate.strata"),
    shell:
        "python -m normct.evaluate.strata --collected {params.collected:q} --calibration {input.calibration:q}"
        " --settings {params.settings:q} --out {params.out:q} > {log:q} 2>&1"


rule evaluate_confound:
    """Whether scores follow slice position, brain area, scanner or slice thickness; whether patients or files leak."""
    input:
        **EVALUATE_SCORES,
        calibration=CALIBRATION,
    output:
        evaluate_tables(CONFOUND_TABLES),
    log:
        f"{ROOT}/logs/evaluate/confound.log",
    group:
        "evaluate"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(60),
    params:
        collected=COLLECTED,
        settings=json.dumps({k: config["evaluate"][k] for k in ("bootstrap", "seed")}),
        out=f"{ROOT}/evaluate",
        code=code("normct.evaluate.confound"),
    shell:
        "python -m normct.evaluate.confound --collected {params.collected:q} --calibration {input.calibration:q}"
        " --settings {params.settings:q} --out {params.out:q} > {log:q} 2>&1"


rule evaluate_ablation:
    """The thesis's combined score over lambda, from the stored parts."""
    input:
        **EVALUATE_SCORES,
    output:
        evaluate_tables(["lambda"]),
    log:
        f"{ROOT}/logs/evaluate/ablation.log",
    group:
        "evaluate"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(60),
    params:
        collected=COLLECTED,
        settings=json.dumps({k: config["evaluate"][k] for k in ("slices", "bootstrap", "seed")}),
        out=f"{ROOT}/evaluate",
        code=code("normct.evaluate.ablation"),
    shell:
        "python -m normct.evaluate.ablation --collected {params.collected:q} --settings {params.settings:q}"
        " --out {params.out:q} > {log:q} 2>&1"


rule evaluate_uncertainty:
    """Error rate as the scans that the networks disagree on are left out (risk and coverage)."""
    input:
        scans=EVALUATE_SCORES["scans"],
        volumes=EVALUATE_SCORES["volumes"],
        calibration=CALIBRATION,
    output:
        evaluate_tables(RISK_TABLES),
    log:
        f"{ROOT}/logs/evaluate/uncertainty.log",
    group:
        "evaluate"
    threads: 1
    resources:
        mem_mb=growing(1000),
        runtime=growing(30),
    params:
        collected=COLLECTED,
        settings=json.dumps({k: config["evaluate"][k] for k in ("bootstrap", "seed", "specificities")}),
        out=f"{ROOT}/evaluate",
        code=code("normct.evaluate.uncertainty"),
    shell:
        "python -m normct.evaluate.uncertainty --collected {params.collected:q} --calibration {input.calibration:q}"
        " --settings {params.settings:q} --out {params.out:q} > {log:q} 2>&1"
