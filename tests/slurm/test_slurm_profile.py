"""The shipped profile on a real Slurm: right partitions, right resources, the same tables as without Slurm."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from slurm import cluster

REPOSITORY = Path(__file__).resolve().parents[2]
REASON = cluster.why_not()

pytestmark = [
    pytest.mark.skipif(REASON is not None, reason=str(REASON)),
    pytest.mark.xdist_group("slurm"),
    pytest.mark.timeout(900),
]

# without accounting the executor has to ask squeue, and a test does not want to wait half a minute for it
OVERLAY = [
    "--slurm-status-command", "squeue", "--slurm-init-seconds-before-status-checks", "2",
    "--seconds-between-status-checks", "2", "--latency-wait", "10",
]  # fmt: skip


@pytest.fixture
def running():
    """A cluster in a short path: a socket's name may have 107 letters."""
    folder = Path(tempfile.mkdtemp(prefix="nct-"))
    with cluster.slurm(folder) as completed:
        yield completed
    shutil.rmtree(folder)


def test_the_demo_dag_runs_through_the_shipped_profile(running, tmp_path):
    for name in ("src", "workflow", "slurm"):
        ignore = shutil.ignore_patterns("__pycache__", "*.egg-info")
        shutil.copytree(REPOSITORY / name, tmp_path / name, ignore=ignore)
    for name in ("Snakefile", "config.yaml"):
        shutil.copy2(REPOSITORY / name, tmp_path / name)
    (tmp_path / "tiny.yaml").write_text(
        (REPOSITORY / "tests" / "workflow" / "tiny.yaml").read_text("utf-8")
        + "\n".join(["", "handoff: {title: Slurm test}", ""])
    )
    # two subjects are enough to see the chain of each; the rest of the DAG is the same
    target = "out/preprocess/sub-icb001/slices.npz"
    targets = [target, "out/train/vae_kl/seed-0/model.safetensors"]
    profile = ["--profile", "slurm", *OVERLAY]
    command = [sys.executable, "-m", "snakemake", *profile, *targets, "--configfile", "tiny.yaml"]
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "src")}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
    assert (tmp_path / target).is_file()

    records = cluster.jobs(running)
    assert records
    assert {r["JobState"] for r in records} == {"COMPLETED"}
    by_partition = {p: [r for r in records if r["Partition"] == p] for p in ("cpu", "gpu")}
    assert len(by_partition["gpu"]) == 1  # the one training; packing and preprocessing need no GPU
    assert "gres:gpu:1" in cluster.show(by_partition["gpu"][0]["JobId"])
    assert len(by_partition["cpu"]) >= 10
