"""Two results of the same test scans: what a change is worth, on the same draws of patients."""

from __future__ import annotations

import shutil

import numpy as np
import pandas as pd
import pytest
from benchmarks.detection_compare import compare, main

from normct.evaluate.data import SCANS, SLICES
from normct.evaluate.tables import read_csv


@pytest.fixture
def twice(evaluated, tmp_path):
    """The same results twice."""
    folders = [tmp_path / name for name in ("before", "after")]
    for folder in folders:
        shutil.copytree(evaluated / "collected", folder / "evaluate" / "collected")
    return folders


def test_the_same_results_gain_nothing_and_keep_the_evaluations_figures(twice, evaluated, tmp_path, capsys):
    assert main([*map(str, twice), "--out", str(tmp_path / "compared.csv")]) == 0
    table = pd.read_csv(tmp_path / "compared.csv")
    later = table[table["folder"] == "after"]
    assert len(later) > 10 and (later[["gain", "gain_low", "gain_high"]] == 0).all(axis=None)
    keys = ["protocol", "method", "score", "members"]
    written = read_csv(evaluated / "detection_summary.csv").set_index(keys)["auroc_mean"]
    own = later[~later["method"].str.contains(" - ")].set_index(keys)["auroc"]
    assert own.to_dict() == pytest.approx(written[own.index].to_dict())
    assert "| slice_healthy | fused | fused | after |" in capsys.readouterr().out


def test_a_score_that_knows_the_lesion_gains(twice):
    path = twice[1] / "evaluate" / "collected" / SLICES
    table = pd.read_parquet(path)
    name = next(column for column in table if "/calibrated/" in column and "atlas" not in column)
    table[name] += 1000 * (table["lesion_pixels"] > 0)
    table.to_parquet(path)
    method, score, seed = name.split("/")
    found = compare(twice, 200, 0).set_index(["folder", "protocol", "method", "score", "members"])
    row = found.loc["after", "slice_healthy", method, score, "ensemble" if seed == "all" else "single"]
    assert row["gain"] > 0 and row["gain_low"] >= 0
    others = found.loc["after"].drop(index=[method, f"{method} - statistical_atlas"], level="method")
    assert (others["gain"].dropna() == 0).all()


def test_differences_to_the_atlas_are_taken_within_a_folder(twice):
    found = compare(twice, 200, 0).set_index(["folder", "protocol", "method", "score", "members"])["auroc"]
    at = ("before", "slice_healthy")
    difference = found[(*at, "fused - statistical_atlas", "fused", "single")]
    fused, atlas = (
        found[(*at, "fused", "fused", "single")],
        found[(*at, "statistical_atlas", "calibrated", "single")],
    )
    assert np.isfinite(fused) and difference == pytest.approx(fused - atlas)


def test_results_of_other_scans_are_refused(twice):
    path = twice[1] / "evaluate" / "collected" / SCANS
    scans = pd.read_parquet(path)
    scans.assign(patient="someone" + scans["patient"].astype(str)).to_parquet(path)
    with pytest.raises(SystemExit, match="different test scans"):
        compare(twice, 10, 0)


@pytest.mark.parametrize("column", ["brain_pixels", "lesion_pixels"])
def test_scans_of_the_same_ids_with_other_brains_or_lesions_are_refused(twice, column):
    """As two freezes are: IDs, patients and groups are alike."""
    path = twice[1] / "evaluate" / "collected" / SLICES
    slices = pd.read_parquet(path)
    largest = slices.groupby("participant_id")[column].sum().idxmax()
    own = (slices["participant_id"] == largest) & slices["usable"]
    # other processors move a pixel here and there
    slices.assign(**{column: slices[column] + (own.cumsum() == 1)}).to_parquet(path)
    compare(twice, 10, 0)
    slices.loc[own, column] = slices[column] * 2 + 21
    slices.to_parquet(path)
    with pytest.raises(SystemExit, match="different test scans"):
        compare(twice, 10, 0)


def test_folders_of_one_name_are_refused(twice):
    with pytest.raises(SystemExit, match="one name"):
        main([str(twice[0]), str(twice[0])])
