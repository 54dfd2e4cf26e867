from __future__ import annotations

import numpy as np
import pytest
import torch

from normct.models import Autoencoder
from normct.score.files import Raw
from normct.score.kl_gradient import kl_gradient
from normct.score.scores import SliceScore, VolumeScore
from normct.score.uncertainty import uncertainties, uncertainty_columns


def test_kl_gradient_against_finite_differences():
    torch.manual_seed(0)
    module = Autoencoder(width=2, latent=4).double().eval()
    images = torch.rand(3, 1, 128, 128, dtype=torch.float64)
    residual = torch.zeros_like(images)
    residual[:, 0, 60, 70] = -2.0  # one pixel: the sum is 2 |dKL/dx| there
    found = kl_gradient(module, images, residual, batch=2)

    def kl(x):
        with torch.no_grad():
            mean, logvar = module.encode(x)
        return 0.5 * (mean**2 + logvar.exp() - 1 - logvar).flatten(1).sum(1)

    step = torch.zeros_like(images)
    step[:, 0, 60, 70] = 1e-6
    slope = (kl(images + step) - kl(images - step)) / 2e-6
    assert found.tolist() == pytest.approx((2 * slope.abs()).tolist(), rel=1e-4)
    assert all(p.grad is None for p in module.parameters())


def test_uncertainty_of_seeds_and_of_dropout():
    raw = Raw(
        "sub-a",
        "test",
        {
            "z": np.arange(4),
            "usable": np.array([False, True, True, False]),
            "vae_dropout/0/uncertainty": np.array([9.0, 1.0, 2.0, 9.0]),
        },
    )
    seeds = (("0", 1.0), ("1", 3.0), ("all", 2.1))
    scores = [VolumeScore("fused", "fused", seed, value) for seed, value in seeds]
    scores += [VolumeScore("vae_dropout", "thesis", "0", 5.0), VolumeScore("vae_kl", "thesis", "0", 5.0)]
    scores += [VolumeScore("brain_area", "trivial", "n/a", 5.0)]
    assert uncertainties(raw, scores) == {
        ("fused", "fused", "all"): (pytest.approx(2**0.5), "seeds"),
        ("vae_dropout", "thesis", "0"): (1.5, "dropout"),
    }


def test_uncertainty_of_slices():
    raw = Raw(
        "sub-a",
        "test",
        {
            "z": np.arange(3),
            "usable": np.array([True, True, False]),
            "vae_dropout/0/uncertainty": np.array([1.0, 2.0, 9.0], np.float32),
        },
    )
    seeds = (("0", [1.0, 2.0, 9.0]), ("1", [3.0, 2.0, 1.0]), ("all", [2.0, 2.0, 5.0]))
    scores = [SliceScore("fused", "fused", seed, np.array(values)) for seed, values in seeds]
    scores += [SliceScore(m, "thesis", "0", np.zeros(3)) for m in ("vae_dropout", "vae_kl")]
    found = uncertainty_columns(raw, scores)
    nothing = [np.nan] * 3
    expected = [*nothing, *nothing, 2**0.5, 0, np.nan, 1, 2, np.nan, *nothing]
    np.testing.assert_allclose(found["uncertainty"], expected)
    words = ["", "", "", "", "", "", "seeds", "seeds", "", "dropout", "dropout", "", "", "", ""]
    assert found["uncertainty_of"].tolist() == words
    alone = uncertainty_columns(raw, [scores[0]])  # one seed: nothing to say
    assert np.isnan(alone["uncertainty"]).all() and set(alone["uncertainty_of"]) == {""}
