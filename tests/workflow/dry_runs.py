"""Many dry runs of one checkout: Snakemake is imported once and every configuration is a fork of that process.

Run in the checkout: ``python dry_runs.py FOLDER`` reads a list of config files, one a line, from standard input and
writes what ``snakemake --dag`` said of each to ``FOLDER/<number>.out``. In that graph Snakemake draws dashed what need
not run. It decides so as for a dry run, which would take longer to print than to decide.
"""

from __future__ import annotations

import os
import sys
from contextlib import redirect_stdout, suppress
from pathlib import Path

from snakemake.cli import main

COMMAND = ["--cores", "1", "--dag", "--nolock", "--configfile"]


def warm() -> None:
    """Plan once in this process: imports and hashes of code, which no key changes, are then there for every fork."""
    with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere), suppress(SystemExit):
        main([*COMMAND, "tiny.yaml"])


def dry_run(extra: str, out: Path) -> None:
    """Run Snakemake's own command line in this process, which ends with it."""
    descriptor = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    status = 0
    try:
        main([*COMMAND, "tiny.yaml", extra])
    except SystemExit as stop:
        status = int(stop.code or 0)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def run_all(configs: list[str], folder: Path, processes: int = 2) -> None:
    """Fork a dry run for each configuration, so many at a time."""
    warm()
    running = 0
    for number, extra in enumerate(configs):
        if running == processes:
            os.wait()
            running -= 1
        if os.fork() == 0:
            dry_run(extra, folder / f"{number}.out")
        running += 1
    for _ in range(running):
        os.wait()


if __name__ == "__main__":
    run_all(sys.stdin.read().splitlines(), Path(sys.argv[1]))
