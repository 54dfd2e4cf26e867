"""Figures 4.1 (cohort), 6.1 (ROC) and 6.2 (precision-recall)."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from normct.common.registry import FUSED, METHODS, PROTOCOLS, TRIVIAL, label
from normct.evaluate import protocols as pr
from normct.evaluate.bands import GRID, Band, band, banded, on_grid
from normct.evaluate.data import Scores, ordered_pathologies
from normct.evaluate.metrics import Counts
from normct.evaluate.sentences import CALIBRATED, PLAIN, main_rows
from normct.evaluate.style import line

TITLES = {
    "slice_healthy": "Slices, against healthy scans",
    "slice": "Slices, against all others",
    "clinical": "Clinical, slice-wise",
    "volume": "Whole scans",
}
_ROLE_COLOURS = {"train": "#0072B2", "stop": "#56B4E9", "calibrate": "#009E73", "test": "#E69F00"}
_ROLE_NAMES = {
    "train": "training",
    "stop": "validation: early stopping",
    "calibrate": "validation: calibration",
    "test": "test",
}
KINDS = {"plain scores": PLAIN, "calibrated scores": CALIBRATED}
"""Columns of the figures, each with one line a method: a plain score beside a calibrated one would credit the networks
with what calibration gives."""


def cohort_figure(counts: pd.DataFrame) -> Figure:
    """Draw figure 4.1: scans of each group, stacked by what they are used for.

    Parameters
    ----------
    counts : DataFrame
        The table ``cohort.csv``.
    """
    names = ["healthy", *ordered_pathologies(counts.loc[counts["group"] == "abnormal", "pathology"])]
    keys = np.where(counts["group"] == "healthy", "healthy", counts["pathology"])
    figure, axes = plt.subplots(figsize=(7, 0.38 * len(names) + 1.3), layout="constrained")
    left = np.zeros(len(names))
    for role, colour in _ROLE_COLOURS.items():
        part = counts[counts["role"] == role].groupby(keys[counts["role"] == role])["scans"].sum()
        width = np.array([part.get(name, 0) for name in names])
        if width.any():
            axes.barh(range(len(names)), width, left=left, color=colour, label=_ROLE_NAMES[role], height=0.65)
            left += width
    for row, total in enumerate(left):
        axes.text(total, row, f" {int(total)}", va="center")
    axes.set_yticks(range(len(names)), ["Healthy", *(label(name) for name in names[1:])])
    axes.invert_yaxis()
    axes.set_xlabel("Scans")
    axes.grid(axis="y", visible=False)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(loc="lower right")
    return figure


def _roc(values: NDArray[np.float64], positive: NDArray[np.bool_]) -> tuple[NDArray, NDArray]:
    from sklearn.metrics import roc_curve

    false, true, _ = roc_curve(positive, values, drop_intermediate=True)
    return false, true


def _pr(values: NDArray[np.float64], positive: NDArray[np.bool_]) -> tuple[NDArray, NDArray]:
    from sklearn.metrics import precision_recall_curve

    precision, recall, _ = precision_recall_curve(positive, values, drop_intermediate=True)
    return recall[::-1], precision[::-1]


def _draw(
    axes: plt.Axes,
    kind: str,
    curves: list[tuple[NDArray, NDArray]],
    over: Band | None,
    method: str,
    text: str,
    rival: bool,
) -> None:
    """One curve, of several seeds the mean at each abscissa, and its band over patients."""
    look = line(method)
    if rival and method in TRIVIAL:
        look |= {"linewidth": 2.0, "zorder": 3.5}  # the atlas is the rival there, not a thin line behind
    if len(curves) == 1:
        steps = "default" if kind == "roc" else "steps-pre"
        axes.plot(*curves[0], label=text, drawstyle=steps, **look)
    else:
        axes.plot(GRID, np.mean([on_grid(kind, x, y) for x, y in curves], axis=0), label=text, **look)
    if over:
        axes.fill_between(GRID, *over, color=look["color"], alpha=0.16, linewidth=0)


def detection_figure(
    kind: str, slices: Scores, volumes: Scores, summary: pd.DataFrame, strata: pr.Strata, counts: Counts
) -> Figure:
    """Draw figure 6.1 (``kind="roc"``) or 6.2 (``kind="pr"``): a row a protocol, plain scores left, calibrated right.

    Parameters
    ----------
    kind : {"roc", "pr"}
    slices, volumes : Scores
    summary : DataFrame
        ``detection_summary.csv``: figures of the legend.
    strata : Strata
        Patients of the test scans.
    counts : ndarray
        Their draws, for the bands.
    """
    rows = len(PROTOCOLS)
    figure, grid = plt.subplots(rows, len(KINDS), figsize=(13, 4.3 * rows), layout="constrained")
    for row, protocol in zip(grid, PROTOCOLS, strict=True):
        for axes, words in zip(row, KINDS, strict=True):
            scores = volumes if protocol == "volume" else slices
            _panel(axes, kind, protocol, words, scores, summary, strata, counts)
    return figure


def _say(axes: plt.Axes, reason: str) -> None:
    text = "Not computed:\n" + reason.replace("; ", "\n")
    axes.text(0.5, 0.5, text, ha="center", va="center", wrap=True)
    axes.grid(visible=False)


def _panel(
    axes: plt.Axes,
    kind: str,
    protocol: str,
    words: str,
    scores: Scores,
    summary: pd.DataFrame,
    strata: pr.Strata,
    counts: Counts,
) -> None:
    classes = pr.classes(scores.units, protocol) if len(scores.units) else np.zeros(0, np.int8)
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.02), aspect="equal", title=f"{TITLES[protocol]}: {words}")
    axes.set_xlabel("False-positive rate" if kind == "roc" else "Recall")
    axes.set_ylabel("True-positive rate" if kind == "roc" else "Precision")
    n_pos, n_neg = int((classes == pr.POSITIVE).sum()), int((classes == pr.NEGATIVE).sum())
    reason = pr.one_class_reason(protocol, n_pos, n_neg)
    if reason:
        _say(axes, reason)
        return
    metric = "auroc" if kind == "roc" else "aupr"
    means = main_rows(summary, protocol, KINDS[words])
    value = dict(zip(means["method"], means[f"{metric}_mean"], strict=True))
    patient = strata.code(scores.units)
    allowed = pr.judge_intervals(strata, patient[classes == pr.POSITIVE]).allowed
    wide = banded(means, f"{metric}_mean") if allowed else []
    places: dict[str, list[int]] = {}
    for index, (method, score, seed) in enumerate(scores.columns):
        if score in KINDS[words] and seed != "all":
            places.setdefault(method, []).append(index)
    if not places:
        _say(axes, f"no {words}")
        return
    for method in [m for m in [*METHODS, FUSED, *TRIVIAL] if m in places]:
        curves, seeds = [], []
        for values in map(scores.values, places[method]):
            keep = (classes != pr.LEFT_OUT) & ~np.isnan(values)
            positive = classes[keep] == pr.POSITIVE
            if positive.any() and not positive.all():
                curves.append((_roc if kind == "roc" else _pr)(values[keep], positive))
                seeds.append(values)
        if curves:
            over = band(kind, seeds, classes, patient, counts) if method in wide else None
            text = f"{label(method)} {value.get(method, float('nan')):.3f}"
            _draw(axes, kind, curves, over, method, text, rival=words != "plain scores")
    chance = n_pos / (n_pos + n_neg)
    line_x, line_y = ([0, 1], [0, 1]) if kind == "roc" else ([0, 1], [chance, chance])
    text = "chance 0.500" if kind == "roc" else f"chance = prevalence {chance:.3f}"
    axes.plot(line_x, line_y, color="#000000", linewidth=0.8, zorder=2.5, label=text)
    # beside the curves: inside, no corner is free in every cohort
    axes.legend(
        loc="center left",
        bbox_to_anchor=(1.01, 0.5),
        title="AUROC" if kind == "roc" else "AUPR",
        fontsize=8,
        title_fontsize=8,
        alignment="left",
    )
