"""What can be wrong with a participants table, each fault a line that says where, what, and what to do."""

from __future__ import annotations

import difflib
import os
import re
import stat as modes
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from normct.common.registry import PATHOLOGIES

SCHEMA = Path(__file__).parents[3] / "workflow" / "schemas" / "participants.schema.yaml"
# above this a column nobody knows is taken for a misspelling of one that is known
NEAR_MISS = 0.75


@dataclass
class Row:
    """A row as read: where it stands, values by column (None = n/a), paths from the working directory."""

    where: str
    values: dict[str, str | None]
    paths: dict[str, str] = field(default_factory=dict)

    def fault(self, column: str, text: str) -> str:
        """Return ``line 7, sub-012, ct: text``."""
        return f"{self.where}, {self.values.get('participant_id') or 'no ID'}, {column}: {text}"


@lru_cache(maxsize=1)
def columns() -> dict[str, dict[str, Any]]:
    """Return the schema's columns: pattern or enum, and the description that a fault shows."""
    return yaml.safe_load(SCHEMA.read_text("utf-8"))["properties"]


@lru_cache(maxsize=1)
def _patterns() -> dict[str, re.Pattern[str]]:
    return {name: re.compile(c["pattern"]) for name, c in columns().items() if "pattern" in c}


def hint(value: str, known: Iterable[str]) -> str:
    """Return the nearest right name, or all of them."""
    known = list(known)
    close = difflib.get_close_matches(value.lower(), known, n=1)
    return f"did you mean '{close[0]}'?" if close else f"known: {', '.join(known)}"


def column_faults(header: list[str], required: Iterable[str]) -> list[str]:
    """Return the faults of a header: missing, doubled and misspelt columns."""
    known = list(columns())
    near = {}
    for name in header:
        squeezed = re.sub("[^a-z]", "_", name.lower())
        if name not in known and (close := difflib.get_close_matches(squeezed, known, n=1, cutoff=NEAR_MISS)):
            near[name] = close[0]
    faults = [f"header: unknown column '{name}'; did you mean '{right}'?" for name, right in near.items()]
    faults += [
        f"header: column '{name}' is there twice; keep one" for name in known if header.count(name) > 1
    ]
    for name in required:
        if name not in header and name not in near.values():
            faults.append(f"header: column '{name}' is missing; add it: {columns()[name]['description']}")
    return faults


def row_faults(row: Row, pathologies: Iterable[str]) -> list[str]:
    """Return the faults of one row taken by itself."""
    values, faults = row.values, []
    for name, column in columns().items():
        value = values.get(name)
        if value is None:
            if name in {"participant_id", "ct", "group"} and name in values:
                faults.append(row.fault(name, f"empty; give {column['description']}"))
        elif "enum" in column and value not in column["enum"]:
            faults.append(row.fault(name, f"unknown {name} '{value}'; {hint(value, column['enum'])}"))
        elif "pattern" in column and not _patterns()[name].fullmatch(value):
            faults.append(row.fault(name, f"'{value[:80]}' is not allowed; give {column['description']}"))
    known = [*PATHOLOGIES, *pathologies]
    group, pathology = values.get("group"), values.get("pathology")
    if pathology and pathology not in known:
        advice = f"{hint(pathology, known)} (others: cohort.pathologies in the config)"
        faults.append(row.fault("pathology", f"unknown pathology '{pathology}'; {advice}"))
    if group == "abnormal" and not pathology:
        faults.append(
            row.fault("pathology", f"an abnormal scan without pathology; give one of {', '.join(known)}")
        )
    if group in {"healthy", "unlabelled"}:
        if pathology:
            faults.append(
                row.fault(
                    "pathology", f"a pathology on a scan that is {group}; make it abnormal, or write n/a"
                )
            )
        if values.get("lesion_mask"):
            faults.append(
                row.fault(
                    "lesion_mask",
                    f"a lesion mask for a scan that is {group}; label it abnormal, or write n/a",
                )
            )
    if group == "abnormal" and values.get("split") in {"train", "val"}:
        faults.append(
            row.fault(
                "split",
                f"an abnormal scan in {values['split']}; training is on healthy scans, write test or n/a",
            )
        )
    if group == "unlabelled" and values.get("split"):
        faults.append(row.fault("split", "an unlabelled scan in a split; write n/a, or give its group"))
    if values.get("quality") and not values.get("quality_reason"):
        faults.append(
            row.fault("quality_reason", "a quality verdict without its reason; say why in a sentence")
        )
    if values.get("quality_reason") and not values.get("quality"):
        faults.append(row.fault("quality", "a quality reason without a verdict; give pass, warn or fail"))
    return faults


def readable(path: str) -> bool:
    """Whether ``stat`` shows a folder or a file, and that there is something in it."""
    try:
        status = Path(path).stat()
        if modes.S_ISDIR(status.st_mode):
            with os.scandir(path) as entries:
                return any(entries)
    except OSError:
        return False
    return modes.S_ISREG(status.st_mode) and status.st_size > 0


def _file_faults(row: Row, seen: dict[tuple[int, int], tuple[Row, str]], refuse: bool) -> list[str]:
    """Return what ``stat`` shows: a file that is missing, empty, of the wrong kind, or used twice."""
    faults = []
    for column in ("ct", "lesion_mask"):
        path, named = row.paths.get(column), row.values.get(column)
        if not path or not named:
            continue
        try:
            status = Path(path).stat()
        except OSError:
            if refuse:
                faults.append(row.fault(column, f"no such file: {named}; paths start at the table's folder"))
            continue
        folder = modes.S_ISDIR(status.st_mode)
        if folder and column == "lesion_mask":
            faults.append(row.fault(column, f"a folder: {named}; give a NIfTI file"))
        elif folder and refuse:
            with os.scandir(path) as entries:
                if not any(entries):
                    faults.append(
                        row.fault(column, f"a DICOM folder without files: {named}; copy the series into it")
                    )
        elif not folder and not modes.S_ISREG(status.st_mode):  # reading a pipe or device never ends
            if refuse:
                faults.append(row.fault(column, f"neither a file nor a folder: {named}; give a NIfTI file"))
        elif not folder and status.st_size == 0 and refuse:
            faults.append(row.fault(column, f"an empty file (0 bytes): {named}; copy it again"))
        key = (status.st_dev, status.st_ino)
        if key in seen:
            other, where = seen[key]
            faults.append(
                row.fault(
                    column,
                    f"the same file as {where} of {other.values.get('participant_id')} ({other.where}); "
                    "one row a scan, with a file of its own",
                )
            )
        seen.setdefault(key, (row, column))
    return faults


def semantic_faults(rows: list[Row], stat: bool, refuse: bool) -> list[str]:
    """Return the faults between rows: IDs, files and patients.

    Parameters
    ----------
    rows : list of Row
    stat : bool
        Whether the files exist already and are looked at.
    refuse : bool
        Whether a missing or empty file is a fault; otherwise the import sets that scan aside.
    """
    faults = []
    ids: dict[str, Row] = {}
    files: dict[tuple[int, int], tuple[Row, str]] = {}
    patients: dict[str, tuple[str, Row]] = {}
    for row in rows:
        subject = row.values.get("participant_id")
        if subject:
            # file systems that ignore case would write both into one folder
            first = ids.setdefault(subject.lower(), row)
            if first is not row:
                faults.append(
                    row.fault("participant_id", f"the ID of {first.where} again; give each scan its own")
                )
        if stat:
            faults += _file_faults(row, files, refuse)
        group, patient = row.values.get("group"), row.values.get("patient") or subject
        split = "test" if group == "abnormal" else row.values.get("split")
        if patient and split and group != "unlabelled":
            known, other = patients.setdefault(patient, (split, row))
            if known != split:
                why = " (abnormal scans are test)" if "abnormal" in (group, other.values.get("group")) else ""
                faults.append(
                    row.fault(
                        "split",
                        f"patient {patient} is in {split}{why} here and in {known} on {other.where}; "
                        "keep all scans of a patient in one split",
                    )
                )
    return faults


def healthy_faults(rows: Iterable[Row]) -> list[str]:
    """Return the rows that say a scan is not healthy: none such may set a site's thresholds."""
    return [
        row.fault("group", f"'{group}'; recalibration takes healthy scans only: take the row out")
        for row in rows
        if (group := row.values.get("group")) not in {None, "healthy"}
    ]


def unlabel(rows: Iterable[Row]) -> None:
    """Forget labels: new scans are scored, whatever a table says they are."""
    for row in rows:
        row.values |= {"group": "unlabelled", "pathology": None, "lesion_mask": None, "split": None}
