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
    confound,
    detection,
    figures,
    froc,
    plots,
    report,
    segmentation,
    strata,
    uncertainty,
)


def run_all(root: Path, synthetic: bool = True, title: str = "Test cohort") -> Path:
    """Run the jobs of the stage as the rules call them; returns R/evaluate."""
    out = root / "evaluate"
    common = [
        "--participants",
        str(root / "cohort/participants.tsv"),
        "--preprocess",
        str(root / "preprocess"),
    ]
    scores = ["--scores", str(root / "score/subjects")]
    calibration = ["--calibration", str(root / "score/calibration.json")]
    detection.main([*common, *scores, *calibration, "--settings", json.dumps(SETTINGS), "--out", str(out)])
    maps = ["--maps", str(root / "score/maps"), "--z-maps", str(root / "score/calibrated")]
    segmentation.main([*common, *maps, *calibration, "--out", str(out)])
    settings = ["--settings", json.dumps(SETTINGS)]
    froc.main([*common, *maps, *calibration, *settings, "--out", str(out)])
    strata.main([*common, *scores, *calibration, *settings, "--out", str(out)])
    confound.main([*common, "--cohort", str(root / "cohort"), *scores, *settings, "--out", str(out)])
    ablation.main([*common, *scores, *settings, "--out", str(out)])
    uncertainty.main([*common, *scores, *calibration, *settings, "--out", str(out)])
    plots.main([*common, *scores, "--tables", str(out), "--out", str(out)])
    networks = sorted(
        str(p.parent.relative_to(root / "train")) for p in (root / "train").rglob("history.csv")
    )
    figures.main(
        [
            *common,
            *scores,
            *maps,
            *calibration,
            "--train",
            str(root / "train"),
            "--networks",
            *networks,
            "--tables",
            str(out),
            "--slices",
            "usable",
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
def evaluated(scored) -> Path:
    """R/evaluate of that cohort, everything run."""
    return run_all(scored)
