"""What a dry run says that it would run: each job's rule and its wildcards."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from benchmarks.bench_scale import SOURCE
from benchmarks.child import cost

Job = tuple[str, dict[str, str]]


def planned(folder: Path, *arguments: str) -> list[Job]:
    """Return the jobs of a dry run in a folder."""
    command = [sys.executable, "-m", "snakemake", "--cores", "1", "--dry-run", "--nolock", *arguments]
    said = cost(command, folder, SOURCE).output.partition("Job stats:")[2]
    jobs = []
    for block in re.split(r"^ *(?:local)?rule ", said, flags=re.MULTILINE)[1:]:
        wildcards = re.search(r"^ *wildcards: (.*)$", block, re.MULTILINE)
        words = wildcards[1].split(", ") if wildcards else []
        jobs.append((block.partition(":")[0], dict(word.split("=", 1) for word in words)))
    return jobs


def of(jobs: list[Job], wildcard: str) -> dict[str, set[str]]:
    """Return, for each rule with that wildcard, its values."""
    found: dict[str, set[str]] = {}
    for rule, wildcards in jobs:
        if wildcard in wildcards:
            found.setdefault(rule, set()).add(wildcards[wildcard])
    return found
