"""The hand-off for machines: summary and findings as CSV, everything as JSON."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from normct.common.files import atomic, write_json

SUMMARY = [
    *("rank", "participant_id", "status", "quality", "score", "percentile", "n_healthy", "n_below"),
    *("percentile_low", "percentile_high", "seed_low", "seed_high", "uncertainty"),
    *(
        "higher_than_all",
        "marked_ml",
        "high_slices",
        "out_of_scope",
        "findings",
        "strongest",
        "words",
        "reasons",
        "handoff_id",
        "date",
    ),
]
FINDINGS = [
    *("participant_id", "number", "kind", "volume_ml", "mean", "peak", "unit", "peak_hu"),
    *("side", "region", "rim", "slice", "i", "j", "k", "words", "handoff_id", "date"),
]


FORMAT = 1
STATUS = {"scored": "scored", "aside": "set_aside", "failed": "failed"}


def _cell(value: Any) -> Any:
    """Return a cell no spreadsheet takes for a formula."""
    if isinstance(value, str) and value[:1] in "=+-@\t\r":
        return "'" + value
    return "n/a" if value is None else value


def write_csv(path: Path, columns: list[str], rows: Iterable[dict[str, Any]]) -> None:
    """Write a table, atomically."""
    with atomic(path) as part, part.open("w", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([_cell(row.get(column)) for column in columns] for row in rows)


def write_tables(out: Path, groups: dict[str, list[dict[str, Any]]], handoff_id: str, date: str) -> None:
    """Write ``summary.csv`` and ``findings.csv``.

    Parameters
    ----------
    out : Path
        The hand-off's folder.
    groups : dict
        ``scored``, ``aside`` and ``failed`` records.
    handoff_id, date : str
        In every row.
    """
    rows = [
        {
            **record,
            "findings": len(record["findings"]) if "findings" in record else None,
            "strongest": record["findings"][0]["words"] if record.get("findings") else None,
            "reasons": "; ".join(record["reasons"]) or None,
            "out_of_scope": "; ".join(record.get("out_of_scope", [])) or None,
            "status": STATUS[name],
            "handoff_id": handoff_id,
            "date": date,
        }
        for name in STATUS
        for record in groups[name]
    ]
    write_csv(out / "summary.csv", SUMMARY, rows)
    findings = [
        {
            **f,
            "participant_id": r["participant_id"],
            "unit": r["unit"],
            "handoff_id": handoff_id,
            "date": date,
            **dict(zip("ijk", f["voxel"], strict=True)),
        }
        for r in groups["scored"]
        for f in r["findings"]
    ]
    write_csv(out / "findings.csv", FINDINGS, findings)


def write_summary(
    path: Path, groups: dict[str, list[dict[str, Any]]], shared: dict[str, Any], research: str
) -> None:
    """Write ``summary.json``; its schema is ``docs/handoff_summary.schema.json``."""
    left_out = {"thumbnail", "page", "levels"}
    scans = [
        {k: v for k, v in record.items() if k not in left_out} | {"status": STATUS[name]}
        for name in STATUS
        for record in groups[name]
    ]
    head = {
        name: shared[name]
        for name in ("handoff_id", "date", "title", "synthetic", "trained_on_synthetic", "method")
    }
    write_json(path, {"format": FORMAT, "notice": research, **head, "scans": scans})
