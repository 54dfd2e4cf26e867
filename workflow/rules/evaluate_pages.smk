"""evaluate: figures, and the report of tables and figures."""

import json

EVALUATE_FIGURES = [
    "figure_4_1_cohort",
    "figure_6_1_roc",
    "figure_6_2_pr",
    "figure_6_3_samples",
    "figure_6_4_samples",
    "figure_a_1_losses",
    "figure_a_2_validation",
]
EVALUATE_PLOTS = [
    "figure_position",
    "figure_froc",
    "figure_forest",
    "figure_lambda",
    "figure_calibration",
    "figure_risk_coverage",
]
# networks of the tables, and stage 1 where one of them starts from it
EVALUATED_NETWORKS = sorted(
    {(method, seed) for method, seed, _ in NETWORKS}
    | {(STAGE1, seed) for method, seed, _ in NETWORKS if METHODS[method].pretrained}
)


def evaluate_figures(names: list[str]) -> list:
    """Return figures as outputs: PNG, which Snakemake's own report shows, and SVG."""
    png, svg = ([f"{ROOT}/evaluate/{name}.{kind}" for name in names] for kind in ("png", "svg"))
    return [report(png, caption="../report/figures.rst", category="Figures"), svg]


rule evaluate_figures:
    """The thesis's figures 4.1, 6.1 to 6.4 and A.1, and the validation loss alone."""
    input:
        **EVALUATE_SCORES,
        **evaluate_maps(MARKED),
        calibration=CALIBRATION,
        histories=[f"{ROOT}/train/{method}/seed-{seed}/history.csv" for method, seed in EVALUATED_NETWORKS],
        tables=expand(f"{ROOT}/evaluate/{{table}}.csv", table=["detection_summary", "cohort"]),
    output:
        *evaluate_figures(EVALUATE_FIGURES),
    log:
        f"{ROOT}/logs/evaluate/figures.log",
    group:
        "evaluate"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(30),
    params:
        collected=COLLECTED,
        preprocess=f"{ROOT}/preprocess",
        maps=f"{ROOT}/score/maps",
        z_maps=f"{ROOT}/score/calibrated",
        train=f"{ROOT}/train",
        networks=" ".join(f"{method}/seed-{seed}" for method, seed in EVALUATED_NETWORKS),
        settings=json.dumps({k: config["evaluate"][k] for k in ("slices", "bootstrap", "seed")}),
        out=f"{ROOT}/evaluate",
        code=code("normct.evaluate.figures"),
    shell:
        "python -m normct.evaluate.figures --collected {params.collected:q} --preprocess {params.preprocess:q}"
        " --maps {params.maps:q} --z-maps {params.z_maps:q} --calibration {input.calibration:q}"
        " --train {params.train:q} --networks {params.networks}"
        " --tables {params.out:q} --settings {params.settings:q} --out {params.out:q} > {log:q} 2>&1"


rule evaluate_plots:
    """Position, FROC, lambda, calibration, risk and coverage, and the forest plot by pathology."""
    input:
        **EVALUATE_SCORES,
        calibration=CALIBRATION,
        tables=expand(
            f"{ROOT}/evaluate/{{table}}.csv",
            table=[
                *("detection_summary", "pathology", "lambda"),
                *(FROC_TABLES + STRATA_TABLES + CONFOUND_TABLES + RISK_TABLES),
            ],
        ),
    output:
        *evaluate_figures(EVALUATE_PLOTS),
    log:
        f"{ROOT}/logs/evaluate/plots.log",
    group:
        "evaluate"
    threads: 1
    resources:
        mem_mb=growing(1500),
        runtime=growing(30),
    params:
        collected=COLLECTED,
        settings=json.dumps({"specificities": config["evaluate"]["specificities"]}),
        out=f"{ROOT}/evaluate",
        code=code("normct.evaluate.plots"),
    shell:
        "python -m normct.evaluate.plots --collected {params.collected:q} --calibration {input.calibration:q}"
        " --tables {params.out:q} --settings {params.settings:q} --out {params.out:q} > {log:q} 2>&1"


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
    group:
        "evaluate"
    threads: 1
    resources:
        mem_mb=growing(500),
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
