"""The cluster page, command by command, on a real Slurm with the shipped profile; and what dies there.

Every command that docs/cluster.md shows is run here, as it stands there; the test itself is `$EDITOR`.
The tests of this file build on one another; all but the first are a study (`make cluster`).
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import psutil
import pytest
import yaml

from slurm import cluster
from slurm.page import RUN
from slurm.page import commands as page

REPOSITORY = Path(__file__).resolve().parents[2]
REASON = cluster.why_not()

pytestmark = [
    pytest.mark.skipif(REASON is not None, reason=str(REASON)),
    pytest.mark.cluster,
    pytest.mark.xdist_group("slurm"),
    pytest.mark.timeout(1500),
]

TRAINED = "out/train/vae_kl/seed-0"
TARGETS = f"--rerun-incomplete {TRAINED}/model.safetensors"  # --configfile takes all words up to an option
LOG = "out/logs/train/vae_kl-seed-0.log"
# what a site edits: without accounting squeue has to be asked; a node of two CPUs; three subjects a job
SITE = {
    "slurm-status-command": "squeue", "slurm-init-seconds-before-status-checks": 2, "latency-wait": 10, "cores": 2,
    "max-status-checks-per-second": 10,
    "group-components": ["preprocess=3", "infer=3", "zmap=3", "page=3"],
}  # fmt: skip
SCANS = {"healthy_train": 1, "healthy_val": 3, "healthy_test": 1}
ILL = {"aneurysm": 0, "atrophy": 0, "bleed": 0, "cavernoma": 0, "icb": 1, "ischemia": 0, "tumor": 0}
SHORT = {"methods": ["vae_kl"], "vae_kl": {"epochs": 1}}
LONG = {"methods": ["vae_kl"], "vae_kl": {"epochs": 60}, "stop_patience": 1000}


@dataclass
class Site:
    """The clone, and the commands of the page that no test has run yet."""

    folder: Path
    completed: Path
    left: list[str] = field(default_factory=list)
    undisturbed: dict[str, bytes] = field(default_factory=dict)

    def shell(self, command: str) -> str:
        """What a user's shell is given."""
        return f". .venv/bin/activate; PATH={self.folder.parent}/bin:$PATH; {command}"

    @property
    def environment(self) -> dict[str, str]:
        return os.environ | {"PYTHONPATH": str(self.folder / "src"), "EDITOR": "true"}

    def run(self, shown: str, more: str = "", values: dict[str, str] | None = None) -> str:
        """Run a command that the page shows, its placeholders filled in, with ``more`` words; return all it said."""
        if shown in self.left:
            self.left.remove(shown)
        assert shown in page(), shown
        for name, value in (values or {}).items():
            shown = shown.replace(name, value)
        done = subprocess.run(
            ["bash", "-c", self.shell(f"{shown} {more}")], cwd=self.folder, env=self.environment,
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{shown}\n{done.stdout[-3000:]}{done.stderr[-6000:]}"
        return done.stdout + done.stderr

    def start(self, shown: str, more: str = "") -> subprocess.Popen[bytes]:
        """Start it instead, its words going to a file."""
        assert shown in page()
        with (self.folder / "started.out").open("wb") as out:
            return subprocess.Popen(
                ["bash", "-c", self.shell(f"exec {shown} {more}")], cwd=self.folder, env=self.environment,
                stdout=out, stderr=out, start_new_session=True,
            )  # fmt: skip

    def text(self, name: str) -> str:
        path = self.folder / name
        return path.read_text("utf-8", errors="replace") if path.is_file() else ""


def wait_for(ready: Callable[[], object], what: str, seconds: float = 600) -> None:
    end = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < end, f"{what}: not within {seconds} s"
        time.sleep(0.1)


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    """A cluster in a short path: a socket's name may have 107 letters."""
    folder = Path(tempfile.mkdtemp(prefix="nct-"))
    try:
        impatient = folder / "bin" / "snakemake"
        impatient.parent.mkdir()
        overlay = Path(__file__).with_name("impatient.py")
        impatient.write_text(f'#!/bin/sh\nexec {sys.executable} {overlay} "$@"\n', "utf-8")
        impatient.chmod(0o755)
        with cluster.slurm(folder / "slurm") as completed:
            yield Site(folder / "normct", completed, page())
    finally:
        for process in left_behind(folder):
            process.kill()
        shutil.rmtree(folder)


def left_behind(folder: Path) -> list[psutil.Process]:
    """Jobs that outlived their slurmd."""
    return [p for p in psutil.process_iter(["cwd"]) if (p.info["cwd"] or "").startswith(str(folder))]


def edit_profile(site: Site, values: dict, training: dict | None = None) -> None:
    """What the user does to slurm/config.yaml in the editor."""
    path = site.folder / "slurm" / "config.yaml"
    profile = yaml.safe_load(path.read_text("utf-8")) | values
    profile["set-resources"]["train_method"] |= training or {}
    path.write_text(yaml.safe_dump(profile), "utf-8")


def edit_cohort(site: Site, train: dict) -> None:
    """What the user does to mine.yaml in the editor."""
    tiny = yaml.safe_load((REPOSITORY / "tests" / "workflow" / "tiny.yaml").read_text("utf-8"))
    tiny["train"] |= train
    tiny["phantom"] = SCANS | {"abnormal": ILL}
    (site.folder / "mine.yaml").write_text(yaml.safe_dump(tiny), "utf-8")


def test_from_clone_to_results(site):
    clone, enter, *_ = site.left
    assert (clone, enter) == ("git clone <this repository> normct", "cd normct")
    if (REPOSITORY / ".git").exists():
        subprocess.run(["git", "clone", "--quiet", REPOSITORY, site.folder], check=True)
    for name in ("src", "workflow", "slurm", "configs"):  # and what is not committed yet
        ignore = shutil.ignore_patterns("__pycache__", "*.egg-info")
        shutil.copytree(REPOSITORY / name, site.folder / name, ignore=ignore, dirs_exist_ok=True)
    for name in ("Snakefile", "config.yaml", "Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy2(REPOSITORY / name, site.folder / name)
    plan = subprocess.run(  # 2 GB from the network otherwise
        ["make", "--dry-run", "--always-make", ".venv/.base"],
        cwd=site.folder, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert "-c constraints.txt -e ." in plan
    (site.folder / ".venv").symlink_to(sys.prefix)
    for command in (clone, enter, "make .venv/.base"):
        site.left.remove(command)
    for command in (". .venv/bin/activate", "$EDITOR slurm/config.yaml"):
        site.run(command)
    for command in ("cp configs/own.yaml mine.yaml", "$EDITOR mine.yaml"):
        site.run(command)
    edit_cohort(site, SHORT)
    assert "This was a dry-run" in site.run(f"{RUN} --dry-run")
    with pytest.raises(
        AssertionError, match=r"uncomment `slurm-status-command: squeue` in slurm/config\.yaml"
    ):
        site.run(RUN)  # no accounts are kept here
    assert not cluster.show()
    edit_profile(site, SITE)
    site.run(RUN)
    for name in (
        "evaluate/report.html",
        "score/bundle/bundle.json",
        "score/slices.csv.gz",
        "handoff/index.html",
    ):
        assert (site.folder / "out" / name).is_file(), name
    detection = pd.read_csv(site.folder / "out" / "evaluate" / "detection.csv")
    assert {"vae_kl", "statistical_atlas", "fused"} <= set(detection["method"])
    assert detection["auroc"].notna().any()
    worklist = (site.folder / "out" / "handoff" / "index.html").read_text("utf-8")
    for scan in ("sub-icb001", "sub-healthytest001"):
        assert scan in worklist
        assert (site.folder / "out" / "handoff" / "patients" / scan / "index.html").is_file()

    records = cluster.jobs(site.completed)
    assert {r["JobState"] for r in records} == {"COMPLETED"}
    jobs = cluster.show()
    assert len(jobs) == len(records)
    assert {job["Partition"] for job in jobs} == {"cpu", "gpu"}
    (training,) = (job for job in jobs if job["Partition"] == "gpu")  # nothing else needs a GPU
    assert "gres:gpu:1" in training["TresPerJob"]
    assert (training["TimeLimit"], training["MinMemoryNode"]) == ("1-00:00:00", "3000M")
    assert not any("gpu" in job.get("TresPerJob", "") for job in jobs if job is not training)
    # three scans a job from phantom to slices, and of inference and z maps; scores with pages; the whole evaluation
    groups = ("preprocess_cohort_import", "infer", "zmap", "page", "evaluate")
    shared = {name: [job for job in jobs if job["Comment"].startswith(f"rule_{name}_")] for name in groups}
    assert {name: len(found) for name, found in shared.items()} == dict(
        zip(groups, (2, 2, 2, 2, 1), strict=True)
    )
    # one after another in it: one CPU, the memory of one, the time of all three
    for job in shared["preprocess_cohort_import"]:
        assert (job["NumCPUs"], job["MinMemoryNode"], job["TimeLimit"]) == ("1", "2500M", "05:15:00")


@pytest.mark.study
def test_a_job_that_can_never_start_is_reported_and_a_head_job_stops_cleanly(site):
    edit_cohort(site, LONG)
    site.run(RUN, TARGETS)
    site.undisturbed = {
        name: (site.folder / TRAINED / name).read_bytes() for name in ("model.safetensors", "history.csv")
    }
    shutil.rmtree(site.folder / TRAINED)
    more = f"{TARGETS} --set-resources train_method:slurm_partition=short"
    head = site.run("sbatch slurm/head.sh --configfile mine.yaml", more).split()[-1]
    out = f"normct-{head}.out"
    wait_for(lambda: "Slurm will not start job" in site.text(out), "the reason for a pending job")
    assert "train_method" in site.text(out)
    assert "PartitionTimeLimit: it asks for more time than the partition allows" in site.text(out)
    status = site.run('make status ARGS="--configfile mine.yaml"')
    assert re.search(r"train_method +1 x", status)
    assert "PartitionTimeLimit" in status
    assert head in site.run("squeue --me")
    site.run("scancel --signal=INT --batch JOB", values={"JOB": head})
    wait_for(lambda: not cluster.queued(), "the end of the head job and of its own")
    assert not list((site.folder / ".snakemake").glob("locks/*"))
    assert {r["JobState"] for r in cluster.jobs(site.completed) if r["Partition"] == "short"} == {"CANCELLED"}


def training_of(site: Site) -> psutil.Process:
    """The training's own process."""
    found = []

    def look() -> bool:
        for process in psutil.process_iter(["cmdline", "cwd"]):
            words = process.info["cmdline"] or []
            if (
                "normct.train.fit" in words
                and process.info["cwd"] == str(site.folder)
                and "python" in words[0]
            ):
                found.append(process)
        return bool(found)

    wait_for(look, "a training")
    return found[0]


@pytest.mark.study
def test_a_time_limit_scancel_and_kill_9_end_in_the_undisturbed_weights(site):
    edit_profile(site, {}, {"runtime": "attempt + 1"})  # minutes: 2, then 3, then 4
    (site.folder / LOG).unlink()  # the undisturbed training's
    run = site.start(RUN, TARGETS)
    # attempt 1 is so slow, on any machine, that its two minutes end first; it hears of it and saves
    wait_for(lambda: "epoch 3/" in site.text(LOG), "the first epochs")
    training = training_of(site)
    with contextlib.suppress(psutil.NoSuchProcess):
        while training.status() != psutil.STATUS_ZOMBIE:
            training.suspend()
            time.sleep(1)
            training.resume()
            time.sleep(0.25)
    wait_for(lambda: "resuming an interrupted training" in site.text(LOG), "the second attempt")
    # attempt 2 is cancelled
    (job,) = [job for job in cluster.show() if job["JobState"] == "RUNNING" and job["Partition"] == "gpu"]
    assert job["TimeLimit"] == "00:03:00"  # it grew
    subprocess.run(["scancel", job["JobId"]], check=True)
    wait_for(lambda: job["JobId"] not in cluster.queued(), "the end of the cancelled job")
    wait_for(cluster.queued, "the third attempt")
    training_of(site).suspend()
    states = [r["JobState"] for r in cluster.jobs(site.completed) if r["Partition"] == "gpu"]
    assert states[-2:] == ["TIMEOUT", "CANCELLED"]
    # attempt 3 loses its Snakemake
    run.send_signal(signal.SIGKILL)
    run.wait()
    shown = 'squeue --me --format="%i %j %k %T"'
    number, name, *_ = site.run(shown).splitlines()[-1].split()
    assert cluster.queued() == [number]  # the orphan goes on
    site.run("scancel --name=RUN", values={"RUN": name})
    wait_for(lambda: not cluster.queued(), "the end of the orphan")
    site.run(f"{RUN} --unlock")
    site.run(RUN, TARGETS)
    for name, content in site.undisturbed.items():
        assert (site.folder / TRAINED / name).read_bytes() == content, name


@pytest.mark.study
def test_every_command_of_the_page_was_run(site):
    assert site.left == []
