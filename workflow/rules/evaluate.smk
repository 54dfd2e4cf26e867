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
EVALUATE_FIGURES = [
    "figure_4_1_cohort",
    "figure_6_1_roc",
    "figure_6_2_pr",
    "figure_6_3_samples",
    "figure_6_4_samples",
    "figure_a_1_losses",
]
EVALUATE_PLOTS = ["figure_position", "figure_froc", "figure_forest", "figure_lambda", "figure_risk_coverage"]
# networks of the tables, and stage 1 where one of them starts from it
EVALUATED_NETWORKS = sorted(
    {(method, seed) for method, seed, _ in NETWORKS}
    | {(STAGE1, seed) for method, seed, _ in NETWORKS if METHODS[method].pretrained}
)
EVALUATE_COHORT = {
    "participants": f"{ROOT}/cohort/participants.tsv",
    "quality": expand(f"{ROOT}/preprocess/{{subject}}/quality.json", subject=list(BY_ID)),
}
EVALUATE_SCORES = {
    "scores": expand(f"{ROOT}/score/subjects/{{subject}}.parquet", subject=EVALUATED),
    "volumes": expand(f"{ROOT}/score/subjects/{{subject}}.json", subject=EVALUATED),
}
EVALUATE_MAPS = {
    "maps": expand(f"{ROOT}/score/maps/{{subject}}.npz", subject=EVALUATED),
    "slices": expand(f"{ROOT}/preprocess/{{subject}}/slices.npz", subject=EVALUATED),
}


rule evaluate_detection:
    """AUROC and AUPR by protocol and pathology, intervals over patients, paired differences, operating points."""
    input:
        **EVALUATE_COHORT,
        **EVALUATE_SCORES,
        calibration=CALIBRATION,
    output:
        report(
            expand(f"{ROOT}/evaluate/{{table}}.csv", table=EVALUATE_TABLES),
            caption="../report/tables.rst",
            category="Tables",
        ),
    log:
        f"{ROOT}/logs/evaluate/detection.log",
    threads: 1
    resources:
        mem_mb=lambda wc, attempt: 2000 * attempt,
        runtime=growing(60),
    params:
        preprocess=f"{ROOT}/preprocess",
        scores=f"{ROOT}/score/subjects",
        settings=json.dumps(config["evaluate"]),
        out=f"{ROOT}/evaluate",
        code=code("normct.evaluate.detection"),
    shell:
        "python -m normct.evaluate.detection --participants {input.participants:q} --preprocess {params.preprocess:q}"
        " --scores {params.scores:q} --calibration {input.calibration:q} --settings {params.settings:q}"
        " --out {params.out:q} > {log:q} 2>&1"


rule evaluate_segmentation:
    """Dice of the thresholded residual on the 1 mm grid, at the calibrated threshold and at the best possible one."""
    input:
        **EVALUATE_COHORT,
        **EVALUATE_MAPS,
        z_maps=expand(f"{ROOT}/score/calibrated/{{subject}}.npz", subject=EVALUATED),
        calibration=CALIBRATION,
    output:
        report(
            expand(f"{ROOT}/evaluate/{{table}}.csv", table=SEGMENTATION_TABLES),
            caption="../report/tables.rst",
            category="Tables",
        ),
    log:
        f"{ROOT}/logs/evaluate/segmentation.log",
    threads: 1  # small matrix products: more BLAS threads only spin
    resources:
        mem_mb=lambda wc, attempt: 1500 * attempt,
        runtime=growing(120),
    params:
        preprocess=f"{ROOT}/preprocess",
        maps=f"{ROOT}/score/maps",
        z_maps=f"{ROOT}/score/calibrated",
        out=f"{ROOT}/evaluate",
        code=code("normct.evaluate.segmentation"),
    shell:
        "python -m normct.evaluate.segmentation --participants {input.participants:q}"
        " --preprocess {params.preprocess:q} --maps {params.maps:q} --z-maps {params.z_maps:q} --calibration {input.calibration:q}"
        " --threads {threads} --out {params.out:q} > {log:q} 2>&1"


rule evaluate_froc:
    """Lesions found against false findings in healthy scans (FROC), of the residuals and of the z maps."""
    input:
        **EVALUATE_COHORT,
        **EVALUATE_MAPS,
        z_maps=expand(f"{ROOT}/score/calibrated/{{subject}}.npz", subject=EVALUATED),
        calibration=CALIBRATION,
    output:
        report(
            expand(f"{ROOT}/evaluate/{{table}}.csv", table=FROC_TABLES),
            caption="../report/tables.rst",
            category="Tables",
        ),
    log:
        f"{ROOT}/logs/evaluate/froc.log",
    threads: 1
    resources:
        mem_mb=lambda wc, attempt: 1500 * attempt,
        runtime=growing(120),
    params:
        preprocess=f"{ROOT}/preprocess",
        maps=f"{ROOT}/score/maps",
        z_maps=f"{ROOT}/score/calibrated",
        settings=json.dumps({k: config["evaluate"][k] for k in ("bootstrap", "seed")}),
        out=f"{ROOT}/evaluate",
        code=code("normct.evaluate.froc"),
    shell:
        "python -m normct.evaluate.froc --participants {input.participants:q} --preprocess {params.preprocess:q}"
        " --maps {params.maps:q} --z-maps {params.z_maps:q} --calibration {input.calibration:q}"
        " --settings {params.settings:q} --threads {threads} --out {params.out:q} > {log:q} 2>&1"


rule evaluate_strata:
    """Detection by lesion volume, third of the brain and subtype; by scanner, slice thickness and age."""
    input:
        **EVALUATE_COHORT,
        **EVALUATE_SCORES,
        calibration=CALIBRATION,
    output:
        report(
            expand(f"{ROOT}/evaluate/{{table}}.csv", table=STRATA_TABLES),
            caption="../report/tables.rst",
            category="Tables",
        ),
    log:
        f"{ROOT}/logs/evaluate/strata.log",
    threads: 1
    resources:
        mem_mb=lambda wc, attempt: 2000 * attempt,
        runtime=growing(60),
    params:
        preprocess=f"{ROOT}/preprocess",
        scores=f"{ROOT}/score/subjects",
        settings=json.dumps(config["evaluate"]),
        out=f"{ROOT}/evaluate",
        code=code("normct.evaluate.strata"),
    shell:
        "python -m normct.evaluate.strata --participants {input.participants:q} --preprocess {params.preprocess:q}"
        " --scores {params.scores:q} --calibration {input.calibration:q} --settings {params.settings:q}"
        " --out {params.out:q} > {log:q} 2>&1"


rule evaluate_figures:
    """The thesis's figures 4.1, 6.1 to 6.4 and A.1."""
    input:
        **EVALUATE_COHORT,
        **EVALUATE_SCORES,
        **EVALUATE_MAPS,
        z_maps=expand(f"{ROOT}/score/calibrated/{{subject}}.npz", subject=EVALUATED),
        calibration=CALIBRATION,
        index=expand(f"{ROOT}/preprocess/{{subject}}/slices.tsv", subject=EVALUATED),
        histories=[f"{ROOT}/train/{method}/seed-{seed}/history.csv" for method, seed in EVALUATED_NETWORKS],
        tables=expand(f"{ROOT}/evaluate/{{table}}.csv", table=["detection_summary", "cohort"]),
    output:
        report(
            expand(f"{ROOT}/evaluate/{{figure}}.png", figure=EVALUATE_FIGURES),
            caption="../report/figures.rst",
            category="Figures",
        ),
        expand(f"{ROOT}/evaluate/{{figure}}.svg", figure=EVALUATE_FIGURES),
    log:
        f"{ROOT}/logs/evaluate/figures.log",
    threads: 1
    resources:
        mem_mb=lambda wc, attempt: 2000 * attempt,
        runtime=growing(30),
    params:
        preprocess=f"{ROOT}/preprocess",
        scores=f"{ROOT}/score/subjects",
        maps=f"{ROOT}/score/maps",
        z_maps=f"{ROOT}/score/calibrated",
        train=f"{ROOT}/train",
        networks=" ".join(f"{method}/seed-{seed}" for method, seed in EVALUATED_NETWORKS),
        slices=config["evaluate"]["slices"],
        out=f"{ROOT}/evaluate",
        code=code("normct.evaluate.figures"),
    shell:
        "python -m normct.evaluate.figures --participants {input.participants:q} --preprocess {params.preprocess:q}"
        " --scores {params.scores:q} --maps {params.maps:q} --z-maps {params.z_maps:q} --calibration {input.calibration:q}"
        " --train {params.train:q} --networks {params.networks}"
        " --tables {params.out:q} --slices {params.slices} --out {params.out:q} > {log:q} 2>&1"


rule evaluate_confound:
    """Whether scores follow slice position, brain area, scanner or slice thickness; whether patients or files leak."""
    input:
        **EVALUATE_COHORT,
        **EVALUATE_SCORES,
        imports=expand(f"{ROOT}/cohort/{{subject}}/import.json", subject=list(BY_ID)),
    output:
        report(
            expand(f"{ROOT}/evaluate/{{table}}.csv", table=CONFOUND_TABLES),
            caption="../report/tables.rst",
            category="Tables",
        ),
    log:
        f"{ROOT}/logs/evaluate/confound.log",
    threads: 1
    resources:
        mem_mb=lambda wc, attempt: 2000 * attempt,
        runtime=growing(60),
    params:
        cohort=f"{ROOT}/cohort",
        preprocess=f"{ROOT}/preprocess",
        scores=f"{ROOT}/score/subjects",
        settings=json.dumps({k: config["evaluate"][k] for k in ("bootstrap", "seed")}),
        out=f"{ROOT}/evaluate",
        code=code("normct.evaluate.confound"),
    shell:
        "python -m normct.evaluate.confound --participants {input.participants:q} --cohort {params.cohort:q}"
        " --preprocess {params.preprocess:q} --scores {params.scores:q} --settings {params.settings:q}"
        " --out {params.out:q} > {log:q} 2>&1"


rule evaluate_ablation:
    """The thesis's combined score over lambda, from the stored parts."""
    input:
        **EVALUATE_COHORT,
        **EVALUATE_SCORES,
    output:
        report(f"{ROOT}/evaluate/lambda.csv", caption="../report/tables.rst", category="Tables"),
    log:
        f"{ROOT}/logs/evaluate/ablation.log",
    threads: 1
    resources:
        mem_mb=lambda wc, attempt: 2000 * attempt,
        runtime=growing(60),
    params:
        preprocess=f"{ROOT}/preprocess",
        scores=f"{ROOT}/score/subjects",
        settings=json.dumps({k: config["evaluate"][k] for k in ("slices", "bootstrap", "seed")}),
        out=f"{ROOT}/evaluate",
        code=code("normct.evaluate.ablation"),
    shell:
        "python -m normct.evaluate.ablation --participants {input.participants:q} --preprocess {params.preprocess:q}"
        " --scores {params.scores:q} --settings {params.settings:q} --out {params.out:q} > {log:q} 2>&1"


rule evaluate_uncertainty:
    """Error rate as the scans that the networks disagree on are left out (risk and coverage)."""
    input:
        **EVALUATE_COHORT,
        volumes=EVALUATE_SCORES["volumes"],
        calibration=CALIBRATION,
    output:
        report(
            expand(f"{ROOT}/evaluate/{{table}}.csv", table=RISK_TABLES),
            caption="../report/tables.rst",
            category="Tables",
        ),
    log:
        f"{ROOT}/logs/evaluate/uncertainty.log",
    threads: 1
    resources:
        mem_mb=lambda wc, attempt: 1000 * attempt,
        runtime=growing(30),
    params:
        preprocess=f"{ROOT}/preprocess",
        scores=f"{ROOT}/score/subjects",
        settings=json.dumps({k: config["evaluate"][k] for k in ("bootstrap", "seed", "specificities")}),
        out=f"{ROOT}/evaluate",
        code=code("normct.evaluate.uncertainty"),
    shell:
        "python -m normct.evaluate.uncertainty --participants {input.participants:q} --preprocess {params.preprocess:q}"
        " --scores {params.scores:q} --calibration {input.calibration:q} --settings {params.settings:q}"
        " --out {params.out:q} > {log:q} 2>&1"


rule evaluate_plots:
    """Position, FROC, lambda, risk and coverage, and the forest plot by pathology."""
    input:
        **EVALUATE_COHORT,
        scores=EVALUATE_SCORES["scores"],
        tables=expand(
            f"{ROOT}/evaluate/{{table}}.csv",
            table=["pathology", *FROC_TABLES, *STRATA_TABLES, *CONFOUND_TABLES, *RISK_TABLES, "lambda"],
        ),
    output:
        report(
            expand(f"{ROOT}/evaluate/{{figure}}.png", figure=EVALUATE_PLOTS),
            caption="../report/figures.rst",
            category="Figures",
        ),
        expand(f"{ROOT}/evaluate/{{figure}}.svg", figure=EVALUATE_PLOTS),
    log:
        f"{ROOT}/logs/evaluate/plots.log",
    threads: 1
    resources:
        mem_mb=lambda wc, attempt: 1500 * attempt,
        runtime=growing(30),
    params:
        preprocess=f"{ROOT}/preprocess",
        scores=f"{ROOT}/score/subjects",
        out=f"{ROOT}/evaluate",
        code=code("normct.evaluate.plots"),
    shell:
        "python -m normct.evaluate.plots --participants {input.participants:q} --preprocess {params.preprocess:q}"
        " --scores {params.scores:q} --tables {params.out:q} --out {params.out:q} > {log:q} 2>&1"


rule evaluate_report:
    """One self-contained page, and the same as Markdown: what the numbers say, tables, figures, methods text."""
    input:
        tables=expand(
            f"{ROOT}/evaluate/{{table}}.csv",
            table=[
                *(EVALUATE_TABLES + SEGMENTATION_TABLES + FROC_TABLES + STRATA_TABLES),
                *(CONFOUND_TABLES + RISK_TABLES),
                "lambda",
            ],
        ),
        png=expand(f"{ROOT}/evaluate/{{figure}}.png", figure=EVALUATE_FIGURES + EVALUATE_PLOTS),
        svg=expand(f"{ROOT}/evaluate/{{figure}}.svg", figure=EVALUATE_FIGURES + EVALUATE_PLOTS),
    output:
        html=report(f"{ROOT}/evaluate/report.html", caption="../report/report.rst", category="Report"),
        summary=f"{ROOT}/evaluate/summary.md",
    log:
        f"{ROOT}/logs/evaluate/report.log",
    threads: 1
    resources:
        mem_mb=lambda wc, attempt: 500 * attempt,
        runtime=growing(10),
    params:
        tables=f"{ROOT}/evaluate",
        settings=json.dumps(
            {
                "title": TITLE,
                "synthetic": SYNTHETIC,
                **{name: config[name] for name in ("preprocess", "train", "score", "evaluate")},
            }
        ),
        code=code("normct.evaluate.report"),
    shell:
        "python -m normct.evaluate.report --tables {params.tables:q} --settings {params.settings:q}"
        " --html {output.html:q} --summary {output.summary:q} > {log:q} 2>&1"
