"""Sparing Snakemake's own process, while jobs run, work that grows with the square of a cohort."""

from __future__ import annotations

from typing import Any

DEFAULT_LIMIT = (100, 1)
"""Jobs and seconds of ``--max-jobs-per-timespan`` where nobody set it."""


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
