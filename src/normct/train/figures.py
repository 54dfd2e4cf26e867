"""Figures of a training: losses an epoch (thesis fig. A.1) and reconstructions."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from numpy.typing import NDArray

from normct.common.files import atomic

PARTS = {
    "loss": ("total", "#000000"),
    "rec": ("reconstruction", "#0072B2"),
    "rec_scaled": ("ε × reconstruction", "#56B4E9"),
    "kl": ("KL", "#E69F00"),
    "nll": ("negative log-likelihood", "#009E73"),
    "ce": ("cross-entropy", "#D55E00"),
    "discriminate": ("discriminator", "#D55E00"),
    "deceive": ("encoder against discriminator", "#E69F00"),
    "total_correlation": ("total correlation", "#009E73"),
    "mutual_information": ("mutual information", "#CC79A7"),
    "noise_identity": ("if the noise were left", "#999999"),
    "context": ("context encoding", "#009E73"),
    "patch": ("error in swapped patches", "#CC79A7"),
    "patch_identity": ("the same if left swapped", "#999999"),
}


def losses(path: Path, history: pd.DataFrame, title: str) -> None:
    """Draw every loss part an epoch, logarithmic, training solid and validation dashed.

    Parameters
    ----------
    path : Path
        PNG.
    history : DataFrame
        ``epoch`` from 0, and ``train_<part>`` and ``val_<part>`` columns.
    title : str
    """
    accuracies = [c for c in map(str, history) if c.startswith("val_accuracy_")]
    figure, axes = plt.subplots(
        1, 2 if accuracies else 1, figsize=(11 if accuracies else 7, 4), layout="constrained", squeeze=False
    )
    axis, epochs = axes[0, 0], history["epoch"] + 1
    for part, (name, colour) in PARTS.items():
        if f"train_{part}" in history:
            axis.plot(epochs, history[f"train_{part}"], color=colour, label=name, marker=".")
            axis.plot(epochs, history[f"val_{part}"], color=colour, linestyle="--", marker=".")
    axis.set(xlabel="epoch", ylabel="loss", title=f"{title}\nsolid: training, dashed: validation")
    losses_drawn = np.concatenate([line.get_ydata() for line in axis.lines])
    # a likelihood may be negative: linear around 0 then
    axis.set_yscale("symlog", linthresh=1e-3) if (losses_drawn < 0).any() else axis.set_yscale("log")
    # outside: curves of all scales leave no free corner
    axis.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    axis.xaxis.get_major_locator().set_params(integer=True)
    if accuracies:
        for name in accuracies:
            axes[0, 1].plot(epochs, history[name], label=name.removeprefix("val_accuracy_"), marker=".")
        axes[0, 1].set(xlabel="epoch", ylabel="validation accuracy", ylim=(0, 1.02), title="accuracy")
        axes[0, 1].legend(frameon=False, loc="lower right")
        axes[0, 1].xaxis.get_major_locator().set_params(integer=True)
    _save(figure, path)


def reconstructions(path: Path, shown: dict[str, NDArray[np.float32]], title: str) -> None:
    """Draw rows of slices: input, target, reconstruction and their signed difference.

    Parameters
    ----------
    path : Path
        PNG.
    shown : dict of ndarray
        ``input``, ``target`` and ``reconstruction``, each (n, 128, 128), axes y from back to front and x
        from the patient's left to right; values in [0, 1].
    title : str
    """
    rows = dict(shown) | {"difference": shown["target"] - shown["reconstruction"]}
    number = len(shown["input"])
    figure, axes = plt.subplots(
        len(rows),
        number,
        figsize=(1.6 * number + 1, 1.6 * len(rows) + 0.6),
        layout="constrained",
        squeeze=False,
    )
    for (name, images), line in zip(rows.items(), axes, strict=True):
        for image, axis in zip(images, line, strict=True):
            # radiological view: front up, the patient's left on the picture's right
            view = image[::-1, ::-1]
            if name == "difference":
                axis.imshow(view, cmap="RdBu_r", vmin=-0.3, vmax=0.3)
            else:
                axis.imshow(view, cmap="gray", vmin=0, vmax=1)
            axis.set(xticks=[], yticks=[])
        line[0].set_ylabel(name)
    figure.suptitle(
        f"{title}: validation slices (difference: target − reconstruction, ±0.3 of the HU window)", size=9
    )
    _save(figure, path)


def _save(figure: plt.Figure, path: Path) -> None:
    with atomic(path) as part:
        figure.savefig(part, dpi=110, metadata={"Software": None})
    plt.close(figure)
