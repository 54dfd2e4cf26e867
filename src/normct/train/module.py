"""The Lightning module every method trains in: batches by index, seeded numbers, an epoch's averages."""

from __future__ import annotations

import math
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor, nn

from normct.common.errors import NormctError
from normct.train.compiled import Stance
from normct.train.data import IndexBatches, PackedSlices, generator, over_ranks, ranks
from normct.train.objectives import Objective, Result

ACTIVE_VARIANCE = 0.01
"""A latent channel whose mean varies less than this over the slices carries nothing (Burda et al. 2016)."""

Batch = tuple[int, Tensor, tuple[Tensor, Tensor] | None]
"""Step, rows, and their slices where they were read ahead."""


class Averages:
    """Running averages over the slices of an epoch, kept on the device until asked for."""

    def __init__(self) -> None:
        self.count = 0
        self.sums: dict[str, Tensor] = {}

    def add(self, parts: dict[str, Tensor], number: int) -> None:
        """Add a batch's averages over ``number`` slices."""
        self.count += number
        for name, value in parts.items():
            self.sums[name] = self.sums.get(name, 0.0) + value.detach().double() * number

    def reduced(self) -> tuple[int, dict[str, Tensor]]:
        """Return count and sums over all processes; every one of them has to ask."""
        if not self.sums:
            return self.count, {}
        sums = torch.stack([torch.as_tensor(total) for total in self.sums.values()])
        both = over_ranks(torch.cat([sums.new_tensor([self.count]), sums]))
        return round(float(both[0])), dict(zip(self.sums, both[1:].unbind(), strict=True))

    def means(self) -> tuple[dict[str, float], int]:
        """Return the averages over all processes, and the slices they are of."""
        count, sums = self.reduced()
        return {name: float(total) / max(count, 1) for name, total in sums.items()}, count


class TrainingModule(pl.LightningModule):
    """Trains one network on one objective.

    Parameters
    ----------
    model : nn.Module
    objective : Objective
    data : PackedSlices
    loader : IndexBatches
        Training batches, told how far the epoch is trained so that a checkpoint can say it.
    seed : int
    learning_rate, plateau_factor, plateau_patience
        Of Adam and of its schedule on the validation loss.
    stance : Stance or None
        Which steps run compiled code; None compiles nothing.
    """

    def __init__(
        self,
        model: nn.Module,
        objective: Objective,
        data: PackedSlices,
        loader: IndexBatches,
        *,
        seed: int,
        learning_rate: float,
        plateau_factor: float,
        plateau_patience: int,
        stance: Stance | None = None,
    ) -> None:
        super().__init__()
        self.model, self.objective = model, objective
        self._data, self._loader, self._seed = data, loader, seed
        self._rate, self._factor, self._patience = learning_rate, plateau_factor, plateau_patience
        self._stance = stance or Stance()
        self.history: list[dict[str, float]] = []
        self._averages, self._checks = Averages(), Averages()
        self._latents: list[Tensor] = []

    def configure_optimizers(self) -> Any:
        """Adam, its rate reduced where the validation loss stays on a plateau."""
        # one kernel for all weights: on a CPU the plain loop takes a tenth of the step
        optimizer = torch.optim.Adam(self.model.parameters(), self._rate, fused=True)
        plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(
            optimizer, factor=self._factor, patience=self._patience
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": plateau, "monitor": "val_loss"}}

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip the gradient's norm; Lightning refuses for a fused optimiser, though bf16 scales nothing."""
        if gradient_clip_val:
            torch.nn.utils.clip_grad_norm_(self.parameters(), gradient_clip_val)

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Leave the row numbers where they are: the slices know whether they lie on the device."""
        return batch

    def _result(self, batch: Batch, *parts: int | str, first_epoch: bool) -> Result:
        images, masks = self._data.batch(batch[1], batch[2])
        images = images.contiguous(memory_format=torch.channels_last)
        rank, _ = ranks()
        # the first process draws what it would draw alone
        draws = generator(self.device, self._seed, *parts, batch[0], *((rank,) if rank else ()))
        with self._stance(len(images), training=self.training):
            return self.objective(self.model, images, masks, draws, first_epoch)

    def on_fit_start(self) -> None:
        """Hand the device to the data."""
        self._data.to(self.device)

    def on_train_epoch_start(self) -> None:
        """Draw the epoch's order (a resumed epoch has it from the checkpoint)."""
        self._loader.set_epoch(self.current_epoch)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss of a batch; every random number depends on (seed, epoch, step)."""
        result = self._result(batch, "train", self.current_epoch, first_epoch=self.current_epoch == 0)
        # asking a GPU at every step would stall it; its epoch averages are checked instead
        # (nor one process of several, where the others would wait for it for ever)
        if self.device.type == "cpu" and ranks()[1] == 1:
            self._refuse_nan(float(result.loss.detach()), batch[0])
        self._averages.add({"loss": result.loss} | result.parts, len(batch[1]))
        self._loader.done = (
            batch[0] + 1
        )  # here, not in a hook: the callback that saves comes before the module's
        return result.loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Add a validation batch; its random numbers are the same every epoch."""
        result = self._result(batch, "validation", first_epoch=False)
        watched = result.loss if result.monitor is None else result.monitor
        self._checks.add({"loss": watched} | result.parts, len(batch[1]))
        if result.mean is not None:
            mean = result.mean.double()
            self._latents.append(torch.stack([mean.sum(0), mean.square().sum(0)]))

    def on_validation_epoch_end(self) -> None:
        """Log the validation averages, and the share of latent channels that carry anything."""
        values, count = self._checks.means()
        if self._latents:
            first, second = over_ranks(torch.stack(self._latents).sum(0)) / count
            variance = (second - first.square()).mean(dim=(-2, -1))
            values["active_channels"] = float((variance > ACTIVE_VARIANCE).double().mean())
        self._checks, self._latents = Averages(), []
        self._refuse_nan(values["loss"], None)
        self.log_dict({f"val_{name}": value for name, value in values.items()})
        self._validation = values

    @property
    def epoch_averages(self) -> tuple[dict[str, float], int]:
        """Training averages of the epoch so far, and the slices they are of."""
        return self._averages.means()

    def on_train_epoch_end(self) -> None:
        """Log the training averages and add the epoch's row to the history."""
        values, _ = self._averages.means()
        self._averages = Averages()
        self._refuse_nan(values["loss"], None)
        self.log_dict({f"train_{name}": value for name, value in values.items()})
        row = {"epoch": float(self.current_epoch), "learning_rate": self.optimizers().param_groups[0]["lr"]}  # type: ignore[union-attr]
        row |= {f"train_{name}": value for name, value in values.items()}
        row |= {f"val_{name}": value for name, value in self._validation.items()}
        self.history.append(row)

    def _refuse_nan(self, loss: float, step: int | None) -> None:
        if not math.isfinite(loss):
            where = f"epoch {self.current_epoch + 1}" + ("" if step is None else f", step {step + 1}")
            raise NormctError(
                f"training diverged: the loss is {loss} in {where}. Lower train.learning_rate or "
                "train.gradient_clip, or set train.precision to 32-true"
            )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what Lightning does not know: the history and the epoch's averages so far."""
        count, sums = self._averages.reduced()
        checkpoint["normct"] = {
            "history": self.history,
            "averages": {"count": count, "sums": sums},
            "objective": self.objective.state(),
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take it back."""
        state = checkpoint["normct"]
        self.history = state["history"]
        # they are of all processes: the first goes on with them, the others from zero
        share = 1 if ranks()[0] == 0 else 0
        self._averages.count = share * state["averages"]["count"]
        self._averages.sums = {name: share * total for name, total in state["averages"]["sums"].items()}
        self.objective.load_state(state["objective"])
