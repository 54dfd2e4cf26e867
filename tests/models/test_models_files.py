"""Weights on disk: what comes back is what was saved, and nothing foreign loads."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from normct.models import ModelFileError, build_model, load_model, save_model

NETWORK = {"width": 2, "latent": 4, "head": True}


def saved(path, network=NETWORK, **metadata):
    torch.manual_seed(3)
    model = build_model(network)
    save_model(path, model, {"method": "vae_kl", "seed": 3, "network": network} | metadata)
    return model.eval()


def test_round_trip(tmp_path):
    model = saved(tmp_path / "m.safetensors")
    again, metadata = load_model(tmp_path / "m.safetensors")
    x = torch.rand(2, 1, 128, 128)
    assert metadata == {"method": "vae_kl", "seed": 3, "network": NETWORK}
    assert not again.training
    with torch.no_grad():
        assert torch.equal(again.reconstruct(x), model.reconstruct(x))
        assert torch.equal(again.head_logits(x), model.head_logits(x))


def test_same_weights_are_the_same_bytes(tmp_path):
    for name in "ab":
        saved(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_damaged_file(tmp_path):
    saved(tmp_path / "m")
    (tmp_path / "m").write_bytes((tmp_path / "m").read_bytes()[:200])
    with pytest.raises(ModelFileError, match="not a readable"):
        load_model(tmp_path / "m")


def test_missing_file(tmp_path):
    with pytest.raises(ModelFileError, match="not a readable"):
        load_model(tmp_path / "none")


def test_foreign_weights(tmp_path):
    save_file({"w": torch.zeros(2)}, tmp_path / "m")
    with pytest.raises(ModelFileError, match="not written by NormCT"):
        load_model(tmp_path / "m")


def test_weights_of_another_network(tmp_path):
    saved(tmp_path / "m")
    model = build_model(NETWORK)
    save_model(tmp_path / "shape", model, {"network": NETWORK | {"width": 4}})
    with pytest.raises(ModelFileError, match="have shape"):
        load_model(tmp_path / "shape")
    save_model(tmp_path / "keys", model, {"network": NETWORK | {"head": False}})
    with pytest.raises(ModelFileError, match="do not fit"):
        load_model(tmp_path / "keys")
    assert load_file(tmp_path / "m")


@pytest.mark.parametrize(
    "network",
    [{"architecture": "transformer"}, {"depth": 3}, {"architecture": "dropout_autoencoder", "depth": 3}],
)
def test_unknown_networks(network):
    with pytest.raises(ModelFileError, match="unknown"):
        build_model(network)
