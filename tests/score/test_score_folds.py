"""Cross-fitting: a training scan is scored out of fold or not at all, and calibrates only then."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from normct.common.errors import NormctError
from normct.common.files import read_json, sha256, write_json
from normct.models import build_model, save_model
from normct.score import build_reference, calibrate, infer, statistical_atlas
from normct.score.files import FOLD, read_held_out, read_maps, read_raw, write_maps, write_raw
from normct.score.held_out import LEARNT_FROM, Fold, Network, refuse_in_sample
from normct.score.model_card import model_card
from normct.score.scores import Settings
from score.score_case import CONFIG, INFER, NETWORKS, SCORE, SLICES

START = "context_restoration"
HELD_OUT, OTHER = "sub-t1", "sub-t2"


def make_atlas(root, out, subjects, **more):
    settings = json.dumps(SCORE["statistical_atlas"] | SLICES | more)
    statistical_atlas.main(
        [str(root / "preprocess"), str(out), "--subjects", *subjects, "--settings", settings]
    )


def record(path, method, seed, names, start=None):
    trained_on = {"train": names, "stop": ["sub-s1"]}
    write_json(path, {"method": method, "seed": seed, "trained_on": trained_on, "stage1_sha256": start})


def make_networks(root):
    """Networks of a fold that holds sub-t1 out, as training leaves them."""
    for method, seed in [(START, 0), (START, 1), *NETWORKS]:
        folder = root / method / f"seed-{seed}"
        folder.mkdir(parents=True)
        torch.manual_seed(seed)
        network = {"width": 2, "latent": 4, "head": method == "multitask_pretrained"}
        metadata = {"method": method, "seed": seed, "network": network}
        save_model(folder / "model.safetensors", build_model(network), metadata)
        start = sha256(root / START / f"seed-{seed}" / "model.safetensors")
        record(folder / "training.json", method, seed, [OTHER], start if "pretrained" in method else None)


@pytest.fixture(scope="module")
def whole(scored, tmp_path_factory):
    """A fold with its atlas, and sub-t1 scored out of it."""
    root = tmp_path_factory.mktemp("fold")
    make_networks(root)
    make_atlas(scored, root / "atlas.npz", [OTHER], name_subjects=True)
    run_infer(scored, root, HELD_OUT, *out_of_fold(root))
    return root


@pytest.fixture
def fold(whole, tmp_path):
    """A copy of it to spoil."""
    return Path(shutil.copytree(whole, tmp_path / "fold"))


def networks(fold):
    return [Network(m, str(s), fold / m / f"seed-{s}" / "model.safetensors") for m, s in NETWORKS]


def held_out_of(fold, *scans):
    return Fold(1, [HELD_OUT, *scans], sorted(fold.rglob("training.json")))


def run_infer(scored, fold, subject, *more):
    """Score a training scan through the command line."""
    folder, out = scored / "preprocess" / subject, fold / "score"
    words = [w for m, s, path in networks(fold) for w in ("--network", m, s, str(path))]
    infer.main(
        [str(folder / "slices.npz"), str(folder / "quality.json"), str(fold / "atlas.npz"), *words,
         "--role", "train", "--settings", json.dumps(INFER), *more,
         "--raw", str(out / f"raw/{subject}.npz"), "--maps", str(out / f"maps/{subject}.npz")]
    )  # fmt: skip


def out_of_fold(fold):
    return ["--fold", "1", "--same-patient", HELD_OUT, "--training", *map(str, fold.rglob("training.json"))]


def test_a_training_scan_is_scored_with_a_fold_only(scored, fold):
    with pytest.raises(NormctError, match="a training scan cannot be scored"):
        run_infer(scored, fold, HELD_OUT)
    raw = read_raw(fold / f"score/raw/{HELD_OUT}.npz")
    assert (raw.role, int(raw.arrays[FOLD]), raw.held_out) == ("train", 1, True)
    assert raw.networks() == [(m, str(s)) for m, s in NETWORKS]
    assert len(read_maps(fold / f"score/maps/{HELD_OUT}.npz")) == len(NETWORKS) + 1
    # the same networks learnt from the other one
    with pytest.raises(NormctError, match="sub-t2: fold 1: context_restoration, seed 0, learnt from sub-t2"):
        run_infer(scored, fold, OTHER, *out_of_fold(fold))
    assert not (fold / f"score/raw/{OTHER}.npz").exists()


def test_no_other_scan_has_a_fold(scored, fold):
    store = infer.read_slices(scored / "preprocess/sub-x1/slices.npz")
    with pytest.raises(NormctError, match="only training scans have a fold, not those of role test"):
        infer.infer(
            store, role="test", measures={}, networks=[], atlas={}, settings=INFER, fold=held_out_of(fold)
        )


def change(fold, folder, **fields):
    path = fold / folder / "seed-0" / "training.json"
    write_json(path, read_json(path) | fields)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda f: change(f, "vae_kl", trained_on={"train": [OTHER, HELD_OUT]}), "vae_kl, seed 0, learnt from"),
        # another scan of the same patient is as bad as the scan itself
        (lambda f: change(f, "vae_kl", trained_on={"train": ["sub-again"]}), "learnt from sub-again of the same"),
        (lambda f: change(f, "vae_kl", trained_on={"train": [], "stop": [HELD_OUT]}), "learnt from sub-t1"),
        (lambda f: change(f, START, trained_on={"train": [HELD_OUT]}), "context_restoration, seed 0, learnt"),
        (lambda f: change(f, "multitask_pretrained", stage1_sha256="0" * 64), "did not start from the stage 1"),
        (lambda f: (f / START / "seed-1" / "training.json").unlink(), "seed 1, did not start from the stage 1"),
        (lambda f: (f / "vae_kl/seed-1/training.json").unlink(), "no training.json says from whom vae_kl, seed 1"),
        (lambda f: change(f, "vae_kl", method="cevae"), "no training.json says from whom vae_kl, seed 0"),
    ],
)  # fmt: skip
def test_what_learnt_from_the_patient_may_not_score_the_scan(fold, spoil, words):
    atlas = {LEARNT_FROM: np.array([OTHER])}
    refuse_in_sample(HELD_OUT, held_out_of(fold, "sub-again"), networks(fold), atlas)
    spoil(fold)
    with pytest.raises(NormctError, match=words):
        refuse_in_sample(HELD_OUT, held_out_of(fold, "sub-again"), networks(fold), atlas)


def test_an_atlas_of_the_patient_or_of_nobody_knows_whom_may_not_score_the_scan(scored, fold):
    atlas = dict(np.load(fold / "atlas.npz"))
    assert atlas[LEARNT_FROM].tolist() == [OTHER]
    np.savez(fold / "atlas.npz", **atlas | {LEARNT_FROM: np.array([HELD_OUT, OTHER])})
    with pytest.raises(NormctError, match="the statistical atlas was made of sub-t1"):
        run_infer(scored, fold, HELD_OUT, *out_of_fold(fold))
    # the model's own, as it goes into a bundle: without a name
    shutil.copy(scored / "score/statistical_atlas.npz", fold / "atlas.npz")
    assert LEARNT_FROM not in np.load(fold / "atlas.npz").files
    with pytest.raises(NormctError, match="the statistical atlas does not say"):
        run_infer(scored, fold, HELD_OUT, *out_of_fold(fold))


def test_a_cross_fitted_scan_calibrates_and_is_counted(scored, fold):
    """Its z and position statistics are checked where the whole pipeline runs."""
    raws = [read_raw(scored / f"score/raw/{s}.npz") for s in ("sub-c1", "sub-c2")]
    before = calibrate.calibrate(raws, Settings.of(SCORE))
    raws.append(read_raw(fold / f"score/raw/{HELD_OUT}.npz"))
    found = calibrate.calibrate(raws, Settings.of(SCORE), folds=2)
    assert (before["n_healthy"], found["n_healthy"]) == (2, 3)
    assert found["cross_fit"] == {"folds": 2, "scans": 1}
    assert "cross_fit" not in before
    assert found["warning"].startswith("3 healthy calibration scans")
    assert len(found["healthy"]["vae_kl"]["thesis"]["0"]) == 3
    training = {"methods": ["vae_kl"], "seeds": [0], "scans": 2, "slices": 9, "stop": 1, "synthetic": False}
    card = model_card("own", CONFIG, training, found)
    assert "| 3, of them 1 training scans, cross-fitted in 2 folds: " in card
    assert "cross-fitted" not in model_card("own", CONFIG, training, before)


def test_a_training_scan_sets_no_scale_without_a_fold_or_with_cross_fitting_off(scored, fold):
    raw = read_raw(fold / f"score/raw/{HELD_OUT}.npz")
    others = [read_raw(scored / f"score/raw/{s}.npz") for s in ("sub-c1", "sub-c2")]
    calibrate.calibrate([*others, raw], Settings.of(SCORE), folds=2)
    with pytest.raises(NormctError, match=r"sub-t1 \(train\)"):
        calibrate.calibrate([*others, raw], Settings.of(SCORE))
    bare = replace(raw, arrays={k: v for k, v in raw.arrays.items() if k != FOLD})
    with pytest.raises(NormctError, match=r"sub-t1 \(train\)"):
        calibrate.calibrate([*others, bare], Settings.of(SCORE), folds=2)
    write_raw(fold / f"score/raw/{HELD_OUT}.npz", bare)
    write_maps(fold / f"score/maps/{HELD_OUT}.npz", {})
    assert not read_held_out(fold / f"score/raw/{HELD_OUT}.npz")
    with pytest.raises(NormctError, match="Only held-out healthy scans may make the reference, not sub-t1"):
        build_reference.build_reference(
            fold / "score", scored / "preprocess", calibrate=[HELD_OUT], stop=[], patients=2,
            settings=SCORE["calibrated"],
        )  # fmt: skip
