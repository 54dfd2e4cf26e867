"""The detection study's bars say what its tables say."""

from __future__ import annotations

import json

import pytest
from benchmarks import detection
from benchmarks.detection_bars import Bar, measure, read_tables

from workflow.detection_case import tables


def test_bars_hold_where_every_limit_is_kept(tmp_path):
    bars = measure(read_tables(tables(tmp_path)))
    assert {b.name: b.missing for b in bars if b.missing} == {}
    assert {b.name for b in bars if b.holds is False} == set()
    by_name = {b.name: b for b in bars}
    assert (by_name["fused_aupr_gain"].value, by_name["fused_aupr_gain"].low) == (0.25, 0.1)
    assert "denoising" in by_name["network_over_published"].what  # vae_kl is better, and a rival
    assert by_name["position_r2_vae_kl"].holds is None
    assert all(bar.low is not None and bar.high is not None for bar in by_name.values())
    assert (by_name["no_scanner"].value, by_name["no_scanner_thesis"].value) == (0.69, 0.9)
    assert by_name["no_scanner_thesis"].holds is None


@pytest.mark.parametrize(
    ("change", "missed"),
    [
        ({"gain": 0.119}, {"fused_over_published"}),
        ({"low": 0.0}, {"fused_over_published", "network_over_published", "fused_over_atlas"}),
        ({"aupr": 0.249}, {"fused_aupr_gain"}),
        ({"vae_kl_gain": 0.401}, {"fused_aupr_gain"}),
        ({"atlas": 0.029}, {"fused_over_atlas"}),
        ({"volume": 0.899}, {"fused_volume"}),
        ({"r2": 0.051}, {"position_r2_fused", "area_r2_fused"}),
        ({"scanner": 0.71}, {"no_scanner", "no_slice_thickness"}),
    ],
)
def test_a_missed_limit_is_said(tmp_path, change, missed):
    bars = measure(read_tables(tables(tmp_path, **change)))
    assert {b.name for b in bars if b.holds is False} == missed


def test_the_rival_in_aupr_is_the_better_in_aupr(tmp_path):
    """The table's pair is with the better in AUROC: with another one the interval is not known."""
    bars = {b.name: b for b in measure(read_tables(tables(tmp_path, vae_kl_gain=0.41)))}
    bar = bars["fused_aupr_gain"]
    assert bar.value == pytest.approx(0.65 - 0.41)
    assert (bar.low, bar.high, bar.missing) == (None, None, "")
    assert "vae_kl" in bar.what


def test_what_was_not_made_does_not_hold(tmp_path, monkeypatch):
    (tables(tmp_path) / "confound.csv").unlink()
    bars = measure(read_tables(tmp_path))
    lost = {b.name for b in bars if b.holds is False}
    assert lost == {"position_r2_fused", "area_r2_fused", "no_scanner", "no_slice_thickness"}
    assert all(b.missing == "confound.csv was not made" for b in bars if b.name in lost)
    assert not any(b.holds for b in measure({}))
    assert Bar("a", "b", 0.5, low_above=0.0).holds is False  # no interval, no claim


def test_bars_are_written_beside_those_of_other_cohorts(config, tmp_path, monkeypatch):
    """The next cohort takes over the results folder: what the one before reached stays."""
    root = tmp_path / "results"
    monkeypatch.setattr(detection, "load_config", lambda: config | {"results_dir": str(root)})
    monkeypatch.setattr(detection, "OUT", tmp_path / "detection.json")
    (root / "evaluate").mkdir(parents=True)
    (root / "score" / "bundle").mkdir(parents=True)
    tables(root / "evaluate")
    for name, seed in (("one", 1), ("two", 2), ("one", 1)):
        for scores in ("slices.csv.gz", "volumes.csv"):
            (root / "score" / scores).write_text(str(seed), "utf-8")
        study = detection.Study(seed, name)
        detection.keep(study)
        detection.write_bars(study)
    assert (tmp_path / "results_one" / "volumes.csv").read_text("utf-8") == "1"
    assert (tmp_path / "results_two" / "volumes.csv").read_text("utf-8") == "2"
    written = json.loads((tmp_path / "detection.json").read_text("utf-8"))
    assert sorted(entry["seed"] for entry in written) == [1, 2]
    assert all(entry["held"] == entry["judged"] > 10 for entry in written)
    assert all("may differ on patients" in entry["note"] for entry in written)
