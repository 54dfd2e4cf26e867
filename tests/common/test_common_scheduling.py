"""Snakemake's process is to wait for jobs, not to look for them again and again."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

JOBS = 24
SNAKEFILE = """
import threading, time
from normct.common.scheduling import quieten

rule all:
    input: expand("made/{i}", i=range(%d))

rule make:
    output: "made/{i}"
    shell: "sleep 0.1; touch {output}"

onstart:
    print("quiet:", quieten(workflow) if config["quieten"] else None, file=sys.stderr)

onsuccess:
    print("timers:", sum(isinstance(t, threading.Timer) for t in threading.enumerate()), file=sys.stderr)
"""


def run(folder: Path, quieten: bool, *arguments: str) -> tuple[str, int]:
    """Run many short jobs; return what quieten said and the timers alive at the end."""
    folder.mkdir()
    (folder / "Snakefile").write_text("import sys\n" + SNAKEFILE % JOBS, "utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", "--cores", "2", "--quiet", "all", *arguments,
         "--config", f"quieten={quieten}"],
        cwd=folder, capture_output=True, text=True, check=True,
    )  # fmt: skip
    said = dict(
        line.split(": ") for line in done.stderr.splitlines() if line.startswith(("quiet:", "timers:"))
    )
    return said["quiet"], int(said["timers"])


@pytest.mark.parametrize(
    ("arguments", "said"), [((), "True"), (("--max-jobs-per-timespan", "50/1s"), "False")]
)
def test_only_the_default_limit_is_taken_away(tmp_path, arguments, said):
    assert run(tmp_path / "run", True, *arguments)[0] == said


def test_timers_do_not_pile_up(tmp_path):
    """Where the first assertion fails, Snakemake was mended, and quieten can go."""
    assert run(tmp_path / "loud", False)[1] > JOBS / 2
    assert run(tmp_path / "quiet", True)[1] == 0


COHORT = 300
GATHERED = """
import atexit
from snakemake.io import _IOFile
from normct.common.scheduling import look_up_inputs

if config["look_up"]:
    look_up_inputs()
asked, equal = [0], _IOFile.__eq__

def counted(self, other):
    asked[0] += 1
    return equal(self, other)

_IOFile.__eq__ = counted
atexit.register(lambda: print("asked:", asked[0], file=sys.stderr))

rule all:
    input: expand("scored/{i}", i=range(COHORT))

rule atlas:
    input: expand("scan/{i}", i=range(COHORT)), "scored/7" if config["cycle"] else []
    output: "atlas"
    shell: "touch {output}"

rule scan:
    output: "scan/{i}"
    shell: "touch {output}"

rule score:
    input: "atlas", "scan/{i}"
    output: "scored/{i}"
    shell: "touch {output}"
""".replace("COHORT", str(COHORT))


def plan(folder: Path, look_up: bool, cycle: bool = False) -> tuple[int, str]:
    """Plan a cohort that is scored with an atlas of itself; return how often two files were compared, and the words."""
    folder.mkdir()
    (folder / "Snakefile").write_text("import sys\n" + GATHERED, "utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", "-n", "--quiet", "rules", "--config", f"look_up={look_up}",
         f"cycle={cycle}"],
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode != 0) == cycle, done.stderr
    asked = [line for line in done.stderr.splitlines() if line.startswith("asked: ")]
    return int(asked[-1].partition(": ")[2]), done.stdout + done.stderr


def test_planning_does_not_grow_with_the_square_of_a_cohort(tmp_path):
    """Where the first assertion fails, Snakemake was mended, and look_up_inputs can go."""
    assert plan(tmp_path / "gone through", False)[0] > COHORT**2
    assert plan(tmp_path / "looked up", True)[0] < COHORT**2 / 4


def test_a_rule_that_needs_its_own_output_is_still_refused(tmp_path):
    assert "Cyclic" in plan(tmp_path / "cycle", True, cycle=True)[1]
