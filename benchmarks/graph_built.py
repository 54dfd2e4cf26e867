"""Snakemake up to the moment when its graph of jobs is built and grouped: ``python graph_built.py ARGUMENTS``.

A dry run's own list of the jobs takes longer than the graph, and no run on a cluster writes it.
"""

from __future__ import annotations

import os
from typing import Any

from snakemake.cli import main
from snakemake.dag import DAG

postprocess = DAG.postprocess


async def process_and_stop(self: DAG, *args: Any, check_initial: bool = False, **kwargs: Any) -> None:
    """Do the last of what is done before jobs start, then end the process."""
    await postprocess(self, *args, check_initial=check_initial, **kwargs)
    if check_initial:
        print(f"{len(list(self.jobs))} jobs", flush=True)
        os._exit(0)


if __name__ == "__main__":
    DAG.postprocess = process_and_stop  # type: ignore[method-assign]
    main()
