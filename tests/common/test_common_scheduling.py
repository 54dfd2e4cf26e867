"""Snakemake's process is to wait for jobs, not to look for them again and again."""

from __future__ import annotations

import gc
import subprocess
import sys
from pathlib import Path

import pytest
from snakemake.io import IOFile
from snakemake.iocontainers import InputFiles

from normct.common.scheduling import LONG, _known, look_up_inputs

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
    input: expand("scan/{i}", i=range(COHORT))
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


def plan(folder: Path, look_up: bool) -> int:
    """Plan a cohort that is scored with an atlas of itself; return how often two files were compared."""
    folder.mkdir()
    (folder / "Snakefile").write_text("import sys\n" + GATHERED, "utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", "-n", "--quiet", "rules", "--config", f"look_up={look_up}"],
        cwd=folder, capture_output=True, text=True, check=True,
    )  # fmt: skip
    asked = [line for line in done.stderr.splitlines() if line.startswith("asked: ")]
    return int(asked[-1].partition(": ")[2])


def test_planning_does_not_grow_with_the_square_of_a_cohort(tmp_path):
    """Where the first assertion fails, Snakemake was mended, and look_up_inputs can go."""
    assert plan(tmp_path / "gone through", False) > COHORT**2
    assert plan(tmp_path / "looked up", True) < COHORT**2 / 4


@pytest.mark.parametrize("length", [LONG - 1, LONG, 3 * LONG])
def test_an_input_is_known_as_snakemake_knows_it(length, monkeypatch):
    monkeypatch.setattr(InputFiles, "__contains__", list.__contains__)
    look_up_inputs()
    files = InputFiles([IOFile(f"scan/{i}", None) for i in range(length)])
    assert "scan/7" in files and IOFile("scan/7", None) in files
    assert "scan/x" not in files and IOFile(f"scan/{length}", None) not in files
    files.append(files[0])  # twice the same
    files.append(IOFile("scan/x", None))
    assert "scan/x" in files and "scan/y" not in files
    del files
    gc.collect()
    assert not _known
