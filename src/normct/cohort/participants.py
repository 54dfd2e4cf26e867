"""Write ``participants.tsv`` of the results: one resolved row a scan, without paths.

Called in Snakemake's own process (``run:``): ten thousand rows fit on no command line, and no job
of one subject may have a cohort-wide file as input.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterable
from dataclasses import astuple
from pathlib import Path

from normct.cohort.table import Participant
from normct.common.files import atomic

COLUMNS = [
    "participant_id",
    "group",
    "pathology",
    "split",
    "role",
    "patient",
    "age",
    "sex",
    "scanner",
    "subtype",
]
MASK_COLUMN = "has_lesion_mask"


def row(person: Participant) -> list[str]:
    """Return the values of :data:`COLUMNS`, ``n/a`` for what is missing, and whether it has a mask."""
    values = [getattr(person, column) for column in COLUMNS]
    texts = ["n/a" if v is None else f"{v:g}" if isinstance(v, float) else str(v) for v in values]
    return [*texts, str(person.lesion_mask is not None).lower()]


def digest(participants: Iterable[Participant]) -> str:
    """Return a short hash of all rows, so that a changed table rewrites the file."""
    total = hashlib.sha256()
    for person in participants:
        total.update(repr(astuple(person)).encode())
    return total.hexdigest()[:16]


def write_participants(participants: Iterable[Participant], path: str | Path) -> None:
    """Write the table, tab-separated, atomically.

    Parameters
    ----------
    participants : iterable of Participant
    path : str or Path
    """
    with atomic(path) as part, part.open("w", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle, delimiter="\t", lineterminator="\n")
        writer.writerow([*COLUMNS, MASK_COLUMN])
        writer.writerows(row(person) for person in participants)
