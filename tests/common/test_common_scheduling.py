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
