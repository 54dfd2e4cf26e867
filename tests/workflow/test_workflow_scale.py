"""The scale benchmark at its smallest: a hundred stand-in scans, all to do, then all done."""

from __future__ import annotations

import re

import pytest
from benchmarks.bench_scale import measure_size

pytestmark = pytest.mark.timeout(300)


def test_a_hundred_scans_are_planned_and_a_finished_cohort_has_nothing_to_do(tmp_path):
    found = measure_size(tmp_path / "cohort", 100)
    assert re.search(r"^preprocess_skullstrip +100$", found["dag"].output, re.MULTILINE)
    assert "train_pack" in found["dag"].output
    jobs = int(re.search(r"^total +(\d+)$", found["dag"].output, re.MULTILINE).group(1))
    assert found["graph"].output.endswith(f"{jobs} jobs\n")  # the graph is whole when the clock stops
    assert "Nothing to be done" in found["done"].output
    assert found["dag"].mb < 500
    # with 100 scans most of it is Python's start; a step that searches through all scans for each would show
    assert found["dag"].cpu_s - found["parse"].cpu_s < 15
