"""What the command lines of this stage have in common."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from normct.common.cli import parser

WORDS: dict[str, dict[str, Any]] = {
    "participants": {"type": Path, "help": "R/cohort/participants.tsv"},
    "preprocess": {"type": Path, "help": "folder R/preprocess"},
    "imports": {"type": Path, "help": "folder R/cohort, with <sub>/import.json"},
    "scores": {"type": Path, "help": "folder R/score/subjects"},
    "collected": {"type": Path, "help": "folder R/evaluate/collected"},
    "maps": {"type": Path, "help": "folder R/score/maps"},
    "z-maps": {"type": Path, "help": "folder R/score/calibrated"},
    "calibration": {"type": Path, "help": "R/score/calibration.json"},
    "out": {"type": Path, "help": "folder that is written into"},
}


def command_line(
    doc: str | None, prog: str, *wanted: str, settings: str | None = None
) -> argparse.ArgumentParser:
    """Return a parser with the wanted ones of :data:`WORDS` and out, all required.

    Parameters
    ----------
    doc, prog : str
        As for :func:`normct.common.cli.parser`.
    *wanted : str
        Names in :data:`WORDS`.
    settings : str, optional
        Keys of the JSON that ``--settings`` takes; None for a command line without it.
    """
    p = parser(doc, prog)
    for name in (*wanted, "out"):
        p.add_argument(f"--{name}", required=True, **WORDS[name])
    if settings is not None:
        p.add_argument("--settings", required=True, type=json.loads, help=f"JSON: {settings}")
    return p
