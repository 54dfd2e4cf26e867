"""The commands of the cluster page: those that it shows, and those that the tests on a real Slurm run."""

from __future__ import annotations

import re
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "docs" / "cluster.md"
RUN = "snakemake --profile slurm --configfile mine.yaml"
# run by every change's tests (test_from_clone_to_results)
ALWAYS = (
    "git clone <this repository> normct",
    "cd normct",
    "make .venv/.base",
    ". .venv/bin/activate",
    "$EDITOR slurm/config.yaml",
    "cp configs/own.yaml mine.yaml",
    "$EDITOR mine.yaml",
    f"{RUN} --dry-run",
    RUN,
)
# run by `make cluster` alone
STUDIED = (
    "sbatch slurm/head.sh --configfile mine.yaml",
    "scancel --signal=INT --batch JOB",
    'make status ARGS="--configfile mine.yaml"',
    "squeue --me",
    'squeue --me --format="%i %j %k %T"',
    "scancel --name=RUN",
    f"{RUN} --unlock",
)


def commands(text: str | None = None) -> list[str]:
    """Every command of the page, its comment taken off."""
    blocks = re.findall(r"^```\n(.*?)^```", text or PAGE.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    lines = [re.sub(r"\s+#.*", "", line).strip() for block in blocks for line in block.splitlines()]
    return [command for line in lines for command in line.split(" && ")]
