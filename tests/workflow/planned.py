"""What a dry run says that it would run: every job with its wildcards and resources, and who shares a job of a cluster."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import NamedTuple

from benchmarks.bench_scale import SOURCE
from benchmarks.child import cost


class Job(NamedTuple):
    """One job; ``group`` is the group's name and which one of that name it is."""

    rule: str
    wildcards: dict[str, str]
    resources: dict[str, str]
    group: tuple[str, int] | None


def planned(folder: Path, *arguments: str) -> list[Job]:
    """Return the jobs of a dry run in a folder."""
    command = [sys.executable, "-m", "snakemake", "--cores", "1", "--dry-run", "--nolock", *arguments]
    jobs: list[Job] = []
    group, number = "", 0
    for line in cost(command, folder, SOURCE).output.splitlines():
        if found := re.search(r"Group job (\w+) \(", line):
            group, number = found[1], number + 1
        elif found := re.fullmatch(r"( *)(?:local)?rule (\w+):", line):
            # the jobs of a group are indented
            jobs.append(Job(found[2], {}, {}, (group, number) if found[1] else None))
        elif jobs and (found := re.fullmatch(r" +(wildcards|resources): (.*)", line)):
            getattr(jobs[-1], found[1]).update(word.split("=", 1) for word in found[2].split(", "))
    return jobs


def of(jobs: list[Job], wildcard: str) -> dict[str, set[str]]:
    """Return, for each rule with that wildcard, its values."""
    found: dict[str, set[str]] = {}
    for job in jobs:
        if wildcard in job.wildcards:
            found.setdefault(job.rule, set()).add(job.wildcards[wildcard])
    return found


def shared(jobs: list[Job]) -> dict[str, list[tuple[set[str], set[str]]]]:
    """Return, for each name of a group, the rules and the subjects of each of its jobs on a cluster."""
    found: dict[tuple[str, int], tuple[set[str], set[str]]] = {}
    for job in jobs:
        if job.group:
            rules, subjects = found.setdefault(job.group, (set(), set()))
            rules.add(job.rule)
            if "subject" in job.wildcards:
                subjects.add(job.wildcards["subject"])
    names = {name for name, _ in found}
    return {name: [both for (other, _), both in found.items() if other == name] for name in names}
