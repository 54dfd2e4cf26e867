"""Figures A.1 (losses) and A.2 (the validation loss alone) of the training."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from normct.common.registry import METHODS, label


def read_histories(folder: str | Path, networks: list[str]) -> dict[str, dict[str, pd.DataFrame]]:
    """Read ``<network>/history.csv`` below ``R/train``.

    Parameters
    ----------
    folder : path
        ``R/train``.
    networks : list of str
        ``<method>/seed-<n>``; a folder left by a method that is no longer trained is not listed and not read.

    Returns
    -------
    dict
        Method → seed → table, methods in the registry's order.
    """
    found: dict[str, dict[str, pd.DataFrame]] = {}
    for network in networks:
        method, _, seed = network.partition("/seed-")
        found.setdefault(method, {})[seed] = pd.read_csv(Path(folder) / network / "history.csv")
    return {method: found[method] for method in METHODS if method in found}


def _panels(n: int) -> tuple[Figure, list[Axes]]:
    """Return a figure of rows of three panels, those beyond ``n`` hidden, and its panels."""
    columns = 3
    rows = max(1, -(-n // columns))
    figure, grid = plt.subplots(
        rows, columns, figsize=(10, 2.9 * rows + 0.2), layout="constrained", squeeze=False
    )
    for axes in grid.flat[n:]:
        axes.set_visible(False)
    return figure, list(grid.flat)


def last_steps(loss: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return by how many per cent each of the last three epochs changed the loss; fewer where there are fewer."""
    return np.asarray(100 * (loss[1:] / loss[:-1] - 1), np.float64)[-3:]


def validation_figure(histories: dict[str, dict[str, pd.DataFrame]]) -> Figure:
    """Draw figure A.2: the validation loss alone, a panel a method, a line a seed, its last steps in the legend.

    Beside a KL a thousand times larger no one sees whether the loss that stops training has become flat.
    """
    figure, grid = _panels(len(histories))
    for axes, (method, seeds) in zip(grid, histories.items(), strict=False):
        for seed, table in seeds.items():
            known = table[["epoch", "val_loss"]].dropna()
            steps = last_steps(known["val_loss"].to_numpy(np.float64))
            text = f"seed {seed}"
            if len(steps):
                text += f": {', '.join(f'{step:+.1f}' for step in steps)} %".replace("-", "−")
            axes.plot(known["epoch"], known["val_loss"], "o-", linewidth=1.2, markersize=3, label=text)
        axes.set(title=label(method), xlabel="Epoch", ylabel="Validation loss")
        # from 0: on an axis cut to the curve any fall looks steep
        axes.set_ylim(bottom=0)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend(fontsize=7, title="last epochs' steps", title_fontsize=7)
    return figure


def loss_figure(histories: dict[str, dict[str, pd.DataFrame]]) -> Figure:
    """Draw figure A.1: training and validation loss by epoch, a panel a method, a line a seed.

    The losses are of different kinds (with KL, with cross-entropy), so each panel has its own logarithmic scale:
    that is the figure's point, it shows why the parts need weights.
    """
    figure, grid = _panels(len(histories))
    for axes, (method, seeds) in zip(grid, histories.items(), strict=False):
        for number, table in enumerate(seeds.values()):
            parts = loss_columns(table)
            for name, (column, style, colour) in parts.items():
                known = table[["epoch", column]].dropna()
                axes.plot(
                    known["epoch"],
                    known[column],
                    style,
                    color=colour,
                    linewidth=1.3,
                    markersize=3,
                    label=name if number == 0 else None,
                    alpha=0.9,
                )
        axes.set(title=label(method), xlabel="Epoch", ylabel="Loss", yscale="log")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend(fontsize=7)
    return figure


def loss_columns(table: pd.DataFrame) -> dict[str, tuple[str, str, str]]:
    """Return what a history has to draw: name → (column, line style, colour)."""
    wanted = {
        "training, total": ("train_loss", "o-", "#0072B2"),
        "validation, total": ("val_loss", "s--", "#D55E00"),
        "validation, reconstruction": ("val_rec", "^:", "#009E73"),
        "validation, KL": ("val_kl", "v:", "#CC79A7"),
        "validation, cross-entropy": ("val_ce", "D:", "#56B4E9"),
    }
    return {
        name: entry
        for name, entry in wanted.items()
        if entry[0] in table and (table[entry[0]].fillna(0) > 0).any()
    }
