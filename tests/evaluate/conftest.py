from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import yaml

sys.path.insert(0, str(Path(__file__).parent))
from evaluate_case import SETTINGS, default_scans, write_cohort

from normct.evaluate import (
    ablation,
    collect,
    confound,
    detection,
    figures,
    froc,
    plots,
    report,
    scans,
    segmentation,
    strata,
    uncertainty,
)


def collect_all(root: Path) -> Path:
    """Run the jobs that read every scan, as their rules call them; returns R/evaluate/collected."""
    out = root / "evaluate" / "collected"
    folders = {"participants": "cohort/participants.tsv", "preprocess": "preprocess", "imports": "cohort"}
    given = [word for name, path in folders.items() for word in (f"--{name}", str(root / path))]
    scans.main([*given, "--out", str(out)])
    collect.main(["--scores", str(root / "score/subjects"), "--out", str(out)])
    return out


def run_all(root: Path, synthetic: bool = True, title: str = "Test cohort") -> Path:
    """Run the jobs of the stage as the rules call them; returns R/evaluate."""
    out = root / "evaluate"
    common = ["--collected", str(collect_all(root))]
    calibration = ["--calibration", str(root / "score/calibration.json")]
    detection.main([*common, *calibration, "--settings", json.dumps(SETTINGS), "--out", str(out)])
    maps = ["--preprocess", str(root / "preprocess"), "--maps", str(root / "score/maps")]
    maps += ["--z-maps", str(root / "score/calibrated")]
    settings = ["--settings", json.dumps(SETTINGS)]
    segmentation.main([*common, *maps, *calibration, *settings, "--out", str(out)])
    froc.main([*common, *maps, *calibration, *settings, "--out", str(out)])
    strata.main([*common, *calibration, *settings, "--out", str(out)])
    confound.main([*common, *calibration, *settings, "--out", str(out)])
    ablation.main([*common, *settings, "--out", str(out)])
    uncertainty.main([*common, *calibration, *settings, "--out", str(out)])
    plots.main([*common, *calibration, *settings, "--tables", str(out), "--out", str(out)])
    networks = sorted(
        str(p.parent.relative_to(root / "train")) for p in (root / "train").rglob("history.csv")
    )
    figures.main(
        [
            *common,
            *maps,
            *calibration,
            "--train",
            str(root / "train"),
            "--networks",
            *networks,
            "--tables",
            str(out),
            *settings,
            "--out",
            str(out),
        ]
    )
    config = yaml.safe_load((Path(__file__).resolve().parents[2] / "config.yaml").read_text("utf-8"))
    sections = {name: config[name] for name in ("preprocess", "train", "score", "evaluate")}
    report.main(
        [
            "--tables",
            str(out),
            "--settings",
            json.dumps({"title": title, "synthetic": synthetic, **sections}),
            "--html",
            str(out / "report.html"),
            "--summary",
            str(out / "summary.md"),
        ]
    )
    return out


@pytest.fixture(scope="session")
def scored(tmp_path_factory) -> Path:
    """Root of a scored cohort."""
    return write_cohort(tmp_path_factory.mktemp("scored"), default_scans())


@pytest.fixture(scope="session")
def collected(scored) -> Path:
    """R/evaluate/collected of that cohort."""
    return collect_all(scored)


@pytest.fixture(scope="session")
def evaluated(scored) -> Path:
    """R/evaluate of that cohort, everything run."""
    return run_all(scored)
