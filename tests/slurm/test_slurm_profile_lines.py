"""The shipped profile without a Slurm: its groups, its partitions, and every line of it that a site may uncomment."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from benchmarks.bench_scale import REPOSITORY, link_workflow, write_table
from snakemake_executor_plugin_slurm.submit_string import get_submit_command
from snakemake_executor_plugin_slurm.utils import set_gres_string

from workflow.planned import Job, planned, shared

pytestmark = pytest.mark.timeout(600)

PROFILE = (REPOSITORY / "slurm" / "config.yaml").read_text("utf-8")
# a comment that is YAML once its "# " is taken off
OPTION = re.compile(r"^( *)# ( *(?:- )?[a-z_-]+[:=].*)$", re.MULTILINE)
COHORT = [
    *[(f"sub-{role}{i}", "healthy", role) for role, n in (("train", 4), ("val", 4), ("test", 2)) for i in range(n)],
    ("sub-ill0", "abnormal", "test"), ("sub-new0", "unlabelled", "n/a"),
]  # fmt: skip
SUBJECTS = {subject for subject, _, _ in COHORT}
SCORED = {subject for subject, _, split in COHORT if split != "train"}
FIRST = {"cohort_import", "preprocess_resample", "preprocess_skullstrip", "preprocess_register"}
LATER = {"preprocess_quality", "preprocess_slices"}
TRAININGS = ("train_stage1", "train_method", "train_fold_stage1", "train_fold_method")


def uncomment(*wanted: str) -> str:
    """The profile with the options taken in whose line holds one of these words."""
    found = set()

    def take(line: re.Match[str]) -> str:
        words = [word for word in wanted if word in line[2]]
        found.update(words)
        return line[1] + line[2] if words else line[0]

    text = OPTION.sub(take, PROFILE)
    assert found == set(wanted)
    return text


@pytest.fixture
def plan(tmp_path: Path) -> Callable[..., list[Job]]:
    """A function: the jobs that there are with a profile and some keys of the configuration."""
    folder = tmp_path / "cohort"
    write_table(folder, COHORT)
    link_workflow(folder)
    (folder / "slurm").mkdir()

    def plan(profile: str, keys: dict[str, Any] | None = None) -> list[Job]:
        (folder / "slurm" / "config.yaml").write_text(profile, "utf-8")
        config = {"results_dir": "out", "cohort": {"participants": "participants.tsv"}} | (keys or {})
        (folder / "mine.yaml").write_text(yaml.safe_dump(config), "utf-8")
        return planned(folder, "--profile", "slurm", "--configfile", "mine.yaml")

    return plan


def asked(jobs: list[Job], rule: str) -> dict[str, str]:
    """What every job of a rule asks for: partition and GPUs."""
    known = ("slurm_partition", "gpu", "gres")
    found = [{k: job.resources[k] for k in known if k in job.resources} for job in jobs if job.rule == rule]
    assert found, rule
    assert all(one == found[0] for one in found)
    return found[0]


class Resources(dict):
    """A job's resources as the executor reads them."""

    __getattr__ = dict.get

    @classmethod
    def of(cls, resources: dict[str, str]) -> Resources:
        return cls({k: int(v) if v.isdigit() else v for k, v in resources.items()})


def sbatch(resources: dict[str, str]) -> str:
    """What the executor adds to the sbatch line."""
    return set_gres_string(SimpleNamespace(resources=Resources.of(resources))).strip()


def sbatch_line(job: Job) -> list[str]:
    """What the executor has sbatch asked."""
    told = SimpleNamespace(resources=Resources.of(job.resources), threads=1)
    names = ("run_uuid", "slurm_logfile", "comment_str", "account", "partition", "workdir")
    return get_submit_command(told, dict.fromkeys(names, "")).split()


def test_every_line_to_uncomment_is_known_here():
    lines = {line[1].split(" #")[0].strip() for line in OPTION.findall(PROFILE)}
    assert lines == {
        "slurm-status-command: squeue", "slurm_account: my_account", "constraint: haswell", "gpu: 0", 'gres: "gpu:1"',
        "runtime: 1440", "score_infer:", "slurm_partition: gpu",
    }  # fmt: skip


def test_a_scan_is_one_job_from_import_to_slices_and_only_training_asks_for_gpus(plan):
    jobs = plan(PROFILE)
    groups = shared(jobs)
    assert all(rules == FIRST | LATER and len(subjects) == 1 for rules, subjects in groups["preprocess"])
    assert {subject for _, subjects in groups["preprocess"] for subject in subjects} == SUBJECTS
    assert len(groups["preprocess"]) == len(SUBJECTS)
    for rule in ("train_stage1", "train_method"):
        assert asked(jobs, rule) == {"slurm_partition": "gpu", "gpu": "1"}
        assert sbatch(asked(jobs, rule)) == "--gpus=1"
    others = {job.rule for job in jobs if job.rule not in TRAININGS and job.rule != "all"}
    for rule in others - {"score_infer"}:
        assert asked(jobs, rule) == {"slurm_partition": "cpu"}, rule
    assert asked(jobs, "score_infer") == {"slurm_partition": "cpu", "gpu": "0"}
    assert sbatch(asked(jobs, "score_infer")) == ""


def test_a_training_is_one_task_on_one_node_however_many_gpus_it_has(plan):
    """--ntasks-per-gpu would start a task a GPU, and newer Slurms refuse the step of such a job."""
    for profile in (PROFILE, uncomment("gpu: 0", "gres:", "runtime:").replace('"gpu:1"', '"gpu:2"')):
        jobs = [
            job for job in plan(profile, {"train": {"devices": 2, "compile": False}}) if job.rule in TRAININGS
        ]
        assert jobs
        for job in jobs:
            line = sbatch_line(job)
            assert "--nodes=1" in line
            assert not [word for word in line if word.startswith("--ntasks")]
            assert line[line.index("-t") + 1] == "1440"


def test_nothing_bounds_a_job_that_its_own_snakemake_does_not_know(plan):
    """The evaluation's step would ask for more CPUs than its job has: it is passed `cores`, no other resource."""
    assert yaml.safe_load(PROFILE)["resources"] == ["scans=1"]
    evaluation = [job for job in plan(PROFILE) if job.rule.startswith("evaluate_")]
    assert len(evaluation) > 5
    assert not [job.rule for job in evaluation if "scans" in job.resources]


def test_every_group_takes_so_many_scans_and_the_evaluation_is_one_job(plan):
    """With a second pass."""
    profile = yaml.safe_load(PROFILE)
    named = dict(line.split("=") for line in profile["group-components"])
    assert named["preprocess"] == named["preprocess_second"] == "1"
    profile["group-components"] = [f"{name}=4" for name in named]
    groups = shared(plan(yaml.safe_dump(profile), {"preprocess": {"register": {"second_pass": True}}}))
    ((evaluation, _),) = groups.pop("evaluate")
    assert {"evaluate_collect", "evaluate_detection", "evaluate_figures", "evaluate_report"} < evaluation
    assert all(rule.startswith("evaluate_") for rule in evaluation)
    assert set(groups) == set(named)
    wanted = {
        "preprocess": (FIRST, SUBJECTS),
        "preprocess_second": ({"preprocess_refine"} | LATER, SUBJECTS),
        "infer": ({"score_infer"}, SCORED),
        "zmap": ({"score_zmap"}, SCORED),
        "page": ({"score_combine", "handoff_patient"}, SCORED),
    }
    for name, (rules, subjects) in wanted.items():
        parts = groups[name]
        assert set().union(*(found for found, _ in parts)) == rules, name
        # nobody twice, four to a job, no more
        assert sorted(s for _, some in parts for s in some) == sorted(subjects), name
        assert max(len(some) for _, some in parts) == 4, name
        assert len(parts) == -(-len(subjects) // 4), name


def test_gres_and_inference_on_gpus_reach_the_jobs(plan):
    text = uncomment("gpu: 0", "gres:", "score_infer:", "slurm_partition:")
    text = text.replace('"gpu:1"', '"gpu:2"')
    keys = {"score": {"accelerator": "cuda", "cross_fit": 2}, "train": {"devices": 2, "compile": False}}
    jobs = plan(text, keys)
    for rule in TRAININGS:
        assert asked(jobs, rule) == {"slurm_partition": "gpu", "gpu": "0", "gres": "gpu:2"}, rule
        assert sbatch(asked(jobs, rule)) == "--gres=gpu:2"
    assert asked(jobs, "score_infer") == {"slurm_partition": "gpu", "gpu": "1"}
    assert sbatch(asked(jobs, "score_infer")) == "--gpus=1"


def test_a_site_without_gpus_asks_for_none(plan):
    profile = yaml.safe_load(uncomment("slurm_account", "constraint"))
    assert profile["default-resources"]["slurm_account"] == "my_account"
    assert set(profile.pop("set-resources")) == set(TRAININGS)
    jobs = plan(yaml.safe_dump(profile), {"train": {"accelerator": "cpu"}})
    for rule in ("train_stage1", "train_method"):
        assert asked(jobs, rule) == {"slurm_partition": "cpu", "gpu": "0"}
        assert sbatch(asked(jobs, rule)) == ""
    for job in jobs:
        if job.rule not in ("all", "cohort_participants"):
            assert job.resources["slurm_account"] == "my_account", job.rule
            assert job.resources["constraint"] == "haswell", job.rule
