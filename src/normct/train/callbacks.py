"""Callbacks: the best weights, a checkpoint to resume from, a line an epoch."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor

from normct.common.errors import NormctError
from normct.common.files import atomic
from normct.train.data import over_ranks, ranks
from normct.train.module import TrainingModule


def say(line: str) -> None:
    """Print a line; where nobody reads any more, go on without: a training is worth more than its lines."""
    try:
        print(line, flush=True)
    except BrokenPipeError:
        # what is left in the buffer would else be flushed at the end, and fail again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def same_everywhere(weights: dict[str, Tensor], device: torch.device) -> None:
    """Compare weights with the first process's.

    Raises
    ------
    NormctError
        In every process, where any of them has others, or where they are not finite.
    """
    flat = torch.cat([value.double().flatten() for value in weights.values()]).to(device)
    mean = over_ranks(flat) / ranks()[1]
    apart = over_ranks((flat - mean).abs().max()[None])
    if not float(apart) <= AGREEMENT:
        raise NormctError(f"the weights are not finite or differ between processes (by {float(apart):.3g})")


class BestWeights(pl.Callback):
    """Keeps the weights of the epoch with the lowest validation loss.

    In memory and inside the resume checkpoint, so that a kill cannot fall between two files.
    """

    def __init__(self) -> None:
        self.epoch, self.loss = -1, float("inf")
        self.weights: dict[str, Tensor] = {}

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Copy the weights where the loss is the lowest yet; every process sees the same loss and weights."""
        loss = float(trainer.callback_metrics["val_loss"])
        if loss < self.loss:
            self.epoch, self.loss = trainer.current_epoch, loss
            self.weights = {k: v.detach().cpu().clone() for k, v in pl_module.model.state_dict().items()}  # type: ignore[union-attr]

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Refuse weights that differ between processes, which would mean they did not train together."""
        same_everywhere(self.weights, pl_module.device)

    def state_dict(self) -> dict[str, Any]:
        """Return the best epoch, its loss and its weights."""
        return {"epoch": self.epoch, "loss": self.loss, "weights": self.weights}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take them back."""
        self.epoch, self.loss, self.weights = (state_dict[k] for k in ("epoch", "loss", "weights"))


class Resume(pl.Callback):
    """Saves everything a training needs to go on, in mid-epoch, at most every ``seconds`` and on SIGTERM.

    SIGTERM is how Slurm announces a time limit: training ends in a checkpoint at the next batch. Never after
    an epoch's last batch: there the validation, the plateau and the stop have still to run, and after the
    next batch they are all in the state.

    Parameters
    ----------
    path : Path
        The checkpoint; replaced whole.
    fingerprint : str
        Hash of settings, code, data and start weights; a checkpoint with another one is not resumed from.
    seconds : float
    """

    def __init__(self, path: Path, fingerprint: str, seconds: float) -> None:
        self.path, self.fingerprint, self.seconds = path, fingerprint, seconds
        self._saved = time.monotonic()
        self._told_to_stop = False

    @property
    def state_key(self) -> str:
        """Name in the checkpoint."""
        return "normct-resume"

    def state_dict(self) -> dict[str, Any]:
        """Return the fingerprint."""
        return {"fingerprint": self.fingerprint}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take SIGTERM over from Lightning, whose own way stops without saving; it restores the old one."""
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._tell)

    def _tell(self, number: int, frame: FrameType | None) -> None:
        self._told_to_stop = True

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save where it is time, or where training was told to stop."""
        if batch_idx + 1 >= trainer.num_training_batches:
            return
        told, due = self._told_to_stop, time.monotonic() - self._saved >= self.seconds
        if trainer.world_size > 1:  # all save together, or they would wait for each other for ever
            if (batch_idx + 1) % AGREE_EVERY:
                return
            both = torch.tensor([told, due], dtype=torch.int32, device=pl_module.device)
            told, due = (over_ranks(both) > 0).tolist()
        if told or due:
            self._save(trainer)
            self._saved = time.monotonic()
        if told:
            raise NormctError(
                "training was told to stop (SIGTERM: a time limit?) and saved where it is; "
                "run the same command to go on"
            )

    def _save(self, trainer: pl.Trainer) -> None:
        if not trainer.is_global_zero:
            trainer.save_checkpoint(self.path)  # takes part in the sums; the first process writes
            return
        with atomic(self.path) as part:
            trainer.save_checkpoint(part)

    def usable(self) -> Path | None:
        """Return the checkpoint's path where there is one of this very training, else None."""
        try:
            state = torch.load(self.path, map_location="cpu", weights_only=True)
            same = state["callbacks"][self.state_key]["fingerprint"] == self.fingerprint
        except Exception:  # any fault of the file: a checkpoint that cannot be read is one that is not there
            return None
        return self.path if same else None

    def remove(self) -> None:
        """Delete the checkpoint: the training is done."""
        self.path.unlink(missing_ok=True)


class EpochLines(pl.Callback):
    """Prints one line an epoch: losses, speed, time left."""

    def __init__(self, title: str) -> None:
        self.title = title
        self._start = time.monotonic()

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the epoch's clock."""
        self._start = time.monotonic()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Print the line; the module's row is written after this hook, so the metrics are asked."""
        assert isinstance(pl_module, TrainingModule)
        seconds = time.monotonic() - self._start
        epoch, last = trainer.current_epoch + 1, trainer.max_epochs or 0
        averages, number = pl_module.epoch_averages
        if not trainer.is_global_zero:
            return
        metrics = {
            k.removeprefix("val_"): float(v) for k, v in trainer.callback_metrics.items() if k[:4] == "val_"
        }
        shown = "  ".join(
            f"{name} {averages[name]:.4g}/{metrics[name]:.4g}"
            for name in averages
            if name in metrics and name in SHOWN
        )
        left = max(last - epoch, 0) * seconds
        say(
            f"{self.title}: epoch {epoch}/{last}  train/val {shown}  "
            f"{number / max(seconds, 1e-9):.0f} slices/s  {left:.0f} s left at most"
        )

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Warn of a collapsed latent; in the first epochs few channels are active in any training."""
        assert isinstance(pl_module, TrainingModule)
        active = pl_module.history[-1].get("val_active_channels") if pl_module.history else None
        if active is not None and active < COLLAPSE and trainer.is_global_zero:
            say(
                f"{self.title}: warning: {active:.1%} of the latent channels are active, the latent has "
                "collapsed; a smaller kl_weight or more epochs may mend it"
            )


SHOWN = ("loss", "rec", "kl", "ce", "context", "patch", "accuracy_rotation")
COLLAPSE = 0.05
AGREE_EVERY = 4
"""Steps after which several processes ask each other whether to save."""
AGREEMENT = 1e-6
"""Largest difference of a weight between processes."""
