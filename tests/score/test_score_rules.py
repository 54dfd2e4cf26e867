"""The stage's rules run by Snakemake, with fresh parts and with a frozen bundle."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pandas as pd
import pytest

from normct.common.bundle import read_manifest
from normct.common.files import read_json
from normct.score.copy_bundle import copy_bundle
from score.card_case import COLUMNS
from score.score_case import CONFIG, ROLES, SCORE, write_cohort

pytestmark = pytest.mark.slow
RULES = Path(__file__).resolve().parents[2] / "workflow" / "rules" / "score.smk"
CALIBRATE = RULES.with_name("score_calibrate.smk")
MORE = RULES.with_name("score_bundle.smk")
ATLAS = RULES.with_name("score_atlas.smk")
HARNESS = """
import json, sys
from types import SimpleNamespace
from pathlib import Path
from normct.common.bundle import read_bundle_config
from normct.common.codehash import code_hash as code
from normct.common.rules import growing, listed, of_each

BUNDLE, SYNTHETIC, ROOT = config.get("bundle"), True, config["root"]
RECALIBRATE, TABLE = config.get("healthy"), "march.tsv"
PARTICIPANTS = [
    SimpleNamespace(participant_id=i, role=r, group="healthy", pathology=None, patient=i, age=50, scanner="A",
                    split={{"test": "test", "train": "train", "unlabelled": None}}.get(r, "val"))
    for i, r in config["roles"].items()
]
BY_ID = {{p.participant_id: p for p in PARTICIPANTS}}
FOLD_OF = {{}}
shell.prefix(f"export PATH={{str(Path(sys.executable).parent)!r}}:$PATH; set -euo pipefail; ")
wildcard_constraints: subject="sub-[A-Za-z0-9]+"
include: {rules!r}
if not CALIBRATED_ELSEWHERE:
    include: {calibrate!r}
include: {more!r}
if not BUNDLE:
    include: {atlas!r}
"""
ONE_NETWORK = CONFIG | {"train": CONFIG["train"] | {"methods": ["multitask_pretrained"], "seeds": [1]}}


def snakemake(folder: Path, config: dict, *arguments: str) -> str:
    """Run the rules in a folder and return what Snakemake says."""
    rules = {"rules": str(RULES), "calibrate": str(CALIBRATE), "more": str(MORE), "atlas": str(ATLAS)}
    (folder / "Snakefile").write_text(dedent(HARNESS.format(**rules)))
    (folder / "config.json").write_text(json.dumps(config))
    command = [sys.executable, "-m", "snakemake", *arguments, "--cores", "2", "--configfile", "config.json"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(RULES.parents[2] / "src")}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-6000:]
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rules")
    write_cohort(folder / "R")
    (folder / "R/evaluate").mkdir()
    for name, columns in COLUMNS.items():
        (folder / f"R/evaluate/{name}.csv").write_text(",".join(columns) + "\n")
    roles = {s: role for s, role in ROLES.items() if s != "sub-t2"}
    config = ONE_NETWORK | {"root": "R", "roles": roles}
    snakemake(folder, config, "R/score/slices.csv.gz", "R/score/bundle/bundle.json")
    return folder, config


def test_fresh_mode_scores_held_out_scans_only(finished):
    folder, config = finished
    made = {p.stem for p in (folder / "R/score/raw").iterdir()}
    assert made == {s for s, role in config["roles"].items() if role != "train"}
    assert (folder / "R/score/volumes.csv").is_file()


def test_changed_lambda_reruns_no_inference(finished):
    folder, config = finished
    changed = config | {"score": SCORE | {"lambda": 0.9}}
    said = snakemake(folder, changed, "--dry-run", "R/score/slices.csv.gz")
    assert "score_combine" in said
    assert "score_calibrate" in said
    for rule in ("score_infer", "score_zmap", "score_thresholds"):
        assert rule not in said, rule
    for share, new_maps in ((0.02, False), (0.03, True)):  # the first is pooled already
        pooled = SCORE | {"calibrated": SCORE["calibrated"] | {"pool_share": share}}
        said = snakemake(folder, config | {"score": pooled}, "--dry-run", "R/score/slices.csv.gz")
        assert ("score_zmap" in said) == ("score_thresholds" in said) == new_maps
        assert "score_calibrate" in said
        assert "score_combine" in said
    assert "score_reference" not in said
    assert "score_infer" not in said
    said = snakemake(
        folder, config | {"score": SCORE | {"voxel_fpr": 0.02}}, "--dry-run", "R/score/slices.csv.gz"
    )
    assert "score_thresholds" in said and "score_combine" in said
    assert "score_zmap" not in said
    assert "score_infer" in snakemake(
        folder, config | {"score": SCORE | {"transforms": "all"}}, "--dry-run", "R/score/slices.csv.gz"
    )


def test_bundle_mode_scores_a_new_scan_as_fresh_mode_did(finished):
    folder, config = finished
    bundle = copy_bundle(folder / "R/score/bundle", folder / "bundles")
    new = folder / "new" / "preprocess" / "sub-new"
    new.parent.mkdir(parents=True)
    shutil.copytree(folder / "R/preprocess/sub-x1", new)
    frozen = config | {
        "root": "new",
        "roles": {"sub-new": "unlabelled"},
        "bundle": str(bundle.relative_to(folder)),
    }
    # another training section must not matter: nothing is trained
    frozen |= {"train": {"methods": ["cevae"], "seeds": [7], "multitask": {"max_shift": 3}}}
    said = snakemake(folder, frozen, "new/score/slices.csv.gz", "new/score/drift.html")
    assert "score_verify_bundle" in said
    assert "score_calibrate" not in said
    assert "score_atlas" not in said
    slices, fresh = (
        pd.read_parquet(folder / path).drop(columns=["participant_id", "split", "role", "patient"])
        for path in ("new/score/subjects/sub-new.parquet", "R/score/subjects/sub-x1.parquet")
    )
    pd.testing.assert_frame_equal(slices, fresh)  # percentiles of slices too
    assert set(slices.query("method == 'fused' and usable")["n_healthy"]) == {2}
    theirs = read_json(folder / "R/score/subjects/sub-x1.json")["volumes"]
    assert read_json(folder / "new/score/subjects/sub-new.json")["volumes"] == theirs
    assert len((folder / "new/score/volumes.csv").read_text().splitlines()) == 1 + len(theirs)
    assert "Too few scans to compare" in (folder / "new/score/drift.html").read_text("utf-8")


def test_recalibration_makes_a_bundle_that_scores(finished):
    folder, config = finished
    parent = folder / "R/score/bundle"
    for subject in ("sub-c1", "sub-x1"):
        shutil.copytree(folder / f"R/preprocess/{subject}", folder / f"site/preprocess/{subject}")
    frozen = config | {"root": "site", "bundle": "R/score/bundle", "healthy": "march.tsv"}
    frozen |= {"roles": {"sub-c1": "calibrate", "sub-x1": "calibrate"}}
    said = snakemake(folder, frozen, "site/score/bundle/bundle.json")
    assert "score_recalibrate" in said
    assert "score_atlas" not in said
    manifest, old = read_manifest(folder / "site/score/bundle"), read_manifest(parent)
    assert manifest["name"] == "tiny-march"
    same = {n for n in old["files"] if manifest["files"][n] == old["files"][n]}
    renewed = {"calibration.json", "reference.npz", "healthy_slices.npz", "model_card.md"}
    assert set(old["files"]) - same == renewed
    calibration = read_json(folder / "site/score/calibration.json")
    assert calibration["n_healthy"] == 2
    assert calibration["healthy"] != read_json(folder / "R/score/calibration.json")["healthy"]
