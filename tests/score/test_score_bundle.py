"""The bundle the stage makes: content, model card, and copying to another place."""

from __future__ import annotations

import json
import re

import pytest

from normct.common.bundle import BundleError, bundle_paths, read_bundle_config, verify_bundle
from normct.common.errors import NormctError
from normct.common.files import read_json, sha256
from normct.common.provenance import git_commit
from normct.models import load_model
from normct.score import copy_bundle as copying
from normct.score.bundle import frozen_config
from normct.score.copy_bundle import copy_bundle
from normct.score.model_card import model_card
from normct.score.verify_bundle import main as verify_main
from score.score_case import CONFIG, NETWORKS


def test_bundle_holds_all_that_inference_needs(scored):
    folder = scored / "score" / "bundle"
    manifest = verify_bundle(folder)
    assert {m for m, _ in NETWORKS} == set(manifest["methods"])
    assert manifest["seeds"] == [0, 1]
    assert manifest["training"] == {"scans": 2, "slices": 238, "stop": 1, "calibrate": 2, "synthetic": True}
    for method, seed in NETWORKS:
        path = bundle_paths(folder).weights(method, seed)
        assert sha256(path) == sha256(scored / f"train/{method}/seed-{seed}/model.safetensors")
        assert load_model(path)[1]["method"] == method
    assert sha256(bundle_paths(folder).healthy_slices) == sha256(scored / "score/healthy_slices.npz")
    assert sha256(bundle_paths(folder).reference) == sha256(scored / "score/reference.npz")
    assert read_json(bundle_paths(folder).calibration) == read_json(scored / "score/calibration.json")


def test_no_path_or_participant_leaves_with_the_bundle(scored):
    folder = scored / "score" / "bundle"
    text = (folder / "bundle.json").read_text("utf-8") + (folder / "calibration.json").read_text("utf-8")
    text += (folder / "model_card.md").read_text("utf-8")
    assert "mine.nii.gz" not in text
    assert not re.search(r"sub-[A-Za-z0-9]", text)
    assert str(scored) not in text
    assert frozen_config(CONFIG)["preprocess"]["register"]["atlas"] is None
    assert CONFIG["preprocess"]["register"]["atlas"] is not None
    read_bundle_config(folder, CONFIG)


def test_model_card_says_what_was_used_and_what_it_is_not_for(scored):
    card = (scored / "score/bundle/model_card.md").read_text("utf-8")
    for words in (
        "Research use only",
        "a **synthetic** cohort",
        "| training | 2 (238 usable slices) |",
        "Limits",
    ):
        assert words in card
    assert "2 healthy calibration scans" in card
    training = {"synthetic": False, "scans": 9, "slices": 9, "stop": 3, "methods": ["vae_kl"], "seeds": [0]}
    real = model_card("own", CONFIG, training, {"n_healthy": 24, "warning": None})
    assert "a **synthetic** cohort" not in real
    assert "Synthetic cohort" not in real
    assert "None" not in real


def test_commit_is_that_of_the_checkout_or_none():
    commit = git_commit()
    assert commit is None or re.fullmatch("[0-9a-f]{40}(-dirty)?", commit)


def test_copy_is_named_by_content_and_repeatable(scored, tmp_path, capsys):
    source = scored / "score" / "bundle"
    copying.main([str(source), str(tmp_path)])
    printed = capsys.readouterr().out.strip()
    assert printed == str(tmp_path / f"tiny-{sha256(source / 'bundle.json')[:8]}")
    assert verify_bundle(printed) == verify_bundle(source)
    assert copy_bundle(source, tmp_path) == tmp_path / printed
    verify_main([printed, str(tmp_path / "verified.json")])
    assert read_json(tmp_path / "verified.json")["files"] == 7 + len(NETWORKS)


def test_copy_refuses_a_broken_source_and_overwrites_nothing(scored, tmp_path):
    copied = copy_bundle(scored / "score" / "bundle", tmp_path)
    calibration = copied / "calibration.json"
    calibration.write_text(json.dumps(read_json(calibration) | {"n_healthy": 99}))
    changed = calibration.read_bytes()
    with pytest.raises(NormctError, match="not overwritten"):
        copy_bundle(scored / "score" / "bundle", tmp_path)
    assert calibration.read_bytes() == changed
    with pytest.raises(BundleError, match=r"calibration\.json"):
        copy_bundle(copied, tmp_path / "other")
    with pytest.raises(BundleError, match=r"calibration\.json"):
        verify_main([str(copied), str(tmp_path / "verified.json")])
    assert not (tmp_path / "verified.json").exists()
    assert not (tmp_path / "other").exists()
