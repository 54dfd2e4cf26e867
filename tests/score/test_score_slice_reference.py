"""Slices among the same level of healthy patients: levels, people, leaving out, what a bundle keeps, older bundles."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from normct.common.files import read_json
from normct.score import combine
from normct.score.files import read_raw
from normct.score.percentile import level_standing, standing
from normct.score.scores import SliceScore
from normct.score.slice_reference import (
    at_levels,
    by_patient,
    own_slices,
    read_healthy_slices,
    read_own_slices,
    standings,
    write_healthy_slices,
)
from score.score_case import SCORE, row

DEPTH = 155
KEY = ("vae_kl", "calibrated", "0")


def usable(*places):
    found = np.zeros(DEPTH, bool)
    found[list(places)] = True
    return found


def ramp(start, *places):
    """A scan whose score is start + z."""
    return usable(*places), [SliceScore(*KEY, start + np.arange(DEPTH, dtype=float))]


def test_a_level_takes_the_nearest_usable_slice_within_reach():
    values = np.arange(DEPTH, dtype=float)
    found = at_levels(values, usable(40, 50), 6)
    assert np.flatnonzero(np.isfinite(found)).tolist() == list(range(34, 57))
    assert found[[34, 44, 45, 46, 56]].tolist() == [40, 40, 40, 50, 50]
    alone = at_levels(values, usable(40, 50), 0)
    assert np.flatnonzero(np.isfinite(alone)).tolist() == [40, 50]
    assert np.isnan(at_levels(values, usable(), 6)).all()


def test_people_are_counted_not_scans():
    """The highest of a patient's scans stands for the patient, whatever the others are."""
    scans = [("a", *ramp(0.0, 40)), ("a", *ramp(5.0, 40, 60)), ("b", *ramp(2.0, 40)), ("c", *ramp(9.0, 90))]
    patients = by_patient(scans, 0)
    assert [float(patients[p][KEY][40]) for p in ("a", "b")] == [45, 42]
    assert np.isnan(patients["c"][KEY][40])
    healthy = np.stack([patients[p][KEY] for p in "abc"])
    found = level_standing(np.full(DEPTH, 44.0), usable(40, 60, 90), healthy, None)
    at = {z: (int(found["rank"][z]), int(found["n_healthy"][z])) for z in (40, 60, 90, 41)}
    assert at == {40: (1, 2), 60: (0, 1), 90: (0, 1), 41: (0, 0)}  # 41 is not usable
    assert found["percentile"][40] == 33 and np.isnan(found["percentile"][41])
    assert not found["higher_than_all"].any()
    assert level_standing(np.full(DEPTH, 46.0), usable(40), healthy, None)["higher_than_all"][40]


def test_a_slice_stands_as_a_scan_would():
    rng = np.random.default_rng(0)
    healthy = np.sort(rng.standard_normal((24, DEPTH)).astype(np.float32), axis=0)
    values = rng.standard_normal(DEPTH) * 3
    found = level_standing(values, np.ones(DEPTH, bool), healthy, None)
    for z in range(DEPTH):
        expected = standing(float(np.float32(values[z])), healthy[:, z].tolist())
        assert {name: column[z] for name, column in found.items()} == expected
    assert found["percentile"].max() == 96 and found["higher_than_all"].any()


def test_position_has_no_place_among_the_same_level():
    trivial = [
        SliceScore(m, "trivial", "n/a", np.arange(DEPTH, dtype=float)) for m in ("slice_position", "mean_hu")
    ]
    assert set(by_patient([("a", usable(40), trivial)], 3)["a"]) == {("mean_hu", "trivial", "n/a")}


def test_what_a_bundle_keeps_names_nobody_and_ranks_alike(tmp_path):
    scans = [
        ("a", *ramp(0.0, *range(30, 60))),
        ("b", *ramp(8.0, *range(30, 50))),
        ("c", *ramp(4.0, *range(40, 90))),
    ]
    patients = by_patient(scans, 2)
    write_healthy_slices(tmp_path / "h.npz", patients)
    with np.load(tmp_path / "h.npz", allow_pickle=False) as content:
        assert content.files == ["/".join(KEY)]
        rows = content["/".join(KEY)]
    assert (np.diff(rows, axis=0)[~np.isnan(np.diff(rows, axis=0))] >= 0).all()  # sorted at each level
    assert not any(
        np.array_equal(rows[i], v[KEY], equal_nan=True) for i in range(3) for v in patients.values()
    )
    np.savez(tmp_path / "own.npz", **own_slices({"sub-a": "a"}, patients))
    own = read_own_slices(tmp_path / "own.npz", "sub-a")
    assert read_own_slices(tmp_path / "own.npz", "sub-x") == {}
    healthy = read_healthy_slices(tmp_path / "h.npz", [KEY, ("aae", "thesis", "0")])
    assert list(healthy) == [KEY]
    scores = scans[0][2]
    without = standings(scores, scans[0][1], {KEY: np.stack([patients[p][KEY] for p in "bc"])}, {})
    found = standings(scores, scans[0][1], healthy, own)
    for name in without:
        np.testing.assert_array_equal(found[name], without[name])
    assert set(found["n_healthy"][30:60]) == {1, 2}


def test_the_table_of_a_cohort(scored):
    """Test scans against both calibration patients, those against one another."""
    for subject, n in (("sub-x1", 2), ("sub-c1", 1)):
        frame = pd.read_parquet(scored / f"score/subjects/{subject}.parquet")
        frame = frame[frame["method"] != "slice_position"]
        own, other = frame[frame["usable"]], frame[~frame["usable"]]
        assert set(own["n_healthy"]) == {n} and set(other["n_healthy"]) == {0}
        assert own["percentile"].notna().all() and other["percentile"].isna().all()
        assert (own["percentile"] == 100 * own["rank"] // (n + 1)).all()
        assert (own["higher_than_all"] == (own["rank"] == n)).all()
        seeds = own["uncertainty_of"] == "seeds"
        assert set(own.loc[seeds, "seed"]) == {"all"} and own.loc[~seeds, "uncertainty"].isna().all()
        assert read_json(scored / f"score/subjects/{subject}.json")["slice_percentiles"] is None
    sick = pd.read_parquet(scored / "score/subjects/sub-x1.parquet").query(
        "method == 'fused' and seed == 'all'"
    )
    assert sick.set_index("z").loc[80, "higher_than_all"]
    # by hand: the other calibration scan's own slice at that level
    pair = [pd.read_parquet(scored / f"score/subjects/sub-c{i}.parquet") for i in (1, 2)]
    key = "method == 'fused' and score == 'fused' and seed == '0' and usable"
    first, second = (frame.query(key).set_index("z") for frame in pair)
    both = first.index.intersection(second.index)
    expected = first.loc[both, "value"].astype(np.float32) > second.loc[both, "value"].astype(np.float32)
    assert (first.loc[both, "rank"] == expected).all() and 0 < expected.sum() < len(both)


def test_an_older_bundle_gives_no_percentile_and_says_why(scored, tmp_path, caplog):
    score = scored / "score"
    combine.main(
        [str(score / "raw/sub-x1.npz"), str(scored / "preprocess/sub-x1/quality.json"), str(score / "calibration.json"),
         "--pooled", str(score / "pooled/sub-x1.npz"), "--row", row("sub-x1"), "--settings", json.dumps(SCORE),
         "--table", str(tmp_path / "t.parquet"), "--volumes", str(tmp_path / "v.json")]
    )  # fmt: skip
    frame = pd.read_parquet(tmp_path / "t.parquet")
    whole = pd.read_parquet(score / "subjects/sub-x1.parquet")
    assert (
        frame["percentile"].isna().all()
        and set(frame["n_healthy"]) == {0}
        and not frame["higher_than_all"].any()
    )
    for name in ("value", "uncertainty", "uncertainty_of"):
        pd.testing.assert_series_equal(frame[name], whole[name])
    record = read_json(tmp_path / "v.json")
    assert "recalibrate it" in record["slice_percentiles"]
    assert record["volumes"] == read_json(score / "subjects/sub-x1.json")["volumes"]


def test_healthy_slices_are_those_of_patients_with_usable_slices(scored):
    with np.load(scored / "score/healthy_slices.npz", allow_pickle=False) as content:
        assert all(
            content[name].shape == (2, DEPTH) and content[name].dtype == np.float32 for name in content.files
        )
        assert "fused/fused/all" in content.files and "multitask_pretrained/head/1" in content.files
        assert not [name for name in content.files if "sub-" in name or name.startswith("slice_position")]
        near = np.isfinite(content["fused/fused/all"]).any(axis=0)
    places = [np.flatnonzero(read_raw(scored / f"score/raw/sub-c{i}.npz").arrays["usable"]) for i in (1, 2)]
    reach = SCORE["calibrated"]["position_mm"]
    assert np.flatnonzero(near).min() == min(p.min() for p in places) - reach
    assert pytest.approx(np.flatnonzero(near).max()) == max(p.max() for p in places) + reach
