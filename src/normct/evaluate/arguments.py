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
    "scores": {"type": Path, "help": "folder R/score/subjects"},
    "maps": {"type": Path, "help": "folder R/score/maps"},
    "z-maps": {"type": Path, "help": "folder R/score/calibrated"},
    "calibration": {"type": Path, "help": "R/score/calibration.json"},
    "out": {"type": Path, "help": "folder that is written into"},
}


def command_line(
    doc: str | None, prog: str, *wanted: str, settings: str | None = None
) -> argparse.ArgumentParser:
    """Return a parser with participants, preprocess, out and the wanted ones of :data:`WORDS`, all required.

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
    for name in ("participants", "preprocess", *wanted, "out"):
        p.add_argument(f"--{name}", required=True, **WORDS[name])
    if settings is not None:
        p.add_argument("--settings", required=True, type=json.loads, help=f"JSON: {settings}")
    return p
