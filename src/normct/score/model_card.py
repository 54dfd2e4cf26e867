"""The model card of a bundle: what it was trained on, what it is for, what it reached, and what it cannot see.

Generated, never edited: results are read from the evaluation's tables where there are any
(:mod:`normct.score.card_tables`), and the blind spots that a cohort shows are sentences computed from them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from normct.common.cautions import EXPOSED
from normct.common.registry import METHODS, label
from normct.score.card_blind_spots import blind_spots
from normct.score.card_results import results
from normct.score.card_tables import shown

BLIND = (
    "A score that is not high does not exclude disease: small, skull-base, subarachnoid and thin subdural findings "
    "are easily missed.",
    "What lies outside the brain mask is not looked at: skull, scalp, orbits, sinuses, neck.",
    "Children, contrast-enhanced scans, and scans after surgery were not provided for.",
)
CENTRED = (
    "A change of the whole brain's density (diffuse oedema, hypoxia, anaemia) is taken for the scan's own normal: its "
    "median is subtracted."
)
"""Where ``score.calibrated.centre`` is on."""
_MEMBERS = {"statistical_atlas": "the statistical atlas", "networks": "all networks (their mean)"}


def _span(values: list[float] | None, unit: str) -> str:
    return "not known" if not values else f"{values[0]:.3g} to {values[1]:.3g} {unit}".strip()


def _scoring(score: dict[str, Any], methods: list[str]) -> str:
    """Say what the scores are made of; the head's settings only where a network has one."""
    members = [_MEMBERS.get(name) or label(name) for name in score["fusion"]]
    text = f"The fused score is that of the mean of the maps of {' and '.join(members)}."
    if any(METHODS[m].head for m in methods):
        head = score["head"]
        text += (
            f" Thesis scoring: λ = {score['lambda']}, transforms: {score['transforms']}, head: {head['combine']} of its "
            f"three probabilities, {head['anomaly']}."
        )
    return text


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
    score, n = config["score"], calibration["n_healthy"]
    blind = [*BLIND, *([CENTRED] if score["calibrated"]["centre"] else [])]
    warning, engine = calibration["warning"], config["preprocess"]["skullstrip"]["engine"]
    found = shown(evaluation, training["methods"])
    if found:
        reached, spots = results(found, training["synthetic"]), blind_spots(found)
    else:
        reached = ["Not evaluated: there was no labelled abnormal test scan when this was made."]
        spots = ["Unknown for this model: it was not tested on any pathology."]
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
        f"{_scoring(score, training['methods'])} Skull stripping: {engine}.",
        "",
        "## Training data",
        f"Trained on {data}. No network learnt from an abnormal scan and no threshold was set on one; how the "
        "calibrated score's settings were chosen is said under Limits.",
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
        *(f"- {spot}" for spot in [*spots, *blind]),
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
