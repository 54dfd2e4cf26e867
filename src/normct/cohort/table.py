"""participants.tsv, or a BIDS directory, read and checked before any job: every fault in one list.

Every cluster job repeats this, so it reads the table and calls ``stat``, nothing more; the bytes of the
scans are looked at once, by :mod:`normct.cohort.check`.
"""

from __future__ import annotations

import csv
import io
import logging
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from normct.cohort.bids import LAYOUT, place_scans, subject_rows
from normct.cohort.faults import (
    Row,
    column_faults,
    healthy_faults,
    readable,
    row_faults,
    semantic_faults,
    unlabel,
)
from normct.cohort.split import assign_roles, assign_splits
from normct.common.errors import ConfigError

log = logging.getLogger(__name__)
TITLE = "The participants table has faults; nothing was run:"
MISSING = {"", "n/a", "N/A"}


@dataclass(frozen=True)
class Participant:
    """One scan; None stands for ``n/a``.

    Attributes
    ----------
    participant_id : str
        ``sub-`` plus letters and digits.
    ct : str
        Path of a NIfTI file or a DICOM folder, from the working directory.
    group : str
        healthy, abnormal or unlabelled.
    pathology : str or None
    lesion_mask : str or None
        Path, from the working directory.
    split : str or None
        train, val or test; None for unlabelled scans.
    role : str
        What the scan is used for: train, stop, calibrate, test or unlabelled.
    patient : str
        Pseudonym shared by the scans of one patient; the participant ID where the table has none.
    age : float or None
        Years.
    sex : str or None
        M, F or O.
    scanner, subtype : str or None
        As in the table.
    quality : str or None
        Verdict of a person, pass, warn or fail, that overrides quality control's.
    quality_reason : str or None
        Why; never None with ``quality``.
    """

    participant_id: str
    ct: str
    group: str
    pathology: str | None
    lesion_mask: str | None
    split: str | None
    role: str
    patient: str
    age: float | None
    sex: str | None
    scanner: str | None
    subtype: str | None
    quality: str | None
    quality_reason: str | None


@dataclass(frozen=True)
class Named:
    """The files of a row of a faulty table, as far as they are there to be read."""

    participant_id: str
    ct: str
    lesion_mask: str | None


class TableError(ConfigError):
    """Faults of the participants table.

    Parameters
    ----------
    faults : list of str
    scans : sequence of Named
        The files that rows name and ``stat`` found in order: they may hold faults of their own.
    """

    def __init__(self, faults: list[str], scans: Iterable[Named] = ()) -> None:
        super().__init__(TITLE, faults)
        self.scans = list(scans)


def _named(rows: Iterable[Row]) -> list[Named]:
    scans: dict[tuple[int, int], Named] = {}
    for row in rows:
        subject = row.values.get("participant_id")
        ct, mask = row.paths.get("ct"), row.paths.get("lesion_mask")
        if subject and ct and readable(ct):
            status = Path(ct).stat()  # a file named twice was told already
            scan = Named(subject, ct, mask if mask and readable(mask) else None)
            scans.setdefault((status.st_dev, status.st_ino), scan)
    return list(scans.values())


def _read_text(path: Path) -> str:
    try:
        return path.read_text("utf-8-sig")  # Excel writes a byte-order mark
    except FileNotFoundError:
        raise TableError([f"{path}: no such file; give the path of participants.tsv"]) from None
    except UnicodeDecodeError:
        raise TableError([f"{path}: not UTF-8 text; save the table as UTF-8, tab-separated"]) from None


def _read_table(path: Path, required: Iterable[str]) -> tuple[list[Row], list[str]]:
    """Return the rows of a tab-separated table and the faults of its shape."""
    lines = csv.reader(io.StringIO(_read_text(path), newline=""), delimiter="\t")
    header = [name.strip() for name in next(lines, [])]
    if len(header) < 2:
        fault = "the table is empty"
        if header and re.search("[,;]", header[0]):
            fault = "not tab-separated (commas or semicolons found); export it as tab-separated text"
        elif header and header[0]:
            fault = "the header has one column; separate columns by tabs"
        raise TableError([f"{path}: {fault}"])
    faults = column_faults(header, required)
    rows: list[Row] = []
    for cells in lines:
        number = lines.line_num
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) != len(header):
            faults.append(
                f"line {number}, {cells[0].strip()}: {len(cells)} columns, the header has {len(header)}; "
                "write n/a for what is missing, and no tab inside a value"
            )
            continue
        values = {name: cell.strip() for name, cell in zip(header, cells, strict=True)}
        rows.append(Row(f"line {number}", {name: None if v in MISSING else v for name, v in values.items()}))
    if not rows and not faults:
        faults.append(f"{path}: the table has no rows; one row a scan is needed")
    return rows, faults


def _read_bids(folder: Path, required: Iterable[str]) -> tuple[list[Row], list[str]]:
    """Return the rows of a BIDS directory, and of its participants.tsv if any."""
    table = folder / "participants.tsv"
    if table.is_file():
        rows, faults = _read_table(table, [name for name in required if name != "ct"])
    else:
        rows, faults = subject_rows(folder), []
        if not rows:
            faults = [f"{folder}: a folder without {LAYOUT}; give participants.tsv or a BIDS directory"]
    rows, more = place_scans(folder, rows)
    return rows, faults + more


def _resolve(rows: list[Row], folder: str) -> None:
    """Make paths start at the working directory instead of the table's folder."""
    for row in rows:
        for column in ("ct", "lesion_mask"):
            if value := row.values.get(column):
                row.paths[column] = os.path.normpath(value if value.startswith("/") else f"{folder}/{value}")


def _participants(
    rows: list[Row], settings: Mapping[str, Any], new: bool
) -> tuple[list[Participant], list[str]]:
    """Assign splits and roles; return the participants and the faults of the cohort as a whole."""
    for row in rows:
        row.values["patient"] = row.values.get("patient") or row.values["participant_id"]
    given: dict[str, str | None] = {}
    for row in rows:
        if row.values["group"] != "unlabelled":
            split = "test" if row.values["group"] == "abnormal" else row.values.get("split")
            given[row.values["patient"] or ""] = split or given.get(row.values["patient"] or "")
    splits = assign_splits(given, settings["seed"], settings["test_fraction"], settings["val_fraction"])
    val = {patient for patient, split in splits.items() if split == "val"}
    roles = assign_roles(val, settings["seed"])
    faults = []
    if not new and not (val and "train" in splits.values()):
        faults.append(
            "the cohort has too few healthy patients: at least one for `train` and one for `val` are needed "
            "(to score scans with a trained model: --config new=TABLE bundle=FOLDER)"
        )
    elif not new and len(val) == 1:
        log.warning(
            "one healthy patient in `val`: its scans stop training and calibrate too; give two or more"
        )
    people = []
    for row in rows:
        values = row.values
        patient = values["patient"] or ""
        labelled = values["group"] != "unlabelled"
        split = splits[patient] if labelled else None
        age, sex = values.get("age"), values.get("sex")
        people.append(
            Participant(
                participant_id=values["participant_id"] or "",
                ct=row.paths.get("ct") or values["ct"] or "",
                group=values["group"] or "",
                pathology=values.get("pathology"),
                lesion_mask=row.paths.get("lesion_mask") if values.get("lesion_mask") else None,
                split=split,
                role="unlabelled" if split is None else roles[patient] if split == "val" else split,
                patient=patient,
                age=float(age.rstrip("+")) if age else None,
                sex=sex[0].upper() if sex else None,
                scanner=values.get("scanner"),
                subtype=values.get("subtype"),
                quality=values.get("quality"),
                quality_reason=values.get("quality_reason"),
            )
        )
    return people, faults


def _line(fault: str) -> int:
    """Where a fault stands in the table; 0 for what is no row's."""
    found = re.match(r"(?:line|row) (\d+)", fault)
    return int(found[1]) if found else 0


def _finish(
    rows: list[Row], faults: list[str], settings: Mapping[str, Any], new: bool, stat: bool
) -> list[Participant]:
    faults = faults + [f for row in rows for f in row_faults(row, settings["pathologies"])]
    faults += semantic_faults(rows, stat=stat, refuse=not new and settings["on_bad_file"] == "refuse")
    people: list[Participant] = []
    if not faults:  # what follows needs whole rows
        people, faults = _participants(rows, settings, new)
    if faults:
        raise TableError(sorted(faults, key=_line), _named(rows) if stat else ())
    return people


def load_participants(
    path: str | Path, settings: Mapping[str, Any], new: bool = False, calibrate: bool = False
) -> list[Participant]:
    """Read a participants table or a BIDS directory.

    Parameters
    ----------
    path : str or Path
        ``participants.tsv`` (see ``docs/participants.md``) or a BIDS directory (:mod:`normct.cohort.bids`).
    settings : mapping
        The ``cohort:`` section of the config.
    new : bool
        New scans for a frozen model: labels are ignored, every row is unlabelled, and a file that is
        missing or unreadable is set aside instead of refused.
    calibrate : bool
        New healthy scans that a frozen model is recalibrated with: as ``new``, but a row that names another
        group is a fault, and every scan has the role ``calibrate``.

    Returns
    -------
    list of Participant
        In the order of the table.

    Raises
    ------
    TableError
        With every fault of the table: line, subject, column, what is wrong and what to do.
    """
    path = Path(path)
    new = new or calibrate
    required = ["participant_id", "ct"] + ([] if new else ["group"])
    rows, faults = (_read_bids if path.is_dir() else _read_table)(path, required)
    if calibrate:
        faults += healthy_faults(rows)
    if new:
        unlabel(rows)
    _resolve(rows, str(path if path.is_dir() else path.parent))
    people = _finish(rows, faults, settings, new, stat=True)
    if calibrate:
        people = [replace(p, group="healthy", split="val", role="calibrate") for p in people]
    return people


def participants_from_rows(
    rows: Iterable[Mapping[str, Any]], settings: Mapping[str, Any]
) -> list[Participant]:
    """Return participants from rows whose files a rule has yet to make (the synthetic cohort): no ``stat``.

    Parameters
    ----------
    rows : iterable of mapping
        Column names as in the table; paths from the working directory.
    settings : mapping
        The ``cohort:`` section of the config.

    Raises
    ------
    TableError
        As :func:`load_participants`.
    """
    read = [
        Row(f"row {n}", {k: None if v is None or str(v) in MISSING else str(v) for k, v in row.items()})
        for n, row in enumerate(rows, start=1)
    ]
    for row in read:  # as a rule names them: not normalised, lest the rule no longer matches
        row.paths = {c: v for c in ("ct", "lesion_mask") if (v := row.values.get(c))}
    return _finish(read, [], settings, new=False, stat=False)
