"""Snakemake that asks squeue every second: its Slurm executor waits ten seconds longer each time nothing ended.

``python impatient.py ARGUMENTS`` is ``snakemake ARGUMENTS``. Jobs that it submits run the plain one.
"""

from __future__ import annotations

import sys
from typing import Any

from snakemake.cli import main
from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor

SECONDS = 1


def ask_again(self: RemoteExecutor) -> float:
    """Return the seconds to the next question, whatever the executor would have."""
    return SECONDS


def ignore(self: RemoteExecutor, value: Any) -> None:
    """Take no other pace."""


if __name__ == "__main__":
    RemoteExecutor.next_seconds_between_status_checks = property(ask_again, ignore)  # type: ignore[assignment]
    sys.argv[0] = "snakemake"
    main()
