"""The hand-off's ID and date, and what changed against the one before.

The date is when results with this ID were first handed off: it is kept in ``.history.json``, so that building
the same results again gives the same bytes. ``SOURCE_DATE_EPOCH`` sets it, as reproducible builds do.
"""

from __future__ import annotations

import os
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from normct.common.files import atomic, read_json, write_json

NAME = ".history.json"
FOLLOWED = ("status", "rank", "score", "threshold", "unit", "marked_ml", "strongest")
CHANGES = ["date", "handoff_id", "previous_id", "participant_id", "what", "before", "after"]
STAMP = re.compile(rb"(<span data-stamp>)[^<]*(</span>)")


def state(groups: dict[str, list[dict[str, Any]]]) -> dict[str, dict[str, Any]]:
    """Return what is followed of each scan, by ID."""
    found = {}
    for record in (r for group in groups.values() for r in group):
        first = record["findings"][0]["words"] if record.get("findings") else None
        values = record | {"status": record.get("status", "set_aside"), "strongest": first}
        found[record["participant_id"]] = {name: values.get(name) for name in FOLLOWED}
    return found


def differences(before: dict[str, Any], after: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a row for each followed value that differs, and for scans that came or went."""
    rows = []
    for subject in sorted({*before, *after}):
        old, new = before.get(subject), after.get(subject)
        if old is None or new is None:
            said = {"before": "absent" if old is None else "handed off"}
            said["after"] = "absent" if new is None else "handed off"
            rows.append({"participant_id": subject, "what": "scan"} | said)
            continue
        rows += [
            {"participant_id": subject, "what": name, "before": old.get(name), "after": new[name]}
            for name in FOLLOWED
            if old.get(name) != new[name]
        ]
    return rows


def today() -> str:
    """Return now in UTC, or the time that ``SOURCE_DATE_EPOCH`` sets."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    now = datetime.fromtimestamp(int(epoch), UTC) if epoch else datetime.now(UTC)
    return now.strftime("%Y-%m-%d %H:%M UTC")


def record(out: Path, handoff_id: str, scans: dict[str, dict[str, Any]]) -> tuple[str, list[dict[str, Any]]]:
    """Remember this hand-off; return its date and all changes since the first, a row for each hand-off among them.

    Parameters
    ----------
    out : Path
        The hand-off's folder.
    handoff_id : str
        Of this one.
    scans : dict
        From :func:`state`.
    """
    path = out / NAME
    known = read_json(path) if path.is_file() else None
    if known and known["handoff_id"] == handoff_id:
        return known["date"], known["changes"]
    date, changes = today(), list(known["changes"]) if known else []
    marks = {"date": date, "handoff_id": handoff_id, "previous_id": known["handoff_id"] if known else None}
    # a row of its own, so that the table carries ID and date where nothing else differs
    changes.append(marks | {"participant_id": None, "what": "hand-off"})
    if known:
        changes += [marks | row for row in differences(known["scans"], scans)]
    write_json(path, {"handoff_id": handoff_id, "date": date, "scans": scans, "changes": changes})
    return date, changes


def stamp_page(path: Path, handoff_id: str, date: str) -> None:
    """Write ID and date into the foot of a page; a page that carries them already is left alone."""
    content = path.read_bytes()
    text = f"{handoff_id}, {date}".encode()
    stamped = STAMP.sub(lambda m: m[1] + text + m[2], content, count=1)
    if stamped != content:
        with atomic(path) as part:
            part.write_bytes(stamped)


def unstamped(record: dict[str, Any]) -> dict[str, Any]:
    """Return a scan's record without ID and date, of which the next ID must not depend."""
    return {name: value for name, value in record.items() if name not in {"handoff_id", "date"}}


def stamp_record(path: Path, handoff_id: str, date: str) -> None:
    """Write ID and date into ``patient.json``; one that carries them already is left alone."""
    record = read_json(path)
    stamped = unstamped(record) | {"handoff_id": handoff_id, "date": date}
    if stamped != record:
        write_json(path, stamped)
