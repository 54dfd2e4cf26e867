"""What networks beyond the thesis's measure of a slice is stored and, with a variance, scored."""

import numpy as np
import pytest
import torch

from factories import make_store
from normct.models import build_model
from normct.score.files import Raw
from normct.score.infer import score_network
from normct.score.scores import Settings, slice_scores

CASES = {
    "variance_autoencoder": ("residual_over_variance", {"latent": 4}),
    "dropout_autoencoder": ("uncertainty", {"latent": 4, "passes": 3}),
    "flow_autoencoder": ("latent_surprise", {"latent": 4, "hidden": 8, "transforms": 1}),
    "unet": (None, {}),
    "adversarial_autoencoder": (None, {"latent": 4, "hidden": 8}),
    "autoencoder": (None, {"latent": 4}),  # beta_tcvae's, among others
}


@pytest.mark.parametrize("architecture", CASES)
def test_measures_are_stored_a_slice(architecture):
    name, own = CASES[architecture]
    torch.manual_seed(0)
    module = build_model({"architecture": architecture, "width": 2} | own).eval()
    store = make_store(seed=1)
    arrays, residual = score_network(module, store, None, 16)
    assert set(arrays) == {"residual_l2", "blank_l2"} | ({name} if name else set())
    assert len(residual) == store.mask.sum()
    if name is None:
        return
    filled = store.mask.any(axis=(1, 2))
    assert arrays[name].shape == (155,)
    assert np.isfinite(arrays[name]).all()
    if name != "latent_surprise":  # measured in the brain: none where there is none
        assert (arrays[name][filled] > 0).mean() > 0.9
        assert (arrays[name][~filled] == 0).all()


def test_residual_over_variance_is_a_score_of_its_own():
    ratio = np.linspace(1, 2, 155, dtype=np.float32)
    arrays = {"z": np.arange(155), "usable": np.ones(155, bool)}
    for name in ("brain_area", "slice_position", "mean_hu", "statistical_atlas"):
        arrays[f"trivial/{name}"] = np.zeros(155, np.float32)
    for seed in "01":
        arrays[f"vae_variance/{seed}/residual_l2"] = np.ones(155, np.float32)
        arrays[f"vae_variance/{seed}/residual_over_variance"] = ratio * (1 + int(seed))
    found = slice_scores(Raw("sub-a", "test", arrays), {"vae_variance": {"0": 1.0, "1": 1.0}}, Settings(0.5))
    values = {s.seed: s.per_slice for s in found if s.score == "variance"}
    assert set(values) == {"0", "1", "all"}
    assert np.allclose(values["all"], 1.5 * ratio)
