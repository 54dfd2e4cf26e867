"""A BIDS directory instead of a table: one scan a subject, or one a session."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from normct.cohort.faults import Row

LAYOUT = "sub-*/ct/*_ct.nii.gz or sub-*/ses-*/ct/*_ct.nii.gz"


def _folders(folder: Path, subject: str) -> dict[str, Path]:
    """Return the ``ct`` folders of a subject by participant ID; a session's label is folded into the ID."""
    found = {subject: folder / subject / "ct"} if (folder / subject / "ct").is_dir() else {}
    for path in sorted((folder / subject).glob("ses-*/ct")):
        if path.is_dir():
            found[subject + path.parent.name.replace("-", "", 1)] = path
    return found


def _scans(path: Path) -> list[Path]:
    return sorted(p for p in path.glob("*_ct.nii*") if p.name.endswith((".nii", ".nii.gz")))


def _add_scan(row: Row, folder: Path, place: Path, faults: list[str]) -> None:
    """Write the one CT of a ``ct`` folder into the row."""
    shown = place.relative_to(folder)
    found = _scans(place)
    if len(found) > 1:
        fault = f"{len(found)} files match {shown}/*_ct.nii.gz; name one in a column `ct` of participants.tsv"
        faults.append(row.fault("ct", fault))
    # where there is none, it is reported as missing like any other
    name = found[0].name if found else f"{row.values['participant_id']}_ct.nii.gz"
    row.values["ct"] = str(shown / name)


def subject_rows(folder: Path) -> list[Row]:
    """Return an unlabelled row a subject, for a directory without participants.tsv."""
    subjects = sorted(p.name for p in folder.glob("sub-*") if p.is_dir())
    return [Row(f"folder {s}", {"participant_id": s, "group": "unlabelled"}) for s in subjects]


def place_scans(folder: Path, rows: Iterable[Row]) -> tuple[list[Row], list[str]]:
    """Find the CT of each row that names none; a subject with sessions becomes a row a session.

    Parameters
    ----------
    folder : Path
        The BIDS directory.
    rows : iterable of Row
        One a subject (``sub-01``), or one a session (``sub-01ses02``, for a group of its own).

    Returns
    -------
    rows : list of Row
        ``ct`` from the directory; ``patient`` is the subject, unless the table says another.
    faults : list of str
    """
    owned = {path.name: _folders(folder, path.name) for path in sorted(folder.glob("sub-*"))}
    session = {name: (subject, place) for subject, names in owned.items() for name, place in names.items()}
    placed: list[Row] = []
    faults: list[str] = []
    rows = list(rows)
    named = {row.values.get("participant_id") for row in rows}
    for row in rows:
        subject = row.values.get("participant_id")
        if row.values.get("ct") or not subject:
            placed.append(row)
            continue
        places = owned.get(subject) or {}
        places = {name: place for name, place in places.items() if name == subject or name not in named}
        if not places and subject in session:
            owner, place = session[subject]
            row.values["patient"] = row.values.get("patient") or owner
            _add_scan(row, folder, place, faults)
            placed.append(row)
        elif places:
            if row.values.get("lesion_mask") and len(places) > 1:
                fault = f"one mask for {len(places)} scans; give {', '.join(places)} rows of their own"
                faults.append(row.fault("lesion_mask", fault))
                row.values["lesion_mask"] = None
            for name, place in places.items():
                patient = row.values.get("patient") or subject
                one = Row(row.where, row.values | {"participant_id": name, "patient": patient})
                _add_scan(one, folder, place, faults)
                placed.append(one)
        else:
            row.values["ct"] = f"{subject}/ct/{subject}_ct.nii.gz"
            placed.append(row)
    return placed, faults
