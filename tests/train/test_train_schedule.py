"""Equal budgets, the clipped gradient and the plateau: what the engine promises of every method alike."""

from functools import partial

import lightning.pytorch as pl
import pytest
import torch

from normct.common.epochs import epochs_of
from normct.common.registry import METHODS, STAGE1
from normct.train.setup import make_trainer, prepare
from train.train_case import settings, write_packed


def section(**epochs):
    own = {method.section: {"epochs": None} for method in METHODS.values()}
    return own | {name: {"epochs": number} for name, number in epochs.items()}


def test_every_method_takes_the_epochs_of_both_stages():
    epochs = partial(epochs_of, section(context_restoration=3, vae=5, multitask=5))
    whole = {
        name: epochs(name) + (epochs(STAGE1) if method.pretrained else 0) for name, method in METHODS.items()
    }
    assert whole.pop(STAGE1) == 3
    assert set(whole.values()) == {8}


def test_a_twin_takes_its_own_pretrained_ones_epochs_and_a_number_is_taken_at_its_word():
    epochs = partial(epochs_of, section(context_restoration=3, vae=5, multitask=7, cevae=2))
    assert epochs("multitask_pretrained") == epochs("multitask_epsilon_low") == 7
    assert epochs("multitask") == 3 + 7
    assert epochs("cevae") == 2
    assert epochs("vae_kl") == 3 + 5


class Steps(pl.Callback):
    """Keeps the gradient's norm at every step as the optimiser saw it."""

    def __init__(self):
        self.norms = []

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        gradients = [p.grad.norm() for p in module.parameters() if p.grad is not None]
        self.norms.append(float(torch.stack(gradients).norm()))


def trained(folder, method="vae_kl", **changes):
    chosen = settings(**changes)
    training = prepare(method, 0, folder, chosen)
    steps = Steps()
    make_trainer(chosen, "cpu", "32-true", [steps]).fit(training.module, training.loader, training.checks)
    return training.module, steps.norms


def test_the_gradients_norm_is_clipped(tmp_path):
    folder = write_packed(tmp_path / "data")
    _, free = trained(folder, epochs=1, gradient_clip=1e6)
    _, clipped = trained(folder, epochs=1, gradient_clip=0.01)
    assert len(free) == len(clipped) == 6
    assert min(free) > 0.02
    assert clipped == pytest.approx([0.01] * 6, rel=1e-3)


def test_the_rate_falls_where_the_validation_loss_stays_on_a_plateau(tmp_path):
    folder = write_packed(tmp_path / "data")
    module, _ = trained(folder, epochs=8, learning_rate=0.03, plateau_patience=0, plateau_factor=0.5)
    best, rate, expected = float("inf"), 0.03, []
    for row in module.history:
        # PyTorch's measure of better: by a ten-thousandth
        rate *= 1.0 if row["val_loss"] < best * (1 - 1e-4) else 0.5
        best = min(best, row["val_loss"])
        expected.append(rate)
    # a row holds the rate that its epoch was trained with
    assert [row["learning_rate"] for row in module.history] == [0.03, *expected[:-1]]
    assert expected[-2] < 0.03  # there was a plateau
