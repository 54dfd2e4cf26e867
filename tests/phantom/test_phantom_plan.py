"""The plan of the synthetic cohort: who is in it, and that adding subjects moves nobody."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import yaml
from scipy.stats import ks_2samp

from normct.common.config import validate_config
from normct.common.errors import ConfigError
from normct.common.registry import PATHOLOGIES
from normct.phantom import participants
from normct.phantom.plan import SCANNERS, plan_rows, subject_settings
from normct.phantom.scanner import SCANNERS as MACHINES
from normct.phantom.scanner import draw_acquisition
from normct.phantom.subject import _generator
from normct.phantom.warp import draw_warp

REPOSITORY = Path(__file__).resolve().parents[2]
COLUMNS = [
    *("participant_id", "ct", "group", "pathology", "subtype", "lesion_mask"),
    *("split", "patient", "age", "sex", "scanner"),
]


@pytest.fixture
def config() -> dict:
    return yaml.safe_load((REPOSITORY / "config.yaml").read_text("utf-8"))


def settings(**changes: object) -> dict:
    base = yaml.safe_load((REPOSITORY / "config.yaml").read_text("utf-8"))["phantom"]
    return {**base, **changes}


def scanner_of(name: str) -> tuple[float, float, float]:
    """Return pixel size, kernel and grain of a scanner."""
    machine = MACHINES[name]
    return machine.pixel_mm, machine.kernel_mm, machine.grain_mm


def test_rows_hold_what_the_table_promises() -> None:
    rows = plan_rows(
        settings(healthy_train=3, healthy_val=2, healthy_test=1, abnormal={"icb": 2, "bleed": 4}), "out"
    )
    assert all(list(row) == COLUMNS for row in rows)
    assert len({row["participant_id"] for row in rows}) == len(rows) == 12
    assert len({row["ct"] for row in rows}) == 12
    assert Counter(row["split"] for row in rows) == {"train": 3, "val": 2, "test": 7}
    for row in rows:
        assert row["participant_id"].removeprefix("sub-").isalnum()
        assert row["ct"] == f"out/phantom/{row['participant_id']}/ct.nii.gz"
        assert row["scanner"] in SCANNERS
        assert "synthetic" in row["scanner"]
        if row["group"] == "healthy":
            assert (row["pathology"], row["lesion_mask"], row["subtype"]) == ("n/a", "n/a", "n/a")
        else:
            assert row["split"] == "test"
            assert row["pathology"] in PATHOLOGIES
            assert row["lesion_mask"] == f"out/phantom/{row['participant_id']}/lesion.nii.gz"
    bleeds = [row["subtype"] for row in rows if row["pathology"] == "bleed"]
    assert bleeds == ["subdural", "epidural", "subarachnoid", "subdural"]


def test_more_subjects_change_nobody() -> None:
    few = plan_rows(settings(healthy_train=2, healthy_test=2, abnormal={"icb": 1}), "out")
    many = plan_rows(settings(healthy_train=30, healthy_test=9, abnormal={"tumor": 3, "icb": 5}), "out")
    by_id = {row["participant_id"]: row for row in many}
    assert all(by_id[row["participant_id"]] == row for row in few)
    assert subject_settings(settings(healthy_train=2), "train") == subject_settings(
        settings(healthy_train=30), "train"
    )


def test_another_seed_of_the_test_changes_the_test_scans_alone() -> None:
    numbers = {"healthy_train": 4, "healthy_val": 4, "healthy_test": 4, "abnormal": {"icb": 4}}
    one, other = (plan_rows(settings(test_seed=s, **numbers), "out") for s in (None, 7))
    for before, after in zip(one, other, strict=True):
        given = [subject_settings(settings(test_seed=s), before["split"]) for s in (None, 7)]
        if before["split"] == "test":
            assert [g["seed"] for g in given] == [settings()["seed"], 7]
        else:
            assert before == after
            assert given[0] == given[1]
    assert [r for r in one if r["split"] == "test"] != [r for r in other if r["split"] == "test"]


def test_demographics_depend_on_the_seed_and_not_on_the_group() -> None:
    rows = plan_rows(settings(healthy_train=400, abnormal={"ischemia": 400}), "out")
    ages = {g: [int(r["age"]) for r in rows if r["group"] == g] for g in ("healthy", "abnormal")}
    mean = {group: sum(values) / len(values) for group, values in ages.items()}
    assert abs(mean["healthy"] - mean["abnormal"]) < 4.5  # three standard errors of 400 against 400
    assert all(20 <= int(row["age"]) <= 90 for row in rows)
    share = Counter(row["scanner"] for row in rows)
    assert min(share.values()) > 0.8 * len(rows) / len(SCANNERS)
    assert plan_rows(settings(seed=1), "out") != plan_rows(settings(seed=2), "out")


def test_spacing_noise_kernel_and_pose_do_not_depend_on_the_group() -> None:
    """What each scan of a cohort would be taken with; a Kolmogorov-Smirnov test finds no difference."""
    chosen = settings(healthy_train=300, abnormal={"icb": 150, "bleed": 150}, slice_thickness_mm=[1, 6])
    found: dict[str, list[tuple[float, ...]]] = {"healthy": [], "abnormal": []}
    for row in plan_rows(chosen, "out"):
        subject, scanner = row["participant_id"], scanner_of(row["scanner"])
        taken = draw_acquisition(_generator(1, subject, "acquisition"), (1, 6), (3, 6))
        warp = draw_warp(
            _generator(1, subject, "anatomy"), _generator(1, subject, "pose"), row["sex"], chosen["pose"]
        )
        found[row["group"]].append(
            (taken.thickness, taken.noise, taken.above, taken.below, *scanner, *warp.pose[:3, :].ravel())
        )
    healthy, abnormal = (np.array(found[group]) for group in ("healthy", "abnormal"))
    p = [ks_2samp(a, b).pvalue for a, b in zip(healthy.T, abnormal.T, strict=True)]
    assert len(p) == 19
    assert min(p) > 0.001  # of 19 tests of independent draws the smallest is about 0.05


def test_parsing_the_snakefile_needs_no_numpy() -> None:
    code = "import sys, normct.phantom.plan; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_table_has_paths_relative_to_itself(tmp_path: Path) -> None:
    participants.main([str(tmp_path / "participants.tsv"), "--settings", json.dumps(settings())])
    with (tmp_path / "participants.tsv").open(encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle, delimiter="\t"))
    assert list(rows[0]) == COLUMNS
    assert [row["ct"] for row in rows] == [f"{row['participant_id']}/ct.nii.gz" for row in rows]
    assert {row["lesion_mask"] for row in rows if row["group"] == "healthy"} == {"n/a"}


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("helthy_train", 3, "did you mean 'healthy_train'"),
        ("pose", {"pitch": 3, "pitch_deg": 1, "roll_deg": 1, "yaw_deg": 1, "shift_mm": 1}, "pitch_deg"),
        ("abnormal", {"tumour": 1}, "did you mean 'tumor'"),
        ("bleed_subtypes", ["subgaleal"], "subgaleal"),
        ("noise_hu", [3], "phantom.noise_hu"),
    ],
)
def test_schema_names_the_fault(config: dict, key: str, value: object, message: str) -> None:
    config["phantom"][key] = value
    with pytest.raises(ConfigError) as caught:
        validate_config(config, REPOSITORY / "workflow" / "schemas")
    assert any(message in fault for fault in caught.value.faults)
