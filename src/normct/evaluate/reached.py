"""Figure of calibration: the specificity that thresholds reach on test scans against the one they were set for."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure
from pandas import DataFrame

from normct.common.binomial import exact_interval
from normct.common.registry import label
from normct.evaluate import style
from normct.evaluate.bands import banded
from normct.evaluate.data import Scores
from normct.evaluate.operating import operating_points
from normct.evaluate.sentences import CALIBRATED, PLAIN, main_rows

TARGETS = (*np.arange(0.5, 0.96, 0.05).round(2).tolist(), 0.975, 0.99)


def calibration_figure(
    volumes: Scores, healthy: dict[str, Any], summary: DataFrame, specificities: list[float]
) -> Figure | None:
    """Draw reached over target specificity of whole scans, plain scores left and calibrated ones right.

    Parameters
    ----------
    volumes : Scores
        Of the test scans.
    healthy : dict
        Of ``calibration.json``: scores of the healthy calibration scans, method → score → seed → list.
    summary : DataFrame
        ``detection_summary.csv``, which names the best network.
    specificities : list of float
        Operating points of the config: these have an interval.
    """
    import matplotlib.pyplot as plt

    figure, grid = plt.subplots(1, 2, figsize=(10.5, 4.2), layout="constrained", sharex=True, sharey=True)
    targets = sorted({*TARGETS, *specificities})
    lowest = 1.0
    for axes, names, title in zip(
        grid, (PLAIN, CALIBRATED), ("Plain scores", "Calibrated scores"), strict=True
    ):
        shown = banded(main_rows(summary, "volume", names), "auroc_mean")
        places = [
            i
            for i, (m, score, s) in enumerate(volumes.columns)
            if m in shown and score in names and s != "all"
        ]
        points = operating_points(volumes.pick(places), healthy, targets).dropna(subset=["specificity"])
        axes.plot([0, 1], [0, 1], color="#000000", linewidth=0.8, label="as aimed at")
        axes.set(title=title, xlabel="Specificity aimed at")
        if points.empty:
            axes.text(0.5, 0.5, "Not computed", ha="center", transform=axes.transAxes)
            continue
        patients = volumes.units.loc[volumes.units["group"] == "healthy", "patient"].nunique()
        for step, method in enumerate([m for m in shown if m in set(points["method"])]):
            means = points[points["method"] == method].groupby("target_specificity")["specificity"].mean()
            look = style.line(method)
            axes.plot(
                means.index,
                means,
                marker="os^"[step],
                markersize=4,
                clip_on=False,
                label=label(method),
                **look,
            )
            for target in specificities:
                low, high = exact_interval(float(means[target]) * patients, patients)
                # side by side: the methods' intervals are of much the same height
                at = target + 0.006 * (step - 1)
                axes.vlines(at, low, high, color=look["color"], linewidth=1.4, zorder=look["zorder"])
                lowest = min(lowest, low)
            lowest = min(lowest, float(means.min()))
        first = points.iloc[0]
        heading = f"{first['n_calibrate']:.0f} calibration, {first['n_healthy']:.0f} test scans"
        # below: inside, no corner is free in every cohort
        axes.legend(
            title=heading,
            loc="upper center",
            bbox_to_anchor=(0.5, -0.14),
            ncols=4,
            fontsize=8,
            title_fontsize=8,
        )
    if all(len(axes.lines) == 1 for axes in grid):
        plt.close(figure)
        return None
    grid[0].set(xlim=(targets[0] - 0.01, 1), ylim=(min(targets[0] - 0.01, lowest - 0.02), 1))
    grid[0].set_ylabel("Specificity reached, healthy test scans")
    return figure
