"""Leave a folder as a finished run would: stand-in outputs in order of time, and Snakemake's records of every job.

``python finished_state.py SNAKEMAKE-ARGUMENTS`` in the folder. Snakemake builds its graph of jobs as ever; in place of
printing it, every output is made as a small file and every job is recorded by Snakemake itself. (``--touch`` takes each
job through the scheduler, which is hours for a large cohort.)
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from snakemake.cli import main
from snakemake.io import is_flagged
from snakemake.settings.types import ExecutionSettings
from snakemake.workflow import Workflow

_printdag = Workflow.printdag


def finish(workflow: Workflow) -> None:
    """Make the outputs of every job, in the order in which they could run, and record the jobs."""
    prepare = workflow._build_dag
    workflow.execution_settings = ExecutionSettings()  # a graph alone has none; records want to know

    def build_and_finish() -> None:
        prepare()
        dag, start = workflow.dag, time.time() - 10_000

        async def record(jobs: list) -> None:
            for job in jobs:
                await workflow.persistence.finished(job)

        levels = list(dag.toposorted())
        for level, jobs in enumerate(levels):
            for path in (file for job in jobs for file in job.output if not is_flagged(file, "temp")):
                Path(path).parent.mkdir(parents=True, exist_ok=True)
                Path(path).write_bytes(b".")
                os.utime(path, (start + level, start + level))
        workflow.async_run(record([job for jobs in levels for job in jobs if job.output]))

    workflow._build_dag = build_and_finish
    _printdag(workflow)


if __name__ == "__main__":
    Workflow.printdag = finish
    main(["--dag", "--cores", "1", *sys.argv[1:]])
