"""A multiple of the calibrated threshold: what is marked and listed, and what a healthy scan gets at it."""

import json
from html import unescape
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import yaml
from handoff_case import INDEX, Z_SETTINGS, Z_THRESHOLD, arguments, write_shared, write_subject
from jsonschema import Draft202012Validator

from normct.common.files import read_json
from normct.handoff.index import build
from normct.handoff.patient import main
from normct.handoff.scores import healthy_findings
from normct.score.false_findings import FACTORS

REPOSITORY = Path(__file__).resolve().parents[2]
TABLE = {
    "factors": [0.5, 1.0, 2.0],
    "sizes_ml": [0.1],
    "n_scans": 3,
    "mean": {"fused": [[40], [10], [2]]},
    "largest": {"fused": [[50], [12], [3]]},
}


@pytest.mark.parametrize(
    ("factor", "factors", "mean", "largest"),
    [
        (1.0, [0.5, 1.0, 2.0], [40, 10, 2], [50, 12, 3]),
        (2.0, [0.25, 0.5, 1.0], [40, 10, 2], [50, 12, 3]),
        (1.25, [0.4, 0.8, 1.0, 1.6], [40, 10, 8.0, 2], [50, 12, 12, 3]),
    ],
)
def test_counts_of_healthy_scans_are_told_relative_to_the_threshold_used(factor, factors, mean, largest):
    found = healthy_findings({"false_findings": TABLE}, "fused", 0.1, factor)
    assert (found["factors"], found["mean"], found["largest"]) == (factors, mean, largest)
    assert TABLE["mean"]["fused"] == [[40], [10], [2]]


@pytest.mark.parametrize("factor", [0.4, 2.1])
def test_nothing_is_claimed_beyond_what_was_counted(factor):
    assert healthy_findings({"false_findings": TABLE}, "fused", 0.1, factor) is None


def test_factors_that_the_configuration_takes_are_those_that_are_counted():
    schema = yaml.safe_load((REPOSITORY / "workflow" / "schemas" / "handoff.schema.yaml").read_text())
    taken = schema["properties"]["threshold_factor"]
    assert (taken["minimum"], taken["maximum"]) == (FACTORS[0], FACTORS[-1])


def test_page_mask_and_texts_follow_the_factor(tmp_path):
    marked = {}
    write_shared(tmp_path, {"sub-a": "test"})
    write_subject(tmp_path, "sub-a", shape=(60, 60, 18), zooms=(3.5, 3.5, 9.0))
    out = tmp_path / "handoff"
    for factor in (1.5, 1.0):
        changes = Z_SETTINGS | {"threshold_factor": factor}
        main(arguments(tmp_path, "sub-a", **changes))
        build(tmp_path, INDEX | changes, [], None)
        folder = out / "patients" / "sub-a"
        z, mask = (nib.load(folder / f"anomaly_{n}.nii.gz").get_fdata() for n in ("map", "mask"))
        marked[factor] = (mask > 0).sum()
        assert np.abs(z)[mask > 0].min() > factor * Z_THRESHOLD
        record = read_json(folder / "patient.json")
        assert record["threshold"] == pytest.approx(factor * Z_THRESHOLD, abs=0.01)
        summary = read_json(out / "summary.json")
        schema = json.loads((REPOSITORY / "docs" / "handoff_summary.schema.json").read_text())
        Draft202012Validator(schema).validate(summary)
        page, index = (unescape((f / "index.html").read_text("utf-8")) for f in (folder, out))
        guide, methods = (
            " ".join((out / n).read_text("utf-8").split()) for n in ("README.txt", "methods.txt")
        )
        times = {1.5: "1.5 times the calibrated one, which lets about 1 %", 1.0: "threshold lets about 1 %"}
        assert times[factor] in index and times[factor] in guide
        if factor == 1.0:
            assert "has 29.3 such findings on average, 46 at most" in page
            assert "Findings above the calibrated threshold" in page and "threshold_factor" not in record
            assert "gets about 29.3 findings of 0.1 mL or more at the calibrated threshold" in index
            assert "is set on healthy scans" in page and "The threshold of the map lets a share" in methods
        else:
            # halfway between the counts at 1 and 2 times, of 29.33 and 1
            assert "has 15.2 such findings on average, 46 at most" in page
            assert "Findings above 1.5 times the calibrated threshold" in page
            assert "1.5 × calibrated threshold</button>" in page and record["threshold_factor"] == 1.5
            assert "gets about 15.2 findings of 0.1 mL or more at this threshold" in index
            assert "is 1.5 times that which is set on healthy scans" in page
            assert "The threshold of the map is 1.5 times one that lets a share" in methods
    assert 0 < marked[1.5] < marked[1.0]
