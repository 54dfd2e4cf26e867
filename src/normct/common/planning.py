"""Sparing Snakemake's own process, while it plans, work that grows with the square of a cohort or has no use."""

from __future__ import annotations

import weakref
from functools import partial
from graphlib import CycleError, TopologicalSorter
from typing import Any

from snakemake.dag import DAG
from snakemake.io import is_flagged
from snakemake.iocontainers import InputFiles
from snakemake.jobs import Job

LONG = 100
"""Files of an input from which on they are looked up, not gone through."""
# by identity, for a list of inputs hashes as all of its files do
_known: dict[int, tuple[Any, int, frozenset[Any]]] = {}


def _forget(key: int, reference: Any) -> None:
    """Forget an input that is no more, unless another one has taken its place."""
    if _known.get(key, (None,))[0] is reference:
        del _known[key]


def look_up_inputs() -> None:
    """Make ``file in job.input`` a look-up.

    For every file of every job, Snakemake (9.27) asks whether the file is among the inputs of the job that makes it,
    and goes through them one by one: for a statistical atlas of thousands of scans, once a scan that is scored.
    """

    def contains(self: InputFiles, file: object) -> bool:
        if len(self) < LONG:
            return list.__contains__(self, file)
        reference, length, files = _known.get(id(self), (None, 0, frozenset()))
        if reference is None or reference() is not self or length != len(self):
            files = frozenset(self)
            gone = partial(_forget, id(self))
            _known[id(self)] = weakref.ref(self, gone), len(self), files
        return file in files

    InputFiles.__contains__ = contains


def check_groups_at_once() -> None:
    """Make Snakemake look for groups that depend on themselves in one pass over the graph of jobs.

    Snakemake (9.27) goes from each job of a group through all that comes before it, twice, and nearly the whole cohort
    comes before a score. With each group drawn together to one node, a graph without a cycle has no such group; where
    there is a cycle, Snakemake's own checks find the words.
    """
    validate, check = DAG.validate_group, DAG._check_groups

    def at_once(self: Any) -> None:
        groups = self._group
        if not groups:
            return
        drawn: TopologicalSorter[Any] = TopologicalSorter()
        for job in self.jobs:
            node = groups.get(job, job)
            before = (groups.get(other, other) for other in self._dependencies[job])
            drawn.add(node, *(other for other in before if other is not node))
        try:
            drawn.prepare()
        except CycleError:
            for group in set(groups.values()):
                validate(self, group)
            check(self)

    DAG.validate_group = lambda self, group: None
    DAG._check_groups = at_once


def leave_params_to_jobs() -> None:
    """Make a job without a conda environment say so without its parameters.

    Snakemake (9.27) makes the parameters of every job while it plans, for a conda environment may depend on them.
    """
    spec = Job.conda_env_spec.fget

    def without(self: Any) -> Any:
        return None if self.rule._conda_env is None else spec(self)

    Job.conda_env_spec = property(without)


def look_into_folders_made() -> None:
    """Make Snakemake look for outputs within another job's folder only where a rule makes folders.

    Snakemake (9.27) sorts the paths of all outputs for that. A plain file as another output's folder would go unseen.
    """
    check = DAG.check_directory_outputs

    def where_made(self: Any) -> None:
        if any(is_flagged(file, "directory") for rule in self.workflow.rules for file in rule.output):
            check(self)

    DAG.check_directory_outputs = where_made


def plan_lightly() -> None:
    """Do all of the above."""
    look_up_inputs()
    check_groups_at_once()
    leave_params_to_jobs()
    look_into_folders_made()
