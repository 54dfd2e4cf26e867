"""The model card of a bundle: what it was trained on, what it is for, what it reached, and what it cannot see.

Generated, never edited: results are read from the evaluation's tables where there are any, and the blind spots
that a cohort shows are sentences computed from them.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from normct.common.cautions import EXPOSED, RANKING
from normct.common.registry import FUSED, METHODS, PATHOLOGIES, label

WEAK = 0.7
"""Slice AUROC under which a pathology is called a blind spot (0.5 is chance)."""
FEW_PATIENTS = 10
BLIND = (
    "A score that is not high does not exclude disease: small, skull-base, subarachnoid and thin subdural findings "
    "are easily missed.",
    "What lies outside the brain mask is not looked at: skull, scalp, orbits, sinuses, neck.",
    "A change of the whole brain's density (diffuse oedema, hypoxia, anaemia) is taken for the scan's own normal where "
    "`score.calibrated.centre` is on.",
    "Children, contrast-enhanced scans, and scans after surgery were not provided for.",
)


def _read(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle))


def _cell(row: dict[str, str]) -> str:
    """Return an AUROC with its interval, or the reason why there is none."""
    if not row.get("auroc_mean"):
        return row.get("note") or "not computed"
    text = f"{float(row['auroc_mean']):.2f}"
    if row.get("auroc_low") and row.get("auroc_high"):
        text += f" ({float(row['auroc_low']):.2f} to {float(row['auroc_high']):.2f})"
    return text


def _leading(rows: list[dict[str, str]], methods: list[str]) -> tuple[str, str] | None:
    """Return the method and score that the card shows: fused, else a network calibrated, else in thesis scoring."""
    wanted = [(FUSED, "fused"), *((m, "calibrated") for m in methods), *((m, "thesis") for m in methods)]
    found = {(row["method"], row["score"]) for row in rows}
    return next((key for key in wanted if key in found), None)


def results(
    evaluation: Path | None, methods: list[str], synthetic: bool = False
) -> tuple[list[str], list[str]]:
    """Return the card's results and the blind spots that they show, as lines of Markdown.

    Parameters
    ----------
    evaluation : Path or None
        Folder with ``pathology.csv`` and, where it was made, ``subgroups.csv``.
    methods : list of str
        Of the bundle.
    synthetic : bool
        Whether the scans were generated: each table then says that patients may rank otherwise.
    """
    rows = _read(evaluation / "pathology.csv") if evaluation else []
    rows = [row for row in rows if row.get("members") == "single"]
    shown = _leading(rows, methods)
    if shown is None:
        return ["Not evaluated: there was no labelled test scan with a lesion mask when this was made."], [
            "Unknown for this model: it was not tested on any pathology."
        ]
    name = f"{label(shown[0])}, score `{shown[1]}`"
    mine = [row for row in rows if (row["method"], row["score"]) == shown]
    warning = ["", f"**{RANKING}**"] if synthetic else []
    lines = [
        f"AUROC with its 95 % interval over patients, {name}; 0.5 is chance. By pathology: slices with the lesion "
        "against slices of healthy test scans.",
        *warning,
        "",
        "| pathology | patients | slice AUROC |",
        "|---|---|---|",
        *(f"| {label(row['pathology'])} | {row['n_patients']} | {_cell(row)} |" for row in mine),
    ]
    groups = [
        row
        for row in _read(evaluation / "subgroups.csv" if evaluation else Path())
        if (row["method"], row["score"]) == shown and row["protocol"] == "volume" and row["kind"] == "scanner"
    ]
    if groups:
        lines += [
            "",
            "Whole scans, by scanner:",
            *warning,
            "",
            "| scanner | abnormal patients | AUROC |",
            "|---|---|---|",
        ]
        # a bundle travels: a scanner's name may name a hospital
        lines += [
            f"| scanner {n} | {row['n_patients']} | {_cell(row)} |" for n, row in enumerate(groups, start=1)
        ]
    else:
        lines += ["", "By scanner: not known (the table of participants names none, or one only)."]
    spots = [
        f"{label(row['pathology'])}: slice AUROC {_cell(row)} with {name}."
        for row in mine
        if row.get("auroc_mean") and float(row["auroc_mean"]) < WEAK
    ]
    few = [label(row["pathology"]) for row in mine if int(float(row["n_patients"])) < FEW_PATIENTS]
    if few:
        spots.append(f"Tested on fewer than {FEW_PATIENTS} patients each: {', '.join(few)}.")
    untested = [label(p) for p in PATHOLOGIES if p not in {row["pathology"] for row in mine}]
    if untested:
        spots.append(f"Not tested at all: {', '.join(untested)}.")
    return lines, spots


def _span(values: list[float] | None, unit: str) -> str:
    return "not known" if not values else f"{values[0]:g} to {values[1]:g} {unit}".strip()


def _training_rows(training: dict[str, Any], calibration: dict[str, Any]) -> list[str]:
    about = training.get("trained_on") or {}
    scales, crossed = str(calibration["n_healthy"]), calibration.get("cross_fit")
    if crossed:
        scales += (
            f", of them {crossed['scans']} training scans, cross-fitted in {crossed['folds']} folds: each scored by "
            "networks that did not learn from its patient, and that are not in this bundle"
        )
    rows = [
        f"| training | {training['scans']} ({training['slices']} usable slices) |",
        f"| deciding when training stopped | {training['stop']} |",
        f"| setting scales, thresholds and percentiles | {scales} |",
    ]
    if about:
        rows += [
            f"| ages of the training scans | {_span(about.get('age'), 'years')} |",
            f"| their slice thickness | {_span(about.get('slice_thickness_mm'), 'mm')} |",
            f"| their noise | {_span(about.get('noise_hu'), 'HU')} |",
            f"| their scanners | {len(about.get('scanners') or []) or 'not known'} |",
        ]
    return rows


def model_card(
    name: str,
    config: dict[str, Any],
    training: dict[str, Any],
    calibration: dict[str, Any],
    evaluation: Path | None = None,
    parent: dict[str, str] | None = None,
) -> str:
    """Return the model card in Markdown.

    Parameters
    ----------
    name : str
        Of the bundle.
    config : dict
        Its frozen sections.
    training : dict
        ``methods, seeds, scans, slices, stop, synthetic`` and, where known, ``trained_on``: ranges of the
        training scans (:mod:`normct.score.trained_on`).
    calibration : dict
        ``calibration.json``.
    evaluation : Path, optional
        Folder of the evaluation's tables.
    parent : dict, optional
        ``name`` and ``checksum`` of the bundle that a recalibrated one comes from.
    """
    methods = [METHODS[m] for m in training["methods"]]
    seeds = ", ".join(map(str, training["seeds"]))
    data = "head CT of one cohort"
    if training["synthetic"]:
        data = "a **synthetic** cohort (generated phantoms, no patients)"
    score, head, n = config["score"], config["score"]["head"], calibration["n_healthy"]
    warning, engine = calibration["warning"], config["preprocess"]["skullstrip"]["engine"]
    reached, spots = results(evaluation, training["methods"], training["synthetic"])
    if parent:
        reached = [
            f"Not evaluated at this site. The networks are those of `{parent['name']}`; its card says what they "
            "reached with its own calibration.",
        ]
        spots = [f"Unknown at this site; see the card of `{parent['name']}`."]
    origin = []
    if parent:
        origin = [
            f"**Recalibrated** from `{parent['name']}` (SHA-256 of its `bundle.json` {parent['checksum'][:16]}...): same "
            f"networks, atlas and statistical atlas; scales, thresholds and percentiles from {n} healthy scans of "
            "another site. Nothing was trained.",
            "",
        ]
    lines = [
        f"# Model card: {name}",
        "",
        "**Research use only.** Not a medical device; not for diagnosis, triage or treatment.",
        "",
        *origin,
        "## What it is",
        "Networks that learnt healthy head CT and score what departs from it "
        "(Venkatakrishnan 2020, arXiv 2011.05428), with the atlas, scales and thresholds that go with them.",
        "",
        "| method | seeds | source |",
        "|---|---|---|",
        *(f"| {m.label} (`{m.name}`) | {seeds} | {m.citation} |" for m in methods),
        "",
        f"Score: λ = {score['lambda']}, transforms: {score['transforms']}, head: {head['combine']} of its "
        f"three probabilities, {head['anomaly']}. Skull stripping: {engine}.",
        "",
        "## Training data",
        f"Trained on {data}. No abnormal scan was used.",
        "",
        "| healthy scans | number |",
        "|---|---|",
        *_training_rows(training, calibration),
        "",
        "## Intended use",
        "Ranking unenhanced head CT of adults for research, where each result is looked at by a radiologist.",
        "",
        "## Results",
        *reached,
        "",
        "## Known blind spots",
        *(f"- {spot}" for spot in [*spots, *BLIND]),
        "",
        "## Limits",
        *(["- The networks have seen no patient: figures show working machinery, nothing of disease."]
          if training["synthetic"] else []),
        f"- {EXPOSED}",
        *([f"- {warning[0].upper()}{warning[1:]}."] if warning else []),
        f"- A percentile is a rank among {n} healthy scans and no finer than that.",
        "- A scanner, slice thickness, reconstruction kernel or age group that training lacked can look "
        "abnormal; compare with the `acquisition` baseline and the drift page before believing a difference.",
        "",
    ]  # fmt: skip
    return "\n".join(lines)
