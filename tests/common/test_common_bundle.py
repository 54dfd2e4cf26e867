"""The model bundle: what is refused, and what copying keeps."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from normct.common.bundle import (
    BundleError,
    bundle_checksum,
    bundle_paths,
    read_bundle_config,
    read_manifest,
    verify_bundle,
    write_bundle,
)
from normct.common.errors import ConfigError
from normct.common.files import read_json, sha256, write_json

CONFIG = {
    "preprocess": {"slices": {"window": [0, 80]}, "register": {"atlas": None, "pitch_starts": [-30, 0]}},
    "score": {"lambda": 0.5, "bundle_name": "tiny"},
    "train": {"seeds": [0]},
}
FIELDS = {
    "name": "tiny",
    "created_by": "normct 0",
    "config": CONFIG,
    "methods": ["vae_kl"],
    "seeds": [0],
    "versions": {"numpy": np.__version__},
    "commit": None,
    "training": {"scans": 3},
}
WEIGHTS = "weights/vae_kl__seed-0.safetensors"


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    source = tmp_path / "source"
    source.mkdir()
    header = json.dumps({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
    (source / "w").write_bytes(len(header).to_bytes(8, "little") + header + bytes(8))
    np.savez(source / "statistical.npz", mean=np.zeros(3))
    (source / "atlas").write_bytes(b"\x1f\x8b image")
    write_json(source / "calibration.json", {"alpha": {}})
    files = {
        WEIGHTS: source / "w",
        "atlas.nii.gz": source / "atlas",
        "atlas_mask.nii.gz": source / "atlas",
        "statistical_atlas.npz": source / "statistical.npz",
        "reference.npz": source / "statistical.npz",
        "calibration.json": source / "calibration.json",
    }
    write_bundle(tmp_path / "bundle", FIELDS, files, {"model_card.md": "# tiny\n"})
    return tmp_path / "bundle"


def reseal(bundle: Path, name: str) -> None:
    """Make the manifest agree with a file again, as an attacker would."""
    manifest = read_json(bundle / "bundle.json")
    path = bundle / name
    manifest["files"][name] = {"size": path.stat().st_size, "sha256": sha256(path)}
    write_json(bundle / "bundle.json", manifest)


def refused(bundle: Path, match: str) -> None:
    with pytest.raises(BundleError, match=match):
        verify_bundle(bundle)


def test_whole_bundle_holds_and_names_its_parts(bundle):
    manifest = verify_bundle(bundle)
    assert manifest["format"] == 1
    assert bundle_paths(bundle).weights("vae_kl", 0) == bundle / WEIGHTS
    assert read_bundle_config(bundle, CONFIG) == CONFIG
    assert bundle_checksum(bundle) == sha256(bundle / "bundle.json")[:8]
    assert not list(bundle.parent.glob(".part-*"))


@pytest.mark.parametrize("name", [WEIGHTS, "calibration.json", "model_card.md", "statistical_atlas.npz"])
def test_one_changed_byte_is_refused(bundle, name):
    content = bytearray((bundle / name).read_bytes())
    content[-1] ^= 1
    (bundle / name).write_bytes(content)
    refused(bundle, f"{name}: changed since the bundle was made")


def test_missing_and_truncated_files_are_found_by_stat_alone(bundle):
    (bundle / "calibration.json").unlink()
    (bundle / "atlas.nii.gz").write_bytes(b"\x1f")
    with pytest.raises(BundleError) as error:
        read_bundle_config(bundle, CONFIG)
    assert error.value.faults == ["atlas.nii.gz: 1 bytes, 8 expected", "calibration.json: missing"]


def test_extra_file_is_refused(bundle):
    (bundle / "weights" / "extra.safetensors").write_bytes(b"x")
    refused(bundle, "weights/extra.safetensors: not part of the bundle")


def test_links_are_refused_even_to_the_same_content(bundle, tmp_path):
    shutil.move(bundle / "calibration.json", tmp_path / "elsewhere.json")
    (bundle / "calibration.json").symlink_to(tmp_path / "elsewhere.json")
    refused(bundle, r"calibration.json: missing")
    (bundle / "calibration.json").unlink()
    shutil.copy(tmp_path / "elsewhere.json", bundle / "calibration.json")
    verify_bundle(bundle)
    (bundle / "linked").symlink_to(tmp_path)
    refused(bundle, "linked: a link")


def test_pickled_objects_are_refused_though_the_checksum_agrees(bundle):
    np.savez(bundle / "statistical_atlas.npz", mean=np.array([{"a": 1}], dtype=object))
    reseal(bundle, "statistical_atlas.npz")
    refused(bundle, "statistical_atlas.npz: not a plain npz")


def test_pickle_named_safetensors_is_refused_though_the_checksum_agrees(bundle):
    import pickle

    (bundle / WEIGHTS).write_bytes(pickle.dumps({"weights": list(range(100))}))
    reseal(bundle, WEIGHTS)
    refused(bundle, "not a safetensors file")


@pytest.mark.parametrize("name", ["../outside.json", "/etc/hosts.json", "model.pt", "a\\b.json"])
def test_names_that_leave_the_folder_or_carry_code_are_refused(bundle, name):
    manifest = read_json(bundle / "bundle.json")
    manifest["files"][name] = {"size": 1, "sha256": "0" * 64}
    write_json(bundle / "bundle.json", manifest)
    refused(bundle, "not a name a bundle may hold")


def test_manifest_must_be_whole(bundle):
    manifest = read_json(bundle / "bundle.json")
    for broken, match in (
        (manifest | {"format": 99}, "format 99: made by normct 0"),
        ({k: v for k, v in manifest.items() if k != "methods"}, "'methods' is a required property"),
        (manifest | {"methods": ["vae_kl", "cevae"]}, "weights/cevae__seed-0.safetensors: not named"),
    ):
        write_json(bundle / "bundle.json", broken)
        refused(bundle, match)
    (bundle / "bundle.json").write_text("{")
    refused(bundle, "not JSON")
    (bundle / "bundle.json").unlink()
    with pytest.raises(BundleError, match="make bundle"):
        read_manifest(bundle)


def test_differing_config_names_each_key_with_both_values(bundle):
    config = copy.deepcopy(CONFIG)
    config["preprocess"]["slices"]["window"] = [0, 100]
    config["score"] |= {"lambda": 0.25, "new_key": 1}
    del config["preprocess"]["register"]["pitch_starts"]
    with pytest.raises(ConfigError) as error:
        read_bundle_config(bundle, config)
    assert error.value.faults == [
        "preprocess.register.pitch_starts: not set in the configuration, [-30, 0] in the bundle",
        "preprocess.slices.window: [0, 100] in the configuration, [0, 80] in the bundle",
        "score.lambda: 0.25 in the configuration, 0.5 in the bundle",
        "score.new_key: 1 in the configuration, not set in the bundle",
    ]


def test_training_handoff_name_and_the_users_atlas_may_differ(bundle):
    config = copy.deepcopy(CONFIG)
    config["train"] = {"seeds": [1, 2, 3]}
    config["handoff"] = {"method": "cevae"}
    config["score"]["bundle_name"] = "other"
    # older bundles know nothing of it, and a frozen calibration is as it was made
    config["score"]["cross_fit"] = 5
    config["preprocess"]["register"]["atlas"] = {"image": "a.nii.gz", "mask": "m.nii.gz"}
    assert read_bundle_config(bundle, config) == CONFIG


def test_a_second_pass_needs_its_mean_brain_in_the_bundle(tmp_path, bundle):
    manifest = read_json(bundle / "bundle.json")
    manifest["config"]["preprocess"]["register"]["second_pass"] = True
    write_json(bundle / "bundle.json", manifest)
    refused(bundle, "mean_brain.nii.gz: not named")
    for path in (bundle_paths(bundle).mean_brain, bundle_paths(bundle).mean_brain_mask):
        path.write_bytes(b"\x1f\x8b image")
        reseal(bundle, path.name)
    verify_bundle(bundle)


def test_failed_write_leaves_nothing(tmp_path, bundle):
    with pytest.raises(BundleError, match=r"atlas\.nii\.gz: not named"):
        write_bundle(tmp_path / "half", FIELDS, {}, {"model_card.md": "#"})
    assert not (tmp_path / "half").exists()
    assert not list(tmp_path.glob(".part-*"))
