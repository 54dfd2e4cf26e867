"""When things die: whatever happened, the documented recovery ends in the tables of an undisturbed run.

Each test works on a copy of the finished run in which one scan's preprocessing has to be made again; in the first one
all networks are trained again too, so that it is also the test that one seed gives the same tables twice. What dies on
a cluster is in tests/slurm.
"""

from __future__ import annotations

import gzip
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from normct.common.files import read_json

pytestmark = [pytest.mark.xdist_group("pipeline"), pytest.mark.timeout(1500)]

SUBJECT = "sub-icb001"
TABLES = ("score/slices.csv.gz", "evaluate/detection.csv", "evaluate/segmentation.csv")
# as in the profile and in `make demo`: what a crash cut off is made again
TARGETS = [*(f"out/{name}" for name in TABLES), "--rerun-incomplete"]


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start snakemake in a session of its own, so that killing it leaves its jobs, as kill -9 does."""
    started: list[subprocess.Popen[str]] = []

    def begin(checkout, *arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "snakemake", "--cores", "2", *arguments, "--configfile", "tiny.yaml"],
            cwd=checkout.folder, text=True, start_new_session=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            env=os.environ | {"PYTHONPATH": str(checkout.folder / "src")},
        )  # fmt: skip
        started.append(process)
        return process

    yield begin
    for process in started:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_for(ready: Callable[[], object], what: str, seconds: float = 300) -> None:
    end = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < end, f"{what} did not happen"
        time.sleep(0.02)


def forget(checkout) -> Path:
    """Delete all that was made of one scan, and the tables; return the folder of its preprocessing.

    Snakemake misses an intermediate file only where everything down to the tables is missing too.
    """
    out = checkout.folder / "out"
    for stage in ("preprocess", "score"):
        for path in sorted((out / stage).rglob(f"{SUBJECT}*")):
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    for name in TABLES:
        (out / name).unlink()
    return out / "preprocess" / SUBJECT


def assert_undisturbed(checkout, finished) -> None:
    for name in TABLES:
        assert (checkout.folder / "out" / name).read_bytes() == (
            finished.folder / "out" / name
        ).read_bytes(), name


@contextmanager
def small_disk(folder: Path, kilobytes: int) -> Iterator[None]:
    """Mount a file system of that size on a folder."""
    folder.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a small disk needs the right to mount one (root)")
    (folder / "lost+found").mkdir()  # Snakemake would remove an empty folder, and a mount cannot be
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_kill_9_a_second_instance_and_a_node_that_loses_its_scratch(finished, start, tmp_path):
    checkout = finished.copy(tmp_path / "checkout")
    mine = forget(checkout)
    for stage in ("train", "score", "evaluate"):
        shutil.rmtree(checkout.folder / "out" / stage)
    first = start(checkout, *TARGETS)
    wait_for(lambda: first.poll() is not None or (mine / "brain.nii.gz").is_file(), "skull stripping", 900)

    # held where it is with its jobs, however slow the machine
    os.killpg(first.pid, signal.SIGSTOP)

    second = checkout.snakemake(*TARGETS, check=False)
    assert second.returncode != 0
    assert "Directory cannot be locked" in second.stderr
    assert first.poll() is None

    first.kill()  # SIGKILL: Snakemake alone; its jobs stay
    first.wait()
    assert not (mine / "slices.npz").exists()  # it was in mid-run
    # the documented order: stop what still runs, unlock, the same command again
    with suppress(ProcessLookupError):
        os.killpg(first.pid, signal.SIGKILL)
    refused = checkout.snakemake(*TARGETS, check=False)
    assert refused.returncode != 0
    assert "--unlock" in refused.stderr
    checkout.snakemake("--unlock")

    # the node's scratch disappears while a registration works in it; the next attempt has none at all
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    anew = ["--retries", "2", "--default-resources", f"tmpdir='{scratch}'"]
    again = start(checkout, *TARGETS, *anew)
    wait_for(lambda: any(scratch.iterdir()), "use of the scratch folder")
    shutil.rmtree(scratch, ignore_errors=True)
    assert again.wait(900) == 0
    assert_undisturbed(checkout, finished)
    for name in ("native_to_atlas.mat", "slices.tsv"):
        assert (mine / name).read_bytes() == (
            finished.folder / "out" / "preprocess" / SUBJECT / name
        ).read_bytes()


def test_a_full_disk_is_said_and_nothing_half_written_is_left(finished, tmp_path):
    checkout = finished.copy(tmp_path / "checkout")
    mine = checkout.folder / "out" / "preprocess" / SUBJECT
    whole = tmp_path / "whole"
    shutil.copytree(mine, whole)  # times kept
    last = ["slices.npz", "slices.tsv"]
    used = sum(-(-path.stat().st_size // 4096) * 4 for path in whole.iterdir() if path.name not in last)
    target = f"out/preprocess/{SUBJECT}/slices.npz"
    # not even the resampled head fits; all is there and the slices alone do not fit
    for kept, kilobytes in (
        ([], 1024),
        ([p.name for p in whole.iterdir() if p.name not in last], used + 260),
    ):
        shutil.rmtree(mine)
        with small_disk(mine, kilobytes):
            for name in kept:
                shutil.copy2(whole / name, mine / name)
            done = checkout.snakemake(target, "--show-failed-logs", check=False)
            assert done.returncode != 0
            assert "the disk is full" in done.stdout + done.stderr
            assert "Traceback" not in done.stdout + done.stderr
            # nothing half-written, nothing under another name, no verdict on the scan
            assert sorted(path.name for path in mine.iterdir()) == sorted([*kept, "lost+found"])
    checkout.snakemake(target)
    assert (mine / "slices.npz").read_bytes() == (whole / "slices.npz").read_bytes()


def test_a_corrupt_scan_leaves_the_others_as_they_were(finished, tmp_path):
    checkout = finished.copy(tmp_path / "checkout")
    scan = checkout.folder / "out" / "phantom" / SUBJECT / "ct.nii.gz"
    scan.write_bytes(scan.read_bytes()[: scan.stat().st_size // 2])
    done = checkout.snakemake("out/score/slices.csv.gz", "out/preprocess/quality.html")
    reason = read_json(checkout.folder / "out" / "preprocess" / SUBJECT / "quality.json")["reasons"][0]
    assert f"  {SUBJECT}: {reason}" in done.stderr[done.stderr.rindex("Set aside by") :]  # said last

    def others(folder: Path) -> list[str]:
        with gzip.open(folder / "out" / "score" / "slices.csv.gz", "rt") as handle:
            return [line for line in handle if not line.startswith(SUBJECT)]

    assert others(checkout.folder) == others(finished.folder)
