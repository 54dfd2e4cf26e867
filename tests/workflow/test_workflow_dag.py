"""The whole DAG: dry run, a tiny real run, nothing left to do. (The same tables twice: with what dies.)"""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

pytestmark = [pytest.mark.xdist_group("pipeline"), pytest.mark.timeout(1500)]

METHODS = {"vae_kl", "cevae", "context_restoration", "vae_pretrained", "multitask_pretrained"}
TRIVIAL = {"brain_area", "slice_position", "mean_hu", "statistical_atlas"}


def test_dry_run_names_every_stage(fresh):
    done = fresh.snakemake("--dry-run")
    for rule in ("phantom", "cohort", "preprocess", "train", "score", "evaluate", "handoff"):
        assert f"rule {rule}" in done.stdout
    assert not (fresh.folder / "out").exists()


def test_a_training_over_several_gpus_asks_for_as_many(fresh):
    config = fresh.folder / "tiny.yaml"
    config.write_text(config.read_text().replace("train:\n", "train:\n  devices: 2\n  compile: false\n", 1))
    done = fresh.snakemake("--dry-run", "--cores", "4")
    jobs = [
        job for job in done.stdout.split("\n\n") if "rule train_stage1:" in job or "rule train_method:" in job
    ]
    assert jobs
    for job in jobs:
        assert "gpu=2" in job
        assert "threads: 2" in job
        assert '"devices": 2' in job or "Shell command" not in job


def test_typo_in_a_key_is_refused_with_the_nearest_name(fresh):
    done = fresh.snakemake("--dry-run", "--config", "handof={}", check=False)
    assert done.returncode != 0
    assert "handof: unknown key; did you mean 'handoff'?" in done.stderr
    assert "Traceback" not in done.stderr


def test_all_config_faults_come_in_one_list(fresh):
    config = fresh.folder / "tiny.yaml"
    config.write_text(config.read_text() + "score: {lamda: 0.3}\npreprocess: {skullstrip: {engine: magic}}\n")
    done = fresh.snakemake("--dry-run", check=False)
    assert "score.lamda: unknown key; did you mean 'lambda'?" in done.stderr
    assert "preprocess.skullstrip.engine" in done.stderr


def test_a_missing_program_is_refused_before_any_job(fresh):
    config = fresh.folder / "tiny.yaml"
    config.write_text(config.read_text() + "preprocess: {skullstrip: {engine: fsl}}\n")
    if shutil.which("bet"):
        pytest.skip("FSL is installed here")
    done = fresh.snakemake(check=False)
    assert done.returncode != 0
    assert "bet" in done.stderr
    assert not list((fresh.folder / "out").rglob("*.nii*"))


def test_tables_hold_every_method_and_protocol(finished):
    out = finished.folder / "out"
    table = pd.read_csv(out / "evaluate" / "detection.csv", dtype={"seed": str}, keep_default_na=False)
    assert list(table.columns) == [
        "protocol", "method", "score", "seed", "auroc", "aupr", "prevalence", "n_pos", "n_neg", "reason",
    ]  # fmt: skip
    assert set(table["protocol"]) == {"slice", "slice_healthy", "clinical", "volume"}
    assert set(table["method"]) >= METHODS | TRIVIAL
    assert set(table.loc[table["method"].isin(METHODS), "score"]) >= {"thesis"}
    values = pd.to_numeric(table["auroc"]).dropna()
    assert values.between(0, 1).all() and len(values) > 20


def test_the_slice_table_agrees_with_the_slice_stores(finished):
    out = finished.folder / "out"
    with gzip.open(out / "score" / "slices.csv.gz", "rt") as handle:
        table = pd.read_csv(handle, keep_default_na=False)
    assert list(table.columns) == [
        "participant_id", "z", "method", "score", "seed", "value", "rank", "n_healthy", "percentile", "percentile_low",
        "percentile_high", "higher_than_all", "uncertainty", "uncertainty_of", "brain_pixels", "lesion_pixels", "group",
        "pathology", "split",
    ]  # fmt: skip
    assert set(table["split"]) == {"val", "test"}
    for subject, rows in table.groupby("participant_id"):
        index = pd.read_csv(out / "preprocess" / str(subject) / "slices.tsv", sep="\t")
        usable = index[index["usable"].astype(bool)]
        one = rows[(rows["method"] == "brain_area")]
        assert list(one["z"]) == list(usable["z"])
        assert list(one["brain_pixels"]) == list(usable["brain_pixels"])


def test_handoff_maps_lie_on_the_patients_own_grid(finished):
    out = finished.folder / "out"
    pages = sorted((out / "handoff" / "patients").glob("*/index.html"))
    assert pages
    for page in pages:
        native = nib.load(out / "cohort" / page.parent.name / "ct.nii.gz")
        for name in ("anomaly_map", "anomaly_mask", "brain_mask"):
            image = nib.load(page.parent / f"{name}.nii.gz")
            assert image.shape == native.shape
            np.testing.assert_allclose(image.affine, native.affine, atol=1e-4)
    assert "Research use only" in (out / "handoff" / "index.html").read_text("utf-8")
    assert json.loads((out / "handoff" / "status.json").read_text("utf-8"))["failed"] == []


def test_nothing_is_left_to_do_and_nothing_half_written(finished):
    done = finished.snakemake()
    assert "Nothing to be done" in done.stdout + done.stderr
    assert not [p for p in Path(finished.folder / "out").rglob("*") if p.name.startswith(".part-")]


def test_comments_rerun_nothing_and_code_reruns_its_stage(finished, tmp_path):
    copy = finished.copy(tmp_path / "edited")
    module = copy.folder / "src" / "normct" / "score" / "combine.py"
    module.write_text(module.read_text() + "\n# a comment\n")
    assert "Nothing to be done" in copy.snakemake("--dry-run").stdout
    module.write_text(module.read_text() + "\nCHANGED = 1\n")
    done = copy.snakemake("--dry-run")
    assert "rule score_combine" in done.stdout
    assert "rule score_infer" not in done.stdout
    assert "rule train_" not in done.stdout


def test_a_second_pass_registers_to_the_mean_of_the_training_brains(finished, tmp_path):
    """The rules of the second pass, for one scan to its slices; the rest of the DAG follows in a dry run."""
    copy = finished.copy(tmp_path / "second")
    (copy.folder / "second.yaml").write_text("preprocess: {register: {second_pass: true}}\n")
    scan = copy.folder / "out" / "preprocess" / "sub-icb001"
    alone, slices = (scan / "native_to_atlas.mat").read_bytes(), (scan / "slices.npz").read_bytes()
    copy.snakemake("out/preprocess/sub-icb001/slices.npz", extra="second.yaml")
    assert (scan / "native_to_atlas_first.mat").read_bytes() == alone
    assert (scan / "native_to_atlas.mat").read_bytes() != alone
    assert (scan / "slices.npz").read_bytes() != slices
    record = json.loads((scan / "register.json").read_text())
    assert 0 < record["second_pass"]["moved_deg"] < 5
    assert record["second_pass"]["moved_mm"] < 5
    assert nib.load(scan.parent / "mean_brain.nii.gz").shape == (240, 240, 155)
    planned = copy.snakemake("--dry-run", extra="second.yaml").stdout
    assert planned.count("rule preprocess_refine") == 7  # the other scans of tiny.yaml
    frozen = planned[planned.index("rule score_bundle") :]
    assert "out/preprocess/mean_brain.nii.gz" in frozen[: frozen.index("output:")]


def test_a_page_that_fails_stops_no_other_and_the_exit_status_says_so(finished, tmp_path):
    copy = finished.copy(tmp_path / "checkout")
    maps = copy.folder / "out" / "score" / "calibrated" / "sub-icb001.npz"
    maps.write_bytes(maps.read_bytes()[:1000])
    done = copy.snakemake("out/handoff/index.html", check=False)
    assert done.returncode == 3, done.stderr[-2000:]
    handoff = copy.folder / "out" / "handoff"
    status = json.loads((handoff / "status.json").read_text("utf-8"))
    assert [item["participant_id"] for item in status["failed"]] == ["sub-icb001"]
    assert "Pages that could not be made" in done.stderr
    assert "sub-icb001" in (handoff / "index.html").read_text("utf-8")
    assert (handoff / "patients" / "sub-bleed001" / "anomaly_map.nii.gz").is_file()
    assert not (handoff / "patients" / "sub-icb001" / "anomaly_map.nii.gz").exists()
