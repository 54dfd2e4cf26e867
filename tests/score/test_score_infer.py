"""Inference: what is stored raw, round trip of maps, blank and set-aside scans."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from normct.common.errors import NormctError
from normct.common.slices import read_slices
from normct.models import load_model
from normct.pretext.geometry import balanced_dozen, transform
from normct.score.files import read_maps, read_raw, unpack_map
from normct.score.infer import Network, choose_device, infer
from score.score_case import INFER, NETWORKS


@pytest.fixture(scope="module")
def case(scored):
    store = read_slices(scored / "preprocess/sub-x1/slices.npz")
    return store, read_raw(scored / "score/raw/sub-x1.npz"), read_maps(scored / "score/maps/sub-x1.npz")


def network(scored, method="multitask_pretrained", seed=1):
    return load_model(scored / "train" / method / f"seed-{seed}" / "model.safetensors")[0]


def test_residual_norm_and_map_are_those_of_the_network(scored, case):
    store, raw, maps = case
    image = torch.from_numpy(store.image[80].astype(np.float32))[None, None]
    with torch.inference_mode():
        residual = (image - network(scored).reconstruct(image))[0, 0].numpy()
    l2 = raw.arrays["multitask_pretrained/1/residual_l2"]
    assert l2[80] == pytest.approx(np.sqrt((residual.astype(np.float64) ** 2).sum()), rel=1e-5)
    full = unpack_map(maps["multitask_pretrained/seed-1"], store.mask)
    np.testing.assert_allclose(full[80], np.where(store.mask[80], residual, 0), atol=1e-3)
    assert not full[~store.mask].any()
    assert maps["multitask_pretrained/seed-1"].dtype == np.float16


def test_head_probabilities_are_of_the_true_labels_of_each_transform(scored, case):
    store, raw, _ = case
    image = torch.from_numpy(store.image[80].astype(np.float32))[None, None]
    log_p = raw.arrays["multitask_pretrained/1/log_p"]
    assert log_p.shape == (155, 12, 3)
    assert log_p.dtype == np.float32
    module = network(scored)
    for t in (0, 5, 11):
        code = balanced_dozen()[t]
        with torch.inference_mode():
            logits = module.head_logits(transform(image, code[None], 16))[0]
        parts = [p.softmax(0)[label].item() for p, label in zip(logits.split([4, 3, 3]), code, strict=True)]
        np.testing.assert_allclose(np.exp(log_p[80, t]), parts, rtol=1e-4)
    assert "vae_kl/0/log_p" not in raw.arrays


def test_every_network_is_there_and_blank_slices_share_one_response(case):
    store, raw, maps = case
    assert raw.networks() == [(m, str(s)) for m, s in NETWORKS]
    assert set(maps) == {f"{m}/seed-{s}" for m, s in NETWORKS} | {"statistical_atlas"}
    blank = ~store.mask.any(axis=(1, 2))
    assert blank.any()
    for name in ("residual_l2", "log_p"):
        values = raw.arrays[f"multitask_pretrained/0/{name}"]
        one = raw.arrays[f"multitask_pretrained/0/blank_{name.removeprefix('residual_')}"]
        assert (values[blank] == one).all()
        assert not (values[70] == one).all()


def test_scan_set_aside_gives_empty_files(scored):
    raw = read_raw(scored / "score/raw/sub-x2.npz")
    assert raw.set_aside
    assert read_maps(scored / "score/maps/sub-x2.npz") == {}


def test_map_of_another_scan_does_not_unpack(case):
    store, _, maps = case
    with pytest.raises(ValueError, match="not the same scan"):
        unpack_map(maps["statistical_atlas"], np.roll(store.mask, 1, axis=0)[:-40])


def test_training_scans_and_wrong_weights_are_refused(scored, case):
    store = case[0]
    atlas = dict(np.load(scored / "score/statistical_atlas.npz"))
    weights = scored / "train/vae_kl/seed-0/model.safetensors"
    arguments = {"measures": {}, "atlas": atlas, "settings": INFER}
    with pytest.raises(NormctError, match="training scan"):
        infer(store, role="train", networks=[], **arguments)
    with pytest.raises(NormctError, match="the file holds vae_kl, seed 0"):
        infer(store, role="test", networks=[Network("cevae", "0", weights)], **arguments)
    damaged = scored / "damaged.safetensors"
    damaged.write_bytes(weights.read_bytes()[:200])
    with pytest.raises(NormctError, match="weights of vae_kl, seed 0"):
        infer(store, role="test", networks=[Network("vae_kl", "0", damaged)], **arguments)


def test_a_gpu_that_is_not_there_is_refused():
    assert choose_device("cpu") == "cpu"
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    assert choose_device("auto") == "cpu"
    with pytest.raises(NormctError, match=r"score\.accelerator is cuda, but PyTorch finds no GPU"):
        choose_device("cuda")


@pytest.mark.parametrize(("transforms", "number"), [("all", 36), ("identity", 1)])
def test_number_of_transforms_follows_the_config(scored, case, transforms, number):
    atlas = dict(np.load(scored / "score/statistical_atlas.npz"))
    weights = scored / "train/multitask_pretrained/seed-0/model.safetensors"
    raw, _ = infer(
        case[0],
        role="test",
        measures={},
        networks=[Network("multitask_pretrained", "0", weights)],
        atlas=atlas,
        settings=INFER | {"transforms": transforms},
    )
    assert raw.arrays["multitask_pretrained/0/log_p"].shape == (155, number, 3)
    assert raw.arrays["transforms"].shape == (number, 3)
