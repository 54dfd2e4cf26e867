"""Slices a user can look at while a training runs."""

from __future__ import annotations

import time
from pathlib import Path

import lightning.pytorch as pl
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from normct.train import figures
from normct.train.compiled import eager
from normct.train.data import PackedSlices, generator
from normct.train.module import TrainingModule
from normct.train.objectives import Objective

EXAMPLES = 8


@torch.no_grad()
def examples(
    model: nn.Module, objective: Objective, data: PackedSlices, seed: int
) -> dict[str, NDArray[np.float32]]:
    """Return what the network makes of the first early-stopping scan, evenly spaced from base to vertex.

    Parameters
    ----------
    model : nn.Module
        On the device that ``data`` serves; put into evaluation mode and back.
    objective : Objective
    data : PackedSlices
    seed : int

    Returns
    -------
    dict
        ``input``, ``target`` and ``reconstruction``, each (n, 128, 128), the first channel.
    """
    rows = data.first_scan("stop")
    chosen = rows[torch.linspace(0.1, 0.9, min(EXAMPLES, len(rows))).mul(len(rows) - 1).long()]
    images, masks = data.batch(chosen)
    training = model.training
    model.eval()
    with eager():
        result = objective(model, images, masks, generator(images.device, seed, "examples"))
    model.train(training)
    names = ("input", "target", "reconstruction")
    return {name: part[:, 0].float().cpu().numpy() for name, part in zip(names, result.shown, strict=True)}


class Preview(pl.Callback):
    """Draws the reconstructions after an epoch, at most every ``seconds``; gone when training is done.

    Parameters
    ----------
    path : Path
        PNG; beside the declared outputs, which a restarted job deletes.
    title : str
    data : PackedSlices
    seed : int
    seconds : float
    """

    def __init__(self, path: Path, title: str, data: PackedSlices, seed: int, seconds: float = 30.0) -> None:
        self.path, self.title, self.seconds = path, title, seconds
        self._data, self._seed = data, seed
        self._drawn = time.monotonic()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draw where it is time."""
        if not trainer.is_global_zero or time.monotonic() - self._drawn < self.seconds:
            return
        assert isinstance(pl_module, TrainingModule)
        shown = examples(pl_module.model, pl_module.objective, self._data, self._seed)
        figures.reconstructions(self.path, shown, f"{self.title}, after epoch {trainer.current_epoch + 1}")
        self._drawn = time.monotonic()

    def remove(self) -> None:
        """Delete the picture: the training is done and has its own."""
        self.path.unlink(missing_ok=True)
