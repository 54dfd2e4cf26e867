"""Snakemake up to the moment when its graph of jobs is built: ``python graph_built.py ARGUMENTS``.

A dry run's own list of the jobs takes longer than the graph, and no run on a cluster writes it.
"""

from __future__ import annotations

import os
from typing import Any

from snakemake.cli import main
from snakemake.workflow import Workflow

build = Workflow._build_dag


def build_and_stop(self: Workflow, *args: Any, **kwargs: Any) -> None:
    """Build the graph, then end the process."""
    build(self, *args, **kwargs)
    print(f"{len(list(self.dag.jobs))} jobs", flush=True)
    os._exit(0)


if __name__ == "__main__":
    Workflow._build_dag = build_and_stop  # type: ignore[method-assign]
    main()
