"""Recalibration's DAG: preprocessing, inference with frozen weights, new scales; nothing that trains."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import yaml

from normct.common.bundle import write_bundle

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def site(fresh):
    """A checkout with a bundle made of the tiny configuration (its files stand for real ones) and two scans."""
    source = fresh.folder / "source"
    source.mkdir()
    header = json.dumps({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
    (source / "w").write_bytes(len(header).to_bytes(8, "little") + header + bytes(8))
    np.savez(source / "s.npz", mean=np.zeros(3))
    (source / "atlas").write_bytes(b"\x1f\x8b image")
    (source / "c.json").write_text("{}")
    config = yaml.safe_load((REPOSITORY / "config.yaml").read_text("utf-8"))
    files = {
        "weights/vae_kl__seed-0.safetensors": source / "w",
        "atlas.nii.gz": source / "atlas",
        "atlas_mask.nii.gz": source / "atlas",
        "statistical_atlas.npz": source / "s.npz",
        "reference.npz": source / "s.npz",
        "calibration.json": source / "c.json",
    }
    fields = {
        "name": "tiny", "created_by": "normct 0", "methods": ["vae_kl"], "seeds": [0], "versions": {},
        "config": {name: config[name] for name in ("preprocess", "score", "train")},
        "commit": None, "training": {"scans": 3},
    }  # fmt: skip
    write_bundle(fresh.folder / "b", fields, files, {"model_card.md": "# tiny\n"})
    image = nib.Nifti1Image(np.zeros((4, 4, 4), np.int16), np.eye(4))
    for name in ("one", "two"):
        nib.save(image, fresh.folder / f"{name}.nii.gz")
    return fresh


def rules(text: str) -> dict[str, int]:
    """Return the jobs of a dry run by rule."""
    lines = (line.split() for line in text.partition("Job stats:")[2].partition("total")[0].splitlines())
    return {line[0]: int(line[1]) for line in lines if len(line) == 2 and line[1].isdigit()}


def test_frozen_weights_and_new_scales_only(site):
    (site.folder / "our own.tsv").write_text(
        "participant_id\tct\tgroup\nsub-1\tone.nii.gz\thealthy\nsub-2\ttwo.nii.gz\thealthy\n"
    )
    done = site.snakemake("recalibrate", "--dry-run", "-p", "--config", "healthy=our own.tsv", "bundle=b")
    counts = rules(done.stdout)
    for rule in ("preprocess_slices", "score_infer", "score_zmap"):
        assert counts[rule] == 2, rule
    for rule in ("verify_bundle", "reference", "thresholds", "calibrate", "recalibrate"):
        assert counts[f"score_{rule}"] == 1, rule
    assert not [r for r in counts if r.startswith(("train_", "phantom", "evaluate", "handoff"))]
    assert not {"score_atlas", "score_bundle", "preprocess_atlas"} & set(counts)
    assert "out/recalibrated/our_own/score/bundle" in done.stdout
    assert "--own sub-1" in done.stdout  # a scan that sets the scales is scored without itself
    assert "--role calibrate" in done.stdout

    scoring = site.snakemake("score_new", "--dry-run", "-p", "--config", "new=our own.tsv", "bundle=b")
    counts = rules(scoring.stdout)
    # a bundle of before healthy slices were kept still scores; a new one carries them
    assert counts["score_combine"] == 2 and "--healthy-slices" not in scoring.stdout
    assert "--healthy-slices out/recalibrated/our_own/score/healthy_slices.npz --site" in done.stdout
    assert counts["score_drift"] == 1
    assert not {"score_reference", "score_thresholds", "score_calibrate", "score_recalibrate"} & set(counts)
    assert "out/new/our_own/score/drift.html" in scoring.stdout


def test_provenance_gets_the_frozen_settings_not_the_local_ones(site):
    """What this machine's file says of training made nothing here; what it computes with is its own."""
    (site.folder / "new.tsv").write_text("participant_id\tct\tgroup\nsub-1\tone.nii.gz\tunlabelled\n")
    (site.folder / "other.yaml").write_text("train: {multitask: {epochs: 77}}\nscore: {accelerator: cpu}\n")
    done = site.snakemake(
        "score_new", "--dry-run", "-p", "--config", "new=new.tsv", "bundle=b", extra="other.yaml"
    )
    command = re.search(r"python -m normct\.handoff\.index .*", done.stdout)[0]
    words = shlex.split(command)
    config = json.loads(words[words.index("--settings") + 1])["config"]
    frozen = json.loads((site.folder / "b" / "bundle.json").read_text("utf-8"))["config"]
    assert frozen["train"]["multitask"]["epochs"] != 77
    for section in ("preprocess", "score", "train"):
        own = {"accelerator": "cpu"} if section == "score" else {}
        assert config[section] == frozen[section] | own, section
    assert "cohort" in config and "evaluate" not in config


def test_scans_that_are_not_healthy_are_refused(site):
    (site.folder / "own.tsv").write_text(
        "participant_id\tct\tgroup\nsub-1\tone.nii.gz\thealthy\nsub-2\ttwo.nii.gz\tabnormal\n"
    )
    done = site.snakemake("--dry-run", "--config", "healthy=own.tsv", "bundle=b", check=False)
    assert done.returncode != 0
    assert "sub-2, group: 'abnormal'; recalibration takes healthy scans only" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "given", [("healthy=own.tsv",), ("bundle=b",), ("new=own.tsv", "healthy=own.tsv", "bundle=b")]
)
def test_a_bundle_goes_with_one_table(site, given):
    (site.folder / "own.tsv").write_text("participant_id\tct\nsub-1\tone.nii.gz\n")
    done = site.snakemake("--dry-run", "--config", *given, check=False)
    assert done.returncode != 0
    assert "Frozen models take a bundle and one table" in done.stderr
