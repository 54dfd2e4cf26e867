from __future__ import annotations

import json
import tracemalloc
import weakref

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from evaluate_case import Scan, write_cohort

from conftest import Path, collect_all
from normct.evaluate import collect
from normct.evaluate.data import (
    accepted_test,
    ordered,
    read_cohort,
    read_slice_scores,
    read_volume_scores,
    read_volumes,
)

KEY = ["method", "score", "seed"]


def own_files(root: Path, subjects) -> pd.DataFrame:
    """Slice scores from the scans' own files, one below the other."""
    return pd.concat([pd.read_parquet(root / f"score/subjects/{sub}.parquet") for sub in subjects])


@pytest.mark.parametrize("slices", ["usable", "all"])
def test_slices_are_those_of_the_scans_own_files_bit_for_bit(scored, collected, slices):
    scans = accepted_test(read_cohort(collected))
    scores = read_slice_scores(collected, scans, slices)
    rows = own_files(scored, scans["participant_id"])
    rows = rows[rows["usable"] | (slices == "all")]
    assert scores.columns == ordered(zip(*(rows[name] for name in KEY), strict=True))
    for i, (method, score, seed) in enumerate(scores.columns):
        one = rows[(rows["method"] == method) & (rows["score"] == score) & (rows["seed"] == seed)]
        for name in ("participant_id", "z", "brain_pixels", "lesion_pixels", "usable", "group", "patient"):
            assert scores.units[name].tolist() == one[name].tolist()
        assert scores.values(i).tobytes() == one["value"].to_numpy().tobytes()
    assert scores.matrix().flags.c_contiguous  # sums over columns depend on the order of the memory


def test_volumes_are_those_of_the_scans_own_files(scored, collected):
    scans = accepted_test(read_cohort(collected))
    scores = read_volume_scores(collected, scans)
    assert scores.units["participant_id"].tolist() == scans["participant_id"].tolist()
    table = read_volumes(collected)
    rows = 0
    for i, sub in enumerate(scans["participant_id"]):
        for entry in json.loads((scored / f"score/subjects/{sub}.json").read_text())["volumes"]:
            column = scores.columns.index(tuple(entry[name] for name in KEY))
            assert scores.values(column)[i] == entry["value"]
            row = table.iloc[rows]
            assert (row["participant_id"], row["value"]) == (sub, entry["value"])
            assert row["uncertainty_of"] == entry.get("uncertainty_of", "")
            assert np.isnan(row["uncertainty"]) if row["uncertainty_of"] == "" else row["uncertainty"] > 0
            rows += 1
    assert rows == len(table)


def test_only_some_columns_only_some_scans(collected):
    scans = accepted_test(read_cohort(collected))
    everything = read_slice_scores(collected, scans)
    few = read_slice_scores(collected, scans[2:4], only=lambda column: column[0] == "vae_pretrained")
    keep = everything.units["participant_id"].isin(scans["participant_id"][2:4])
    assert few.columns == [c for c in everything.columns if c[0] == "vae_pretrained"]
    places = [everything.columns.index(column) for column in few.columns]
    np.testing.assert_array_equal(few.matrix(), everything.pick(places).matrix()[keep])
    pd.testing.assert_frame_equal(
        few.units, everything.units[keep].reset_index(drop=True), check_categorical=False
    )
    part = read_volume_scores(collected, scans[2:4])
    np.testing.assert_array_equal(part.matrix(), read_volume_scores(collected, scans).matrix()[2:4])


def test_small_row_groups_make_the_same_table(scored, collected, tmp_path, monkeypatch):
    monkeypatch.setattr(collect, "GROUP", 2)
    subjects = accepted_test(read_cohort(collected))["participant_id"]
    collect.write_slices(tmp_path / "slices.parquet", scored / "score/subjects", subjects)
    other = pd.read_parquet(tmp_path / "slices.parquet")
    pd.testing.assert_frame_equal(other, pd.read_parquet(collected / "slices.parquet"))


def test_a_score_that_is_nan_is_kept_and_one_that_is_missing_is_not(tmp_path):
    """NaN is what a method found; a column that none of the scans asked for has is not shown at all."""
    root = write_cohort(tmp_path, [Scan(f"sub-h{i}", "healthy") for i in range(3)])
    for i in range(3):
        path = root / f"score/subjects/sub-h{i}.parquet"
        table = pd.read_parquet(path)
        if i < 2:
            table = table[table["method"] != "mean_hu"]
            table.loc[table["method"] == "brain_area", "value"] = np.nan
        table.sample(frac=1, random_state=0).to_parquet(path)  # rows in any order
    folder = collect_all(root)
    scans = read_cohort(folder)
    some = read_slice_scores(folder, scans[:2], "all")
    assert "mean_hu" not in {method for method, _, _ in some.columns}
    assert np.isnan(some.values(some.columns.index(("brain_area", "trivial", "n/a")))).all()
    everything = read_slice_scores(folder, scans, "all")
    column = everything.values(everything.columns.index(("mean_hu", "trivial", "n/a")))
    assert np.isnan(column[: 2 * 155]).all()
    assert not np.isnan(column[2 * 155 :]).any()
    assert everything.units["z"].tolist() == list(range(155)) * 3


def test_one_score_at_a_time_is_in_memory(tmp_path):
    """A cohort of ten thousand scans has a million slices and dozens of scores of each."""
    scans, depth, columns = 1000, 155, 40
    names = [f"sub-{i:04d}" for i in range(scans)]
    units = {
        "participant_id": np.repeat(names, depth),
        "z": np.tile(np.arange(depth, dtype=np.int16), scans),
        **dict.fromkeys(("brain_pixels", "lesion_pixels"), np.ones(scans * depth, np.int32)),
        "usable": np.ones(scans * depth, bool),
    }
    rng = np.random.default_rng(0)
    values = {f"method{i}/thesis/0": rng.standard_normal(scans * depth) for i in range(columns)}
    pd.DataFrame(units | values).to_parquet(tmp_path / "slices.parquet")
    people = pd.DataFrame(dict.fromkeys(("participant_id", "patient"), names)).assign(
        group="healthy", pathology="n/a", subtype="n/a", has_lesion_mask=False
    )
    tracemalloc.start()
    scores = read_slice_scores(tmp_path, people)
    means = [scores.values(i).mean() for i in range(columns)]
    peak = tracemalloc.get_traced_memory()[1] + pa.total_allocated_bytes()  # Arrow's memory is not Python's
    tracemalloc.stop()
    assert means == [column.mean() for column in values.values()]
    assert peak < scores.matrix().nbytes / 3


def test_a_few_scans_at_a_time_are_collected(scored, tmp_path, monkeypatch):
    monkeypatch.setattr(collect, "GROUP", 2)
    held: list[int] = []
    most, read = [0], collect.read_block

    def counted(path):
        block = read(path)
        if block is not None:
            weakref.finalize(block, held.pop)
            held.append(1)
            most[0] = max(most[0], len(held))
        return block

    monkeypatch.setattr(collect, "read_block", counted)
    subjects = sorted(path.stem for path in (scored / "score/subjects").glob("*.parquet"))
    collect.write_slices(tmp_path / "slices.parquet", scored / "score/subjects", subjects)
    assert len(subjects) > 6
    assert most[0] <= collect.GROUP + 1


def test_a_score_that_a_scan_between_others_alone_has_is_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(collect, "GROUP", 1)
    root = write_cohort(tmp_path, [Scan(f"sub-h{i}", "healthy") for i in range(3)])
    path = root / "score/subjects/sub-h1.parquet"
    own = pd.read_parquet(path)
    pd.concat([own, own[own["method"] == "mean_hu"].assign(method="another")]).to_parquet(path)
    collect.write_slices(
        tmp_path / "slices.parquet", root / "score/subjects", [f"sub-h{i}" for i in range(3)]
    )
    table = pd.read_parquet(tmp_path / "slices.parquet")
    assert table["another/trivial/n/a"].notna().sum() == 155
    assert table["mean_hu/trivial/n/a"].notna().all()


def test_a_cohort_without_test_scans(tmp_path):
    folder = collect_all(write_cohort(tmp_path, [Scan("sub-c0", "healthy", role="calibrate")]))
    scans = read_cohort(folder)
    assert scans["sha256"].tolist() == [f"{1:064x}"]
    scores = read_slice_scores(folder, accepted_test(scans)), read_volume_scores(folder, accepted_test(scans))
    for found in scores:
        assert (len(found.units), found.columns, found.matrix().shape) == (0, [], (0, 0))


def test_a_set_aside_scan_keeps_its_row_and_has_no_slices(collected):
    scans = read_cohort(collected).set_index("participant_id")
    assert (scans.loc["sub-x0", "verdict"], scans.loc["sub-x0", "reasons"]) == (
        "fail",
        "brain volume 300 mL.",
    )
    assert "sub-x0" not in set(pd.read_parquet(collected / "slices.parquet")["participant_id"])
