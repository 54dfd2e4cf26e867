"""Rows of participants.tsv come and go: which rules run, and for whom. Stand-in scans in a finished state; nothing runs."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import yaml
from benchmarks.bench_scale import REPOSITORY, SOURCE, link_workflow, write_table
from benchmarks.child import cost

from workflow.planned import Job, of, planned

pytestmark = [pytest.mark.timeout(600), pytest.mark.xdist_group("patients")]

COHORT = [
    *[(f"sub-train{i}", "healthy", "train") for i in range(4)],
    *[(f"sub-val{i}", "healthy", "val") for i in range(4)],
    *[(f"sub-test{i}", "healthy", "test") for i in range(2)],
    *[(f"sub-ill{i}", "abnormal", "test") for i in range(2)],
]
PREPROCESSING = {
    "cohort_import", "preprocess_resample", "preprocess_skullstrip", "preprocess_register", "preprocess_quality",
    "preprocess_slices",
}  # fmt: skip
SCORING = {"score_infer", "score_zmap", "score_combine"}
CONFIG = ["--configfile", "cohort.yaml"]


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which a dozen scans are done. Its table alone may be changed."""
    folder = tmp_path_factory.mktemp("patients") / "cohort"
    write_table(folder, COHORT)
    config = {"results_dir": "out", "cohort": {"participants": "participants.tsv"}}
    (folder / "cohort.yaml").write_text(yaml.safe_dump(config), "utf-8")
    link_workflow(folder)
    cost([sys.executable, str(REPOSITORY / "benchmarks" / "finished_state.py"), *CONFIG], folder, SOURCE)
    assert planned(folder, *CONFIG) == []
    return folder


def with_rows(cohort: Path, rows: list[tuple[str, str, str]]) -> list[Job]:
    """Return what is to be done with another table."""
    write_table(cohort, rows)
    return planned(cohort, *CONFIG)


def check_own_jobs(jobs: list[Job], new: set[str], rules: set[str]) -> dict[str, set[str]]:
    """These rules run for the new scans, and no rule of preprocessing for any other."""
    subjects = of(jobs, "subject")
    for rule in rules:
        assert subjects[rule] == new, rule
    assert {rule for rule in subjects if rule.startswith(("cohort_", "preprocess_"))} <= PREPROCESSING
    for rule in PREPROCESSING & set(subjects):
        assert subjects[rule] == new, rule
    return subjects


def trained(jobs: list[Job]) -> set[str]:
    return {job.rule for job in jobs if job.rule.startswith("train_")}


def test_test_scans_are_preprocessed_and_scored_alone(cohort):
    new = {f"sub-more{i}" for i in range(10)}
    jobs = with_rows(cohort, [*COHORT, *((s, "abnormal", "test") for s in sorted(new))])
    subjects = check_own_jobs(jobs, new, PREPROCESSING | SCORING | {"handoff_patient"})
    assert set(subjects) == PREPROCESSING | SCORING | {"handoff_patient"}
    assert not trained(jobs)
    rules = {job.rule for job in jobs}
    assert not rules & {"score_atlas", "score_reference", "score_thresholds", "score_calibrate"}
    assert {"cohort_participants", "score_export", "evaluate_detection", "handoff_index"} <= rules


def test_an_unlabelled_scan_trains_nothing_and_counts_nowhere(cohort):
    jobs = with_rows(cohort, [*COHORT, ("sub-clinic", "unlabelled", "n/a")])
    check_own_jobs(jobs, {"sub-clinic"}, PREPROCESSING | SCORING | {"handoff_patient"})
    assert not trained(jobs)
    rules = {job.rule for job in jobs}
    assert not rules & {
        "score_atlas",
        "score_reference",
        "score_thresholds",
        "score_calibrate",
        "score_export",
    }
    assert "handoff_index" in rules


def test_a_training_scan_retrains_everything_and_preprocesses_itself(cohort):
    jobs = with_rows(cohort, [*COHORT, ("sub-learn", "healthy", "train")])
    subjects = check_own_jobs(jobs, {"sub-learn"}, PREPROCESSING)
    assert trained(jobs) == {"train_pack", "train_stage1", "train_method"}
    demo = yaml.safe_load((REPOSITORY / "config.yaml").read_text("utf-8"))
    assert of(jobs, "method")["train_method"] == set(demo["train"]["methods"]) - {"context_restoration"}
    # new weights score everybody anew, but the training scans have no scores
    others = {subject for subject, _, split in COHORT if split != "train"}
    assert subjects["score_infer"] == others
    assert {"score_atlas", "score_reference", "score_thresholds", "score_calibrate"} <= {
        job.rule for job in jobs
    }


@pytest.mark.parametrize("gone", ["sub-test0", "sub-train0"])
def test_a_removed_scan_leaves_the_others_alone(cohort, gone):
    jobs = with_rows(cohort, [row for row in COHORT if row[0] != gone])
    subjects = check_own_jobs(jobs, set(), set())
    assert not PREPROCESSING & set(subjects)
    if gone == "sub-train0":
        assert trained(jobs) == {"train_pack", "train_stage1", "train_method"}
    else:
        assert not subjects
        assert not trained(jobs)
        assert {"score_export", "handoff_index", "evaluate_detection"} <= {job.rule for job in jobs}
