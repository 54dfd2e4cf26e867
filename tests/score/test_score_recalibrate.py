"""A site's own bundle: the parent's networks byte for byte, the site's numbers, and who it comes from."""

from __future__ import annotations

import json

import pytest

from normct.common.bundle import bundle_checksum, read_bundle_config, read_manifest, verify_bundle
from normct.common.errors import NormctError
from normct.common.files import read_json, sha256, write_json
from normct.score import build_reference, recalibrate
from normct.score.recalibrate import recalibrated_name
from score.score_case import CONFIG, SCORE, run_calibrate, run_z


@pytest.fixture(scope="module")
def site(scored, tmp_path_factory):
    """Another site's calibration and reference, here of scans the parent was not calibrated on, and the new bundle."""
    out = tmp_path_factory.mktemp("site")
    own = ["sub-c2", "sub-c1"]
    run_z(scored, own, own)
    build_reference.main(
        [str(scored / "score"), str(scored / "preprocess"), "--calibrate", *own, "--patients", *own, "--settings",
         json.dumps(SCORE["calibrated"] | {"prior_scans": 9}), "--reference", str(out / "reference.npz"),
         "--sums", str(out / "sums.npz")]
    )  # fmt: skip
    preprocess = str(scored / "preprocess")
    run_calibrate(scored, own, SCORE | {"voxel_fpr": 0.05}, out, "--preprocess", preprocess)
    recalibrate.main(
        [str(scored / "score/bundle"), str(out / "bundle"), "--calibration", str(out / "calibration.json"),
         "--reference", str(out / "reference.npz"), "--healthy-slices", str(out / "healthy_slices.npz"),
         "--site", "Köln west"]
    )  # fmt: skip
    return out


def test_networks_are_the_parents_and_numbers_the_sites(scored, site):
    parent, new = scored / "score/bundle", site / "bundle"
    manifest = verify_bundle(new)
    old = read_manifest(parent)
    assert manifest["name"] == "tiny-K_ln_west"
    assert manifest["parent"] == {"name": "tiny", "checksum": sha256(parent / "bundle.json")}
    assert bundle_checksum(new) != bundle_checksum(parent)
    renewed = {"calibration.json", "reference.npz", "healthy_slices.npz", "model_card.md"}
    assert set(manifest["files"]) == set(old["files"])
    for name in manifest["files"]:
        assert (manifest["files"][name] == old["files"][name]) == (name not in renewed), name
    assert read_json(new / "calibration.json") == read_json(site / "calibration.json")
    assert sha256(new / "reference.npz") == sha256(site / "reference.npz")
    # scans may be scored with it under the parent's own configuration
    assert read_bundle_config(new, CONFIG) == read_bundle_config(parent, CONFIG)


def test_card_names_the_parent_and_warns_of_few_scans(site):
    card = (site / "bundle/model_card.md").read_text("utf-8")
    assert "**Recalibrated** from `tiny`" in card
    assert "2 healthy calibration scans" in card
    assert "Not evaluated at this site" in card
    assert "sub-" not in card + (site / "bundle/calibration.json").read_text("utf-8")


def test_one_scan_is_refused(scored, site, tmp_path):
    made = read_json(site / "calibration.json")
    write_json(tmp_path / "calibration.json", made | {"n_healthy": 1})
    with pytest.raises(NormctError, match="two or more, and about 20"):
        recalibrate.recalibrate(
            scored / "score/bundle",
            tmp_path / "bundle",
            calibration=tmp_path / "calibration.json",
            reference=site / "reference.npz",
            healthy_slices=site / "healthy_slices.npz",
            site="x",
        )
    assert not (tmp_path / "bundle").exists()


def test_names_are_fit_for_a_folder():
    assert recalibrated_name("normct", "../../etc/passwd") == "normct-etc_passwd"
    assert recalibrated_name("normct", "Köln") == "normct-K_ln"
    assert recalibrated_name("normct", "..") == "normct-site"
