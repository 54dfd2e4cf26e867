"""95 % bands over patients for ROC and precision-recall curves."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from normct.common.registry import FUSED, METHODS
from normct.evaluate import protocols as pr
from normct.evaluate.metrics import Counts
from normct.evaluate.sentences import best_row

GRID = np.linspace(0, 1, 201)
"""Abscissae of mean curves and of bands."""
DRAWS = 200
Band = tuple[NDArray[np.float64], NDArray[np.float64]]


def banded(means: pd.DataFrame, metric: str) -> list[str]:
    """Return which methods get a band, more would hide each other: best network, statistical atlas, fused."""
    networks = means[means["method"].isin(list(METHODS))].dropna(subset=[metric])
    best = [str(best_row(networks, metric)["method"])] if len(networks) else []
    return [*best, "statistical_atlas", FUSED]


def on_grid(kind: str, x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a curve at :data:`GRID`; x rises.

    Precision is read at the first point of at least that recall: between two points a straight line would be
    too good, and at recall 0 there is none.
    """
    if kind == "roc":
        return np.interp(GRID, x, y)
    return y[np.searchsorted(x, np.maximum(GRID, 1e-9) - 1e-12).clip(max=len(y) - 1)]


class Sorted:
    """Units of one score from the highest on, so that no draw sorts anew."""

    def __init__(self, values: NDArray[np.float64], positive: NDArray[np.bool_], patient: NDArray[np.intp]):
        order = np.argsort(-values, kind="stable")
        falling = values[order]
        self.ends = np.flatnonzero(np.append(falling[1:] != falling[:-1], True))  # equal scores pass together
        self.positive, self.patient = positive[order], patient[order]

    def curve(self, kind: str, count: NDArray) -> NDArray[np.float64] | None:
        """Return the curve of one draw at :data:`GRID`; None for a draw without one of the classes."""
        weight = count[self.patient].astype(np.float64)
        true = np.cumsum(weight * self.positive)[self.ends]
        false = np.cumsum(weight)[self.ends] - true
        if true[-1] == 0 or false[-1] == 0:
            return None
        if kind == "roc":
            return on_grid(kind, np.append(0, false / false[-1]), np.append(0, true / true[-1]))
        with np.errstate(invalid="ignore"):  # nothing drawn yet: recall is 0 there, which is not read
            return on_grid(kind, true / true[-1], true / (true + false))


def band(
    kind: str,
    seeds: list[NDArray[np.float64]],
    classes: NDArray[np.int8],
    patient: NDArray[np.intp],
    counts: Counts,
) -> Band | None:
    """Return the 2.5 and 97.5 % points over draws of a curve, its seeds averaged within a draw.

    Parameters
    ----------
    kind : {"roc", "pr"}
    seeds : list of ndarray
        Scores of each seed, shape (units,); NaN where there is none.
    classes, patient : ndarray
        Shape (units,): class under the protocol, and column of ``counts``.
    counts : ndarray
        Shape (draws, patients), from :func:`normct.evaluate.metrics.draw_patients`.

    Returns
    -------
    tuple of ndarray or None
        At :data:`GRID`; None with fewer than two patients in a class.
    """
    total, drawn = np.zeros((len(counts), len(GRID))), np.ones(len(counts), bool)
    for values in seeds:
        keep = (classes != pr.LEFT_OUT) & ~np.isnan(values)
        positive, who = classes[keep] == pr.POSITIVE, patient[keep]
        if min(len(np.unique(who[positive])), len(np.unique(who[~positive]))) < 2:
            return None
        units = Sorted(values[keep], positive, who)
        for i, count in enumerate(counts):
            curve = units.curve(kind, count)
            drawn[i] &= curve is not None
            if curve is not None:
                total[i] += curve / len(seeds)
    if drawn.mean() < 0.5:
        return None
    low, high = np.percentile(total[drawn], [2.5, 97.5], axis=0)
    return low, high
