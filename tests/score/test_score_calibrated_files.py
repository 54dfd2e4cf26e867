"""The calibrated score through the files of the stage: leaving out, set-aside scans, lone patients."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pandas as pd
import pytest

from factories import ellipsoid
from normct.common.errors import NormctError
from normct.common.files import read_json
from normct.common.slices import read_slices
from normct.score import build_reference, calibrated_map
from normct.score.calibrate_z import add_calibrated
from normct.score.calibrated import CalibratedSettings, read_left_out
from normct.score.files import read_maps, read_raw
from normct.score.files_calibrated import ReferenceFile, SumsFile, read_pooled
from normct.score.positions import position_statistics
from normct.score.reference import Frame, ReferenceSettings, statistics
from score.score_case import ROLES, SCORE

ALL = CalibratedSettings(0.01, 8.0, 0.0, 0.1)


def test_reference_file_gives_back_the_statistics(scored):
    reference = ReferenceFile(scored / "score/reference.npz")
    sums = SumsFile(scored / "score/reference_sums.npz")
    assert reference.patients == 2
    chosen = ReferenceSettings.of(SCORE["calibrated"])
    exact = statistics(sums.sums("vae_kl/seed-1"), chosen)
    store = read_slices(scored / "preprocess/sub-x1/slices.npz")
    frame = Frame(store.mask, chosen)
    residual = frame.smooth(read_maps(scored / "score/maps/sub-x1.npz")["vae_kl/seed-1"])
    packed = reference.statistics("vae_kl/seed-1").z(frame, residual, 4.0)
    np.testing.assert_allclose(packed, exact.z(frame, residual, 4.0), rtol=0.02, atol=0.02)
    with pytest.raises(NormctError, match="knows nothing of cevae"):
        reference.statistics("cevae/seed-0")


def test_stage_marks_the_lesion_and_keeps_the_contract(scored):
    store = read_slices(scored / "preprocess/sub-x1/slices.npz")
    z = read_maps(scored / "score/calibrated/sub-x1.npz")
    assert set(z) == {"vae_kl", "multitask_pretrained", "statistical_atlas", "fused"}
    assert all(v.dtype == np.float16 and v.shape == (store.mask.sum(),) for v in z.values())
    inside = np.zeros(store.mask.shape, bool)
    inside[80, 72:78, 46:51] = True
    fused = z["fused"].astype(float)
    limit = read_json(scored / "score/calibration.json")["calibrated"]["thresholds"]["fused"]
    assert np.median(fused[inside[store.mask]]) > limit > 1
    record = read_json(scored / "score/subjects/sub-x1.json")
    rows = {(v["method"], v["score"], v["seed"]): v for v in record["volumes"]}
    best = rows["fused", "fused", "all"]
    assert best["higher_than_all"]
    assert best["hyper"] > best["hypo"]
    assert ("statistical_atlas", "calibrated", "n/a") in rows
    assert ("vae_kl", "calibrated", "all") in rows
    assert record["calibrated_thresholds"]["fused"] == limit
    frame = pd.read_parquet(scored / "score/subjects/sub-x1.parquet")
    peak = frame.query("method == 'fused' and seed == 'all'").set_index("z")["value"].idxmax()
    assert 71 <= peak <= 89


def test_calibration_scan_is_scored_with_the_other_one_only(scored):
    own = read_left_out(scored / "score/left_out.npz", "sub-c1")
    other = read_pooled(scored / "score/pooled/sub-c2.npz", 0.01)
    usable = read_raw(scored / "score/raw/sub-c2.npz").arrays["usable"]
    key = ("vae_kl", "0")
    expected = np.stack(position_statistics([(other[key], usable)], SCORE["calibrated"]["position_mm"]))
    np.testing.assert_allclose(own[key], expected, rtol=1e-5)
    assert read_left_out(scored / "score/left_out.npz", "sub-x1") is None


def test_a_spike_planted_in_a_calibration_scan_is_not_standardised_by_itself(scored, tmp_path):
    score = tmp_path / "score"
    for folder in ("raw", "maps"):
        shutil.copytree(scored / "score" / folder, score / folder)
    maps = read_maps(score / "maps/sub-c1.npz")
    store = read_slices(scored / "preprocess/sub-c1/slices.npz")
    ball = ellipsoid(store.mask.shape, (70, 60, 70), (6, 3, 3))[store.mask]
    np.savez(
        score / "maps/sub-c1.npz", **{k: np.where(ball, v + 2, v).astype(np.float16) for k, v in maps.items()}
    )
    settings = json.dumps(SCORE["calibrated"])
    files = [str(score / "reference.npz"), str(score / "reference_sums.npz")]
    calibrators = [s for s, role in ROLES.items() if role == "calibrate"]
    shared = [str(score), str(scored / "preprocess")]
    build_reference.main(
        [*shared, "--calibrate", *calibrators, "--patients", *calibrators, "--settings", settings,
         "--reference", files[0], "--sums", files[1]]
    )  # fmt: skip
    found = {}
    for name, arguments in (("left", [files[1], "--own", "sub-c1"]), ("in", [files[0]])):
        calibrated_map.main(
            ["sub-c1", *shared, *arguments, "--settings", json.dumps(SCORE), "--maps",
             str(tmp_path / f"{name}.npz"), "--pooled", str(tmp_path / "p.npz")]
        )  # fmt: skip
        found[name] = np.median(read_maps(tmp_path / f"{name}.npz")["vae_kl"][ball].astype(float))
    assert found["left"] > 5 * found["in"]


def test_same_scan_same_bytes(scored, tmp_path):
    calibrated_map.main(
        ["sub-x1", str(scored / "score"), str(scored / "preprocess"), str(scored / "score/reference.npz"),
         "--settings", json.dumps(SCORE), "--maps", str(tmp_path / "z.npz"),
         "--pooled", str(tmp_path / "p.npz")]
    )  # fmt: skip
    for ours, theirs in (("z", "calibrated"), ("p", "pooled")):
        first = np.load(tmp_path / f"{ours}.npz")
        second = np.load(scored / f"score/{theirs}/sub-x1.npz")
        assert first.files == second.files
        assert all(first[name].tobytes() == second[name].tobytes() for name in first.files)


def test_scan_set_aside_has_no_z(scored):
    assert read_maps(scored / "score/calibrated/sub-x2.npz") == {}
    assert read_pooled(scored / "score/pooled/sub-x2.npz", 0.01) == {}


def test_training_and_test_scans_make_no_reference(scored):
    with pytest.raises(NormctError, match="sub-x1"):
        build_reference.build_reference(
            scored / "score", scored / "preprocess", calibrate=["sub-c1", "sub-x1"], stop=[], patients=2,
            settings=SCORE["calibrated"],
        )  # fmt: skip


def test_one_calibration_patient_gives_no_calibrated_scores_and_says_so(scored, tmp_path):
    arguments = ["--calibrate", "sub-c1", "sub-c2", "--patients", "p", "p"]
    build_reference.main(
        [str(scored / "score"), str(scored / "preprocess"), *arguments, "--settings",
         json.dumps(SCORE["calibrated"]), "--reference", str(tmp_path / "r.npz"),
         "--sums", str(tmp_path / "s.npz")]
    )  # fmt: skip
    assert ReferenceFile(tmp_path / "r.npz").keys == []
    calibrated_map.main(
        ["sub-x1", str(scored / "score"), str(scored / "preprocess"), str(tmp_path / "r.npz"), "--settings",
         json.dumps(SCORE), "--maps", str(tmp_path / "z.npz"), "--pooled", str(tmp_path / "p.npz")]
    )  # fmt: skip
    assert read_maps(tmp_path / "z.npz") == {}
    result = {"healthy": {}, "warning": None}
    raws = [read_raw(scored / "score/raw/sub-c1.npz")]
    others = add_calibrated(result, raws=raws, pooled=[{}], patients=["p"], settings=ALL)
    assert others == {}
    assert "two calibration patients" in result["warning"]
    assert result["calibrated"]["positions"] == {}
