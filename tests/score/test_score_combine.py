"""Combination and export: scores by hand, percentiles, other settings without inference, set-aside scans."""

from __future__ import annotations

import gzip
import io
import json
import shutil

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from normct.common.errors import NormctError
from normct.common.files import read_json
from normct.common.registry import TRIVIAL
from normct.score import calibrate, export
from normct.score.combine import COLUMNS
from normct.score.files import read_raw
from normct.score.percentile import standing
from normct.score.thesis import head_score
from score.score_case import ROLES, SCORE, run_combine

VALUES = st.lists(st.floats(-5, 5), min_size=1, max_size=40)


def table(root, subject="sub-x1"):
    return pd.read_parquet(root / f"score/subjects/{subject}.parquet")


def pick(frame, method, score, seed):
    return frame.query("method == @method and score == @score and seed == @seed").set_index("z")["value"]


def test_scores_equal_the_formula_by_hand(scored):
    raw = read_raw(scored / "score/raw/sub-x1.npz").arrays
    calibration = read_json(scored / "score/calibration.json")
    frame, members = table(scored), []
    for seed in ("0", "1"):
        alpha = calibration["alpha"]["multitask_pretrained"][seed]
        p = np.exp(raw[f"multitask_pretrained/{seed}/log_p"].astype(np.float64))
        s_c = (1 - p.mean(axis=2)).mean(axis=1)
        s_r = alpha * raw[f"multitask_pretrained/{seed}/residual_l2"]
        members.append(0.5 * s_c + 0.5 * s_r)
        np.testing.assert_allclose(
            pick(frame, "multitask_pretrained", "thesis", seed), members[-1], rtol=1e-6
        )
        np.testing.assert_allclose(pick(frame, "multitask_pretrained", "head", seed), s_c, rtol=1e-6)
        np.testing.assert_allclose(pick(frame, "multitask_pretrained", "residual", seed), s_r, rtol=1e-6)
    np.testing.assert_allclose(
        pick(frame, "multitask_pretrained", "thesis", "all"), np.mean(members, axis=0), rtol=1e-6
    )


def test_table_has_every_slice_and_the_contract_columns(scored):
    frame = table(scored)
    assert tuple(frame.columns) == COLUMNS
    groups = frame.groupby(["method", "score", "seed"])
    assert (groups.size() == 155).all()
    assert set(frame["method"]) == {"vae_kl", "multitask_pretrained", "fused", *TRIVIAL} - {"acquisition"}
    assert set(frame.query("score == 'trivial'")["seed"]) == {"n/a"}
    assert not frame["value"].isna().any()
    assert (
        frame["usable"].sum()
        == len(groups) * read_raw(scored / "score/raw/sub-x1.npz").arrays["usable"].sum()
    )
    assert (frame["pathology"].unique(), frame["role"].unique()) == (["icb"], ["test"])


def test_volume_score_is_the_mean_over_usable_slices(scored):
    record, frame = read_json(scored / "score/subjects/sub-x1.json"), table(scored)
    volumes = {(v["method"], v["score"], v["seed"]): v for v in record["volumes"]}
    usable = frame[frame["usable"]].groupby(["method", "score", "seed"])["value"].mean()
    for key, volume in volumes.items():
        if key[0] != "acquisition" and key[1] not in {"calibrated", "fused"}:
            assert volume["value"] == pytest.approx(usable[key])
    assert ("acquisition", "trivial", "n/a") in volumes
    assert ("slice_position", "trivial", "n/a") not in volumes
    assert record["thresholds"].keys() == {"vae_kl", "multitask_pretrained", "statistical_atlas"}
    assert volumes["statistical_atlas", "trivial", "n/a"]["higher_than_all"]


def test_calibration_scans_are_not_ranked_against_themselves(scored):
    for subject in ("sub-c1", "sub-c2"):
        volumes = read_json(scored / f"score/subjects/{subject}.json")["volumes"]
        assert {v["n_healthy"] for v in volumes} == {1}
    assert {v["n_healthy"] for v in read_json(scored / "score/subjects/sub-x1.json")["volumes"]} == {2}


def test_other_lambda_needs_calibration_and_combination_only(scored, tmp_path):
    settings = SCORE | {"lambda": 1.0, "head": {"combine": "product", "anomaly": "1-p"}}
    score = tmp_path / "score"
    for folder in ("raw", "pooled"):  # no map: the thresholds are those there are
        shutil.copytree(scored / "score" / folder, score / folder)
    calibrators = [s for s, role in ROLES.items() if role == "calibrate"]
    arguments = [str(score), str(score / "calibration.json"), "--left-out", str(score / "left_out.npz")]
    arguments += ["--voxels", str(scored / "score/voxel_thresholds.json")]
    arguments += ["--healthy-slices", str(score / "healthy_slices.npz")]
    people = ["--subjects", *calibrators, "--patients", *calibrators]
    calibrate.main([*arguments, *people, "--settings", json.dumps(settings)])
    run_combine(scored, "sub-x1", settings, score)
    frame = table(tmp_path)
    np.testing.assert_array_equal(
        pick(frame, "multitask_pretrained", "thesis", "0"),
        pick(frame, "multitask_pretrained", "residual", "0"),
    )
    raw = read_raw(scored / "score/raw/sub-x1.npz").arrays
    expected = head_score(raw["multitask_pretrained/0/log_p"], "product")
    np.testing.assert_allclose(pick(frame, "multitask_pretrained", "head", "0"), expected)


def test_calibration_of_other_settings_is_refused(scored, tmp_path):
    shutil.copy(scored / "score/calibration.json", tmp_path)
    with pytest.raises(NormctError, match="other score settings"):
        run_combine(scored, "sub-x1", SCORE | {"lambda": 0.9}, tmp_path)


def test_scan_set_aside_flows_through_as_empty(scored):
    frame, record = table(scored, "sub-x2"), read_json(scored / "score/subjects/sub-x2.json")
    assert frame.empty
    assert tuple(frame.columns) == COLUMNS
    assert (frame.dtypes == table(scored).dtypes).all()
    assert (record["verdict"], record["volumes"]) == ("fail", [])


def test_export_has_usable_slices_only_and_stable_bytes(scored, tmp_path):
    first = (scored / "score/slices.csv.gz").read_bytes()
    frame = pd.read_csv(io.BytesIO(gzip.decompress(first)), keep_default_na=False)
    assert tuple(frame.columns) == export.SLICES
    assert set(frame["participant_id"]) == {"sub-c1", "sub-c2", "sub-x1"}
    expected = sum(int(table(scored, s)["usable"].sum()) for s in ("sub-c1", "sub-c2", "sub-x1"))
    assert len(frame) == expected
    assert set(frame["seed"]) == {"0", "1", "all", "n/a"}
    ranked = frame.query("method == 'fused' and seed == 'all' and participant_id == 'sub-x1'")
    assert set(ranked["n_healthy"]) == {2} and set(ranked["percentile"]) <= {"0", "33", "66"}
    assert (ranked["uncertainty"].astype(float) >= 0).all() and set(ranked["uncertainty_of"]) == {"seeds"}
    held_out = [s for s, role in ROLES.items() if role != "train"]
    export.export(scored / "score/subjects", held_out, tmp_path / "s.csv.gz", tmp_path / "v.csv")
    assert (tmp_path / "s.csv.gz").read_bytes() == first
    assert (tmp_path / "v.csv").read_bytes() == (scored / "score/volumes.csv").read_bytes()
    volumes = pd.read_csv(tmp_path / "v.csv", keep_default_na=False)
    assert tuple(volumes.columns) == export.VOLUMES
    assert set(volumes["participant_id"]) == {"sub-c1", "sub-c2", "sub-x1"}


def test_percentile_by_hand_with_ties():
    healthy = [1.0, 2.0, 2.0, 3.0]
    assert standing(2.0, healthy) == {"rank": 1, "n_healthy": 4, "percentile": 20, "higher_than_all": False,
                                      "percentile_low": 0, "percentile_high": 81}  # fmt: skip
    assert standing(3.0, healthy)["higher_than_all"] is False
    assert standing(3.5, healthy) == {"rank": 4, "n_healthy": 4, "percentile": 80, "higher_than_all": True,
                                      "percentile_low": 39, "percentile_high": 100}  # fmt: skip
    assert standing(0.0, healthy)["percentile"] == 0
    assert standing(3.0, healthy, own=True) == {
        "rank": 3, "n_healthy": 3, "percentile": 75, "higher_than_all": True,
        "percentile_low": 29, "percentile_high": 100,
    }  # fmt: skip
    assert standing(1.0, [], own=False) == {
        "rank": 0, "n_healthy": 0, "percentile": None, "higher_than_all": False,
        "percentile_low": None, "percentile_high": None,
    }  # fmt: skip


def test_percentile_interval_against_scipy():
    from scipy.stats import binomtest

    for rank, n in ((0, 5), (3, 24), (24, 24), (12, 300)):
        found = standing(rank - 0.5, list(range(n)))
        exact = binomtest(rank, n).proportion_ci(method="exact")
        assert found["percentile_low"] <= 100 * exact.low < found["percentile_low"] + 1
        assert found["percentile_high"] - 1 < 100 * exact.high <= found["percentile_high"]


def test_percentile_has_no_more_digits_than_scans_allow():
    assert standing(1e9, list(range(24)))["percentile"] == 96
    assert standing(1e9, list(range(300)))["percentile"] == 99  # never 100, though 99.67 would round to it
    assert standing(1e9, list(range(999)))["percentile"] == 99.9


@given(healthy=VALUES, value=st.floats(-6, 6))
def test_percentile_never_decreases_with_the_score_nor_reaches_100(healthy, value):
    low, high = standing(value, healthy), standing(value + 1.0, healthy)
    assert 0 <= low["percentile"] <= high["percentile"] < 100
    assert low["higher_than_all"] == (value > max(healthy))
