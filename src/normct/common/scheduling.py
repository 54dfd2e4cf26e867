"""Sparing Snakemake's own process work that grows with the square of a cohort, while it plans and while jobs run."""

from __future__ import annotations

import weakref
from functools import partial
from typing import Any

from snakemake.iocontainers import InputFiles

DEFAULT_LIMIT = (100, 1)
"""Jobs and seconds of ``--max-jobs-per-timespan`` where nobody set it."""


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


def quieten(workflow: Any) -> bool:
    """Take the scheduler's default limit of new jobs a second away; a limit that somebody set stays.

    With a limit, Snakemake (9.27) sets a timer whenever it has looked for work, and the timer makes it look again: one
    more endless chain for each job that ended, a thread each. After a thousand jobs it looks a thousand times a second.

    Parameters
    ----------
    workflow : snakemake.workflow.Workflow
        In ``onstart``, when its scheduler exists and no job runs.

    Returns
    -------
    bool
        Whether the limit was taken away.
    """
    limiter = getattr(getattr(workflow, "scheduler", None), "job_rate_limiter", None)
    if limiter is None or (limiter.max_jobs, limiter.timespan) != DEFAULT_LIMIT:
        return False
    workflow.scheduler.job_rate_limiter = None
    return True
