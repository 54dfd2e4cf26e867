"""Calibration: alpha, thresholds, and the refusal of scans that must not set them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from normct.common.errors import NormctError
from normct.common.files import read_json
from normct.score.calibrate import calibrate
from normct.score.files import read_maps, read_raw
from normct.score.scores import Settings
from normct.score.tail_quantile import TailQuantile
from normct.score.thesis import head_score
from normct.score.voxel_thresholds import thresholds, voxel_thresholds
from score.score_case import ROLES, SCORE

SETTINGS = Settings.of(SCORE)


def load(root, subject):
    return read_raw(root / f"score/raw/{subject}.npz")


@pytest.mark.parametrize("role", ["train", "test", "unlabelled"])
def test_other_roles_are_refused_by_name(scored, role):
    wrong = replace(load(scored, "sub-x1"), role=role)
    with pytest.raises(NormctError, match=rf"sub-x1 \({role}\)"):
        calibrate([load(scored, "sub-c1"), wrong], SETTINGS)


def test_early_stopping_scans_are_refused_beside_calibration_scans_and_warned_of_alone(scored):
    stop = replace(load(scored, "sub-c1"), role="stop")
    with pytest.raises(NormctError, match="stop"):
        calibrate([stop, load(scored, "sub-c2")], SETTINGS)
    assert "calibrate too" in calibrate([stop], SETTINGS)["warning"]


def test_nobody_left_is_said_in_words(scored):
    aside = replace(load(scored, "sub-x2"), role="calibrate")
    with pytest.raises(NormctError, match="quality control"):
        calibrate([aside], SETTINGS)


def test_alpha_equalises_the_spread_over_usable_calibration_slices(scored):
    alpha = read_json(scored / "score/calibration.json")["alpha"]
    raws = [load(scored, s) for s, role in ROLES.items() if role == "calibrate"]
    for seed in ("0", "1"):
        key = f"multitask_pretrained/{seed}"
        l2 = np.concatenate([r.arrays[f"{key}/residual_l2"][r.arrays["usable"]] for r in raws])
        s_c = np.concatenate([head_score(r.arrays[f"{key}/log_p"])[r.arrays["usable"]] for r in raws])
        assert np.std(alpha["multitask_pretrained"][seed] * l2) == pytest.approx(np.std(s_c))
        plain = np.concatenate([r.arrays[f"vae_kl/{seed}/residual_l2"][r.arrays["usable"]] for r in raws])
        assert np.std(alpha["vae_kl"][seed] * plain) == pytest.approx(1.0)


def test_threshold_lets_the_stated_share_of_healthy_voxels_through(scored):
    calibration = read_json(scored / "score/calibration.json")
    maps = [read_maps(scored / f"score/maps/{s}.npz") for s, role in ROLES.items() if role == "calibrate"]
    for method, seed in (("vae_kl", "0"), ("multitask_pretrained", "1")):
        voxels = np.abs(np.concatenate([m[f"{method}/seed-{seed}"] for m in maps]).astype(np.float32))
        assert (voxels >= calibration["seed_thresholds"][method][seed]).mean() == pytest.approx(
            0.01, abs=1e-3
        )
    z = np.abs(np.concatenate([m["statistical_atlas"] for m in maps]).astype(np.float32))
    assert (z >= calibration["thresholds"]["statistical_atlas"]).mean() == pytest.approx(0.01, abs=1e-3)
    mean = np.abs(
        np.concatenate([(m["vae_kl/seed-0"] + m["vae_kl/seed-1"].astype(np.float32)) / 2 for m in maps])
    )
    assert (mean >= calibration["thresholds"]["vae_kl"]).mean() == pytest.approx(0.01, abs=1e-3)


def test_streaming_quantile_equals_the_whole_arrays():
    values = np.abs(np.random.default_rng(0).standard_normal(50_000)) * 0.2
    tail = TailQuantile(2.0)
    for part in np.array_split(values, 7):
        tail.add(part)
    assert tail.threshold(0.05) == pytest.approx(np.quantile(values, 0.95), abs=2e-4)


def test_values_beyond_the_histogram_do_not_get_lost():
    tail = TailQuantile(2.0)
    tail.add(np.array([0.5, 7.0, 9.0]))
    assert tail.threshold(0.01) == 9.0
    assert thresholds([], 0.01) == ({}, {})


def test_few_scans_are_warned_of_and_counted(scored):
    calibration = read_json(scored / "score/calibration.json")
    assert calibration["n_healthy"] == 2
    assert calibration["warning"].startswith("2 healthy calibration scans")
    healthy = calibration["healthy"]
    assert set(healthy["multitask_pretrained"]) == {"thesis", "head", "residual", "calibrated"}
    assert set(healthy["vae_kl"]["thesis"]) == {"0", "1", "all"}
    assert all(
        len(v) == 2 for scores in healthy.values() for seeds in scores.values() for v in seeds.values()
    )
    assert "slice_position" not in healthy


def test_thresholds_are_of_calibration_scans_alone_and_go_into_the_calibration(scored):
    score, preprocess = scored / "score", scored / "preprocess"
    with pytest.raises(NormctError, match=r"sub-x1 \(test\)"):
        voxel_thresholds(score, preprocess, ["sub-c1", "sub-x1"], 0.01)
    found = voxel_thresholds(score, preprocess, ["sub-c1", "sub-c2"], 0.01)
    assert found == read_json(score / "voxel_thresholds.json")
    calibration = read_json(score / "calibration.json")
    calibrated = found.pop("calibrated")
    assert {name: calibration[name] for name in found} == found
    assert {name: calibration["calibrated"][name] for name in calibrated} == calibrated
    assert calibration["calibrated"]["n_scans"] == 2
    strict = voxel_thresholds(score, preprocess, ["sub-c1", "sub-c2"], 0.001)
    assert strict["thresholds"]["vae_kl"] > found["thresholds"]["vae_kl"]
    assert strict["calibrated"]["thresholds"]["fused"] > calibrated["thresholds"]["fused"]
