"""Writing and reading the tables of this stage."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from normct.common.files import atomic


def write_csv(path: str | Path, table: pd.DataFrame) -> None:
    """Write a table whose bytes depend on its values alone: six significant digits, empty for unknown."""
    with atomic(path) as part:
        table.to_csv(part, index=False, float_format="%.6g", lineterminator="\n")


def write_tables(folder: Path, tables: Mapping[str, pd.DataFrame]) -> None:
    """Write each table as ``<name>.csv``."""
    for name, table in tables.items():
        write_csv(folder / f"{name}.csv", table)


def read_csv(path: str | Path) -> pd.DataFrame:
    """Read a table of this stage; names such as ``n/a`` stay text, empty numbers become NaN."""
    table = pd.read_csv(path, keep_default_na=False, na_values={}, dtype=str)
    text = {
        "protocol",
        "members",
        "method",
        "score",
        "seed",
        "reason",
        "note",
        "pathology",
        "group",
        "role",
        "participant_id",
        "reasons",
        "against",
        "rival",
        "rival_score",
        "map",
        "subset",
        "level",
        "threshold",
        "kind",
        "stratum",
        "false_per_scan",
        "check",
        "detail",
        "found",
        "uncertainty_of",
        "surest_by",
    }
    for name in table.columns:
        if name not in text or (name == "threshold" and "target_specificity" in table):
            table[name] = pd.to_numeric(table[name].where(table[name] != ""))
    return table
