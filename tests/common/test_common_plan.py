"""A dry run in a user's words, and jobs that Slurm will never start."""

from __future__ import annotations

import subprocess

import pytest

from normct.common import slurm_queue as queue
from normct.common.plan import plan

DRY = """\
Building DAG of jobs...
Job stats:
job                    count
-------------------  -------
preprocess_register        2
preprocess_resample        2
score_combine              6
all                        1
total                     11

Reasons:
    (check individual jobs above for details)
    output files have to be generated:
        preprocess_resample
    input files updated by another job:
        all, preprocess_register, score_combine
    params have changed since last execution:
        preprocess_register
This was a dry-run (flag -n).
"""


def test_the_plan_names_what_changed_and_what_follows():
    lines = plan(DRY).splitlines()
    assert lines[0] == "10 jobs would run:"
    assert [line.split()[0] for line in lines[2:]] == [
        "preprocess_register",
        "preprocess_resample",
        "score_combine",
    ]
    assert lines[2].endswith("2 x  its settings or its code changed")
    assert lines[3].endswith("its files are not there")
    assert lines[4].endswith("what it reads will be made anew")


def test_nothing_to_do_is_said():
    assert "up to date" in plan(
        "Building DAG of jobs...\nNothing to be done (all requested files are present)."
    )


QUEUE = """\
17|rule_train_method_wildcards_vae_kl_0|gpu|1|3000M|1-00:00:00|PartitionTimeLimit
18|rule_score_infer_wildcards_sub-1|cpu|1|2000M|20:00|Resources
19|rule_preprocess|cpu|64|128000M|20:00|BadConstraints
"""


def test_only_jobs_that_waiting_does_not_help_are_reported():
    jobs = queue.stuck(QUEUE)
    assert [job.job for job in jobs] == ["17", "19"]
    assert "train_method vae_kl_0; partition gpu" in jobs[0].text
    assert "PartitionTimeLimit" in jobs[0].text
    assert "slurm/config.yaml" in jobs[0].text


@pytest.mark.parametrize(
    ("reason", "hopeless"),
    [
        ("QOSMaxCpuPerJobLimit", True),
        ("QOSMaxGRESPerNode", True),
        ("AssocMaxWallDurationPerJobLimit", True),
        ("ReqNodeNotAvail, UnavailableNodes:node[1-4]", True),
        ("QOSMaxJobsPerUserLimit", False),
        ("QOSMaxGRESPerUser", False),
        ("AssocMaxJobsLimit", False),
        ("AssocGrpCpuLimit", False),
        ("ReqNodeNotAvail, Reserved for maintenance", False),
        ("Priority", False),
    ],
)
def test_a_limit_of_all_jobs_together_passes_and_one_of_a_job_does_not(reason, hopeless):
    assert bool(queue.stuck(f"7|rule_train_pack|cpu|1|500M|1:00:00|{reason}")) == hopeless


def test_a_cluster_without_accounts_is_told_apart(monkeypatch, tmp_path):
    program = tmp_path / "sacct"
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    program.write_text("#!/bin/sh\necho Slurm accounting storage is disabled >&2; exit 1\n")
    program.chmod(0o755)
    fault = queue.no_accounts()
    assert fault is not None
    assert "does not answer: Slurm accounting storage is disabled" in fault
    assert "slurm-status-command: squeue" in fault
    program.write_text("#!/bin/sh\nexit 0\n")
    assert queue.no_accounts() is None


def test_each_stuck_job_is_said_once(monkeypatch, tmp_path):
    """``watch`` asks the program named squeue, again and again."""
    program = tmp_path / "squeue"
    program.write_text(f"#!/bin/sh\necho >> {tmp_path}/asked\ncat <<'.'\n{QUEUE}.\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    said: list[str] = []
    stop = queue.watch(said.append, first=0.02, seconds=0.02)
    assert stop is not None
    for _ in range(200):
        if (tmp_path / "asked").is_file() and (tmp_path / "asked").read_text().count("\n") >= 4:
            break
        subprocess.run(["sleep", "0.05"], check=True)
    stop.set()
    assert [line.split()[5] for line in said] == ["17", "19"]
