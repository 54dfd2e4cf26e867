"""The shipped configurations, each with stand-in scans: the networks that it plans. Nothing runs."""

from __future__ import annotations

import shutil
import sys

import pytest
import yaml
from benchmarks.bench_scale import REPOSITORY, SOURCE, link_workflow, write_table
from benchmarks.child import cost

from normct.common.registry import METHODS, STAGE1
from workflow.planned import planned

pytestmark = pytest.mark.timeout(300)

COHORT = [
    *[(f"sub-{role}{i}", "healthy", role) for role, n in (("train", 3), ("val", 4), ("test", 1)) for i in range(n)],
    ("sub-ill0", "abnormal", "test"),
]  # fmt: skip
THESIS = {"vae_kl", "cevae", "context_restoration", "vae_pretrained", "multitask_pretrained"}
STUDY = {"vae_kl", "cevae", "denoising"}
FIVE, THREE = set("01234"), set("012")


@pytest.mark.parametrize(
    ("files", "table", "methods", "seeds", "root"),
    [
        (["own"], "my_cohort/participants.tsv", THESIS, FIVE, "results_own"),
        (["thesis"], "participants.tsv", THESIS, FIVE, "results_thesis"),
        (["extended"], "participants.tsv", set(METHODS), FIVE, "results_extended"),
        (["detection", "cq500"], "cq500/participants.tsv", STUDY, THREE, "results_cq500"),
        (["detection", "ctich"], "ctich/participants.tsv", STUDY, THREE, "results_ctich"),
    ],
)
def test_every_method_is_trained_with_every_seed(tmp_path, files, table, methods, seeds, root):
    """Only the table is the user's: its name is the one that the file has."""
    link_workflow(tmp_path)
    write_table(tmp_path, COHORT, table)
    jobs = planned(
        tmp_path, "--configfile", *(str(REPOSITORY / "configs" / f"{name}.yaml") for name in files)
    )
    networks = [
        (job.wildcards["method"], job.wildcards["seed"]) for job in jobs if job.rule == "train_method"
    ]
    networks += [(STAGE1, job.wildcards["seed"]) for job in jobs if job.rule == "train_stage1"]
    assert sorted(networks) == sorted((method, seed) for method in methods for seed in seeds)
    imported = {job.wildcards["subject"] for job in jobs if job.rule == "cohort_import"}
    assert imported == {subject for subject, _, _ in COHORT}
    rules = {job.rule for job in jobs}
    assert {"evaluate_report", "score_bundle", "handoff_patient", "handoff_index"} <= rules
    assert not [rule for rule in rules if rule.startswith("phantom_")]
    # the study's second pass is a setting of its own
    assert ("preprocess_refine" in rules) == (files[0] == "detection")
    assert (
        yaml.safe_load((REPOSITORY / "configs" / f"{files[-1]}.yaml").read_text("utf-8"))["results_dir"]
        == root
    )


def test_every_shipped_configuration_is_planned_here():
    """The sixth, detection.yaml alone, is the study on its own synthetic cohort (test_workflow_detection.py)."""
    assert {path.stem for path in (REPOSITORY / "configs").glob("*.yaml")} == {
        "own", "thesis", "extended", "cq500", "ctich", "detection",
    }  # fmt: skip


def test_the_thesis_needs_fsl_and_says_so_before_any_job(tmp_path):
    for words in (REPOSITORY / "configs" / "thesis.yaml", REPOSITORY / "docs" / "training.md"):
        assert "needs FSL" in words.read_text("utf-8"), words.name
    if shutil.which("bet"):
        pytest.skip("FSL is installed here")
    link_workflow(tmp_path)
    write_table(tmp_path, COHORT)
    command = [sys.executable, "-m", "snakemake", "--cores", "1"]
    with pytest.raises(RuntimeError, match=r"(?s)A program that the configuration names is missing.*bet"):
        cost([*command, "--configfile", str(REPOSITORY / "configs" / "thesis.yaml")], tmp_path, SOURCE)
    assert not list((tmp_path / "results_thesis").rglob("*.nii.gz"))
