"""Drift: a shifted batch is called different, the same one is not, small ones are not judged, names are escaped."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import numpy as np
import pytest

from normct.common.files import write_json
from normct.score import drift
from normct.score.calibrate import quality_measures


def records(n: int, seed: int, noise: float = 4.0, score: float = 1.0) -> tuple[list[dict], list[dict]]:
    """Return quality and volume records of a batch; one more scan was set aside."""
    rng = np.random.default_rng(seed)
    quality = [
        {
            "verdict": "pass",
            "measures": {
                "noise_hu": float(rng.normal(noise, 0.5)),
                "brain_volume_ml": float(rng.normal(1300, 90)),
                "mi": None,
            },
        }
        for _ in range(n)
    ]
    volumes = [
        {
            "volumes": [
                {"method": "fused", "score": "fused", "seed": "all", "value": float(rng.normal(score, 0.3))}
            ]
        }
        for _ in range(n)
    ]
    return [*quality, {"verdict": "fail", "measures": {"noise_hu": 99.0}}], [*volumes, {"volumes": []}]


def calibration(n: int = 24) -> dict:
    quality, volumes = records(n, 1)
    values = sorted(v["volumes"][0]["value"] for v in volumes[:-1])
    return {
        "n_healthy": n,
        "quality": quality_measures(quality),
        "healthy": {
            "fused": {"fused": {"all": values}},
            "vae_kl": {"thesis": {"0": [1.0] * n}},
        },
    }


def verdicts(made: dict, batch: tuple[list[dict], list[dict]]) -> tuple[dict[str, str], list[str]]:
    found = drift.collect(made, *batch)
    drift.compare(found)
    return {c.name: c.verdict for c in found}, drift.headline(found, len(batch[0]) - 1, made["n_healthy"])


def test_a_scanner_of_more_noise_is_seen_and_nothing_else():
    found, lines = verdicts(calibration(), records(20, 2, noise=6.0))
    assert found == {
        "noise_hu": "differs",
        "brain_volume_ml": "no difference found",
        "fused/fused": "no difference found",
    }
    assert any("Noise, HU" in line and "recalibrate" in line for line in lines)


def test_the_same_kind_of_batch_is_rarely_called_different():
    """Forty batches of 20 against 24: the rate of false alarms stays under the level it is set to."""
    alarms = [
        any(v.startswith("differs") for v in verdicts(calibration(), records(20, seed))[0].values())
        for seed in range(100, 140)
    ]
    assert sum(alarms) <= 6  # 2 expected at 5 %; more than 6 of 40 has probability 0.003


def test_higher_scores_are_said_to_be_expected_of_patients():
    found, lines = verdicts(calibration(), records(12, 3, score=3.0))
    assert found["fused/fused"] == "differs"
    assert any("patients in it that is expected" in line for line in lines)
    assert any("fewer than 20 scans" in line for line in lines)


@pytest.mark.parametrize("n", [1, 4])
def test_a_few_scans_are_not_judged(n):
    found, lines = verdicts(calibration(), records(n, 4, noise=9.0))
    assert set(found.values()) == {"too few scans"}
    assert any("Too few scans to compare" in line for line in lines)


def test_a_bundle_without_quality_measures_says_so():
    old = calibration()
    del old["quality"]
    found, lines = verdicts(old, records(10, 5))
    assert set(found) == {"fused/fused"}
    assert any("carries no quality measures" in line for line in lines)


def test_quality_of_the_calibration_set_is_sorted_and_without_scans_set_aside():
    quality, _ = records(6, 7)
    made = quality_measures(quality)
    assert made["noise_hu"] == sorted(q["measures"]["noise_hu"] for q in quality[:-1])
    assert "mi" not in made


def test_page_is_self_contained_and_escaped_and_table_has_every_row(tmp_path: Path):
    quality, volumes = records(8, 6, noise=7.0)
    names = [f"sub-{n}" for n in range(len(quality))]
    for name, q, v in zip(names, quality, volumes, strict=True):
        write_json(tmp_path / "preprocess" / name / "quality.json", q)
        write_json(tmp_path / "score" / "subjects" / f"{name}.json", v)
    write_json(tmp_path / "calibration.json", calibration())
    drift.main(
        [str(tmp_path / "drift.html"), str(tmp_path / "drift.csv"), "--root", str(tmp_path), "--calibration",
         str(tmp_path / "calibration.json"), "--title", "<script>march</script>", "--subjects", *names]
    )  # fmt: skip
    page = (tmp_path / "drift.html").read_text("utf-8")
    assert "<script" not in page
    assert "&lt;script&gt;march" in page
    assert not re.findall(r"(?:src|href)=\"(?!data:)", page)
    assert page.count("data:image/png;base64,") == 3
    assert "1 scan set aside" in page
    assert not re.search("sub-[0-9]", page)
    rows = list(csv.DictReader((tmp_path / "drift.csv").open(encoding="utf-8")))
    assert [row["name"] for row in rows] == ["brain_volume_ml", "noise_hu", "fused/fused"]
    noise = rows[1]
    assert (noise["n_batch"], noise["n_calibration"], noise["verdict"]) == ("8", "24", "differs")
    assert float(noise["p_adjusted"]) >= float(noise["p_value"])
    assert float(noise["above"]) > 0.9
