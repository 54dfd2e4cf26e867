"""Freezes pooled: twice the patients, the same figures."""

from __future__ import annotations

import shutil

import pandas as pd
import pytest
from benchmarks.detection_pooled import main, pool

from normct.evaluate.data import SCANS, SLICES, accepted_test
from normct.evaluate.tables import read_csv


@pytest.fixture
def twice(evaluated, scored, tmp_path):
    """The cohort of the tests as two freezes, as the study keeps them."""
    folders = [tmp_path / name for name in ("first", "second")]
    for folder in folders:
        shutil.copytree(evaluated / "collected", folder / "evaluate" / "collected")
        (folder / "bundle").mkdir()
        shutil.copyfile(scored / "score" / "calibration.json", folder / "bundle" / "calibration.json")
    return folders


def test_a_cohort_pooled_with_itself_keeps_its_figures(twice, evaluated, tmp_path, capsys):
    assert main([*map(str, twice), "--out", str(tmp_path / "out")]) == 0
    keys = ["protocol", "method", "score", "members"]
    alone = read_csv(evaluated / "detection_summary.csv").set_index(keys)
    both = read_csv(tmp_path / "out" / "detection_summary.csv").set_index(keys)
    assert both["auroc_mean"].to_dict() == pytest.approx(alone["auroc_mean"].to_dict(), nan_ok=True)
    assert both["n_pos"].max() == 2 * alone["n_pos"].max()
    scans = accepted_test(pd.read_parquet(twice[0] / "evaluate" / "collected" / SCANS))
    healthy = int((scans["group"] == "healthy").sum())
    assert f"2 freezes, {2 * healthy} healthy" in capsys.readouterr().out


def test_patients_of_two_freezes_are_not_the_same_people(twice, tmp_path):
    scans = pool(twice, tmp_path / "pooled")
    assert (
        scans["patient"].nunique()
        == 2
        * accepted_test(pd.read_parquet(twice[0] / "evaluate" / "collected" / SCANS))["patient"].nunique()
    )


def test_freezes_of_other_scores_are_refused(twice, tmp_path):
    path = twice[1] / "evaluate" / "collected" / SLICES
    table = pd.read_parquet(path)
    name = next(column for column in table if column.startswith("fused/"))
    table.rename(columns={name: "fused/other/0"}).to_parquet(path)
    with pytest.raises(SystemExit, match="second and first differ in their scores: fused/"):
        pool(twice, tmp_path / "pooled")
