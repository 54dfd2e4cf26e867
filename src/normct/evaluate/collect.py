"""Every test scan's scores, read once and written as two tables that the stage reads; ``scans.parquet`` is there already.

``slices.parquet``: a row a slice of the accepted test scans, all 155
of each, a column a score, named ``method/score/seed``; null where a scan has no such score. ``volumes.parquet``: a
row a test scan and score. Numbers are what the scans' own files hold, bit for bit.

Some hundred scans are held at a time, so memory does not grow with the cohort but for a row a scan.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from normct.common.cli import run
from normct.common.files import atomic, read_json
from normct.evaluate.arguments import command_line
from normct.evaluate.data import (
    KEY,
    SLICES,
    VOLUMES,
    Column,
    accepted_test,
    column_name,
    ordered,
    read_cohort,
)

log = logging.getLogger(__name__)
GROUP = 256
"""Scans a row group, which are in memory together."""
UNIT = {"z": pa.int16(), "brain_pixels": pa.int32(), "lesion_pixels": pa.int32(), "usable": pa.bool_()}
VOLUME = {name: pa.string() for name in ("participant_id", *KEY)} | {
    "value": pa.float64(),
    "uncertainty": pa.float64(),
    "uncertainty_of": pa.string(),
}


@dataclass(frozen=True)
class Block:
    """Slices of one scan: facts named as in :data:`UNIT`, place of each column, matrix (slices, columns)."""

    participant_id: str
    facts: dict[str, NDArray]
    columns: dict[Column, int]
    matrix: NDArray[np.float64]


def read_block(path: Path) -> Block | None:
    """Read ``R/score/subjects/<sub>.parquet``; None for a scan that quality control left without slices."""
    file = pq.ParquetFile(path, read_dictionary=list(KEY))
    if not file.metadata.num_rows:
        return None
    rows = file.read(columns=[*KEY, "value", *UNIT], use_threads=False).combine_chunks()
    # names as whole numbers: grouping 155 rows a score by their text takes six times as long
    keys = [rows.column(name).chunk(0) for name in KEY]
    names = [key.dictionary.to_pylist() for key in keys]
    code, shape = [key.indices.to_numpy() for key in keys], tuple(len(words) for words in names)
    found, column = np.unique(np.ravel_multi_index(code, shape), return_inverse=True)
    parts = zip(*np.unravel_index(found, shape), strict=True)
    z, first, at = np.unique(rows.column("z").to_numpy(), return_index=True, return_inverse=True)
    matrix = np.full((len(z), len(found)), np.nan)
    matrix[at, column] = rows.column("value").to_numpy()
    return Block(
        path.stem,
        {name: rows.column(name).to_numpy()[first] for name in UNIT},
        {(names[0][m], names[1][s], names[2][n]): i for i, (m, s, n) in enumerate(parts)},
        matrix,
    )


def _values(blocks: list[Block], column: Column) -> pa.Array:
    """Return one column of some scans, null where a scan has no such score (NaN is a score of its own)."""
    size = sum(len(block.matrix) for block in blocks)
    values, missing, start = np.zeros(size), np.ones(size, bool), 0
    for block in blocks:
        place = slice(start, start + len(block.matrix))
        if column in block.columns:
            values[place], missing[place] = block.matrix[:, block.columns[column]], False
        start = place.stop
    return pa.array(values, mask=missing)


def _groups(subjects: Sequence[str]) -> Iterator[Sequence[str]]:
    return (subjects[start : start + GROUP] for start in range(0, len(subjects), GROUP))


def _write_slices(path: Path, folder: Path, subjects: Sequence[str], columns: list[Column]) -> list[Column]:
    """Write the slices of scans with these columns, and return the columns that the scans have."""
    names = [column_name(column) for column in columns]
    schema = pa.schema(
        [("participant_id", pa.string()), *UNIT.items(), *((name, pa.float64()) for name in names)]
    )
    found: set[Column] = set()
    # scores hardly repeat, so a dictionary of them would only cost time
    with pq.ParquetWriter(path, schema, compression="zstd", use_dictionary=["participant_id"]) as writer:
        for group in _groups(subjects):
            read = (read_block(folder / f"{sub}.parquet") for sub in group)
            blocks = [block for block in read if block is not None]
            if not blocks:
                continue
            found.update(column for block in blocks for column in block.columns)
            units = [pa.array(np.repeat([b.participant_id for b in blocks], [len(b.matrix) for b in blocks]))]
            units += [
                pa.array(np.concatenate([b.facts[name] for b in blocks]), kind) for name, kind in UNIT.items()
            ]
            values = (_values(blocks, column) for column in columns)
            table = pa.Table.from_arrays([*units, *values], schema=schema)
            blocks.clear()
            writer.write_table(table)
    return ordered(found)


def write_slices(path: Path, folder: Path, subjects: Sequence[str]) -> list[Column]:
    """Write ``slices.parquet`` and return its columns.

    Parameters
    ----------
    path : Path
    folder : Path
        ``R/score/subjects``, with ``<sub>.parquet``.
    subjects : sequence of str
        Test scans; those without any slice are left out.
    """
    columns: list[Column] = []
    for sub in subjects:
        if (block := read_block(folder / f"{sub}.parquet")) is not None:
            columns = ordered(block.columns)
            break
    with atomic(path) as part:
        found = _write_slices(part, folder, subjects, columns)
        if found != columns:  # scans differ in what they have, which is seldom
            _write_slices(part, folder, subjects, found)
    return found


def read_volumes(folder: Path, subjects: Sequence[str]) -> pa.Table:
    """Read ``R/score/subjects/<sub>.json`` of scans: a row a scan and score, null for what is unknown."""
    schema = pa.schema(VOLUME.items())
    tables = [schema.empty_table()]
    for group in _groups(subjects):
        rows: dict[str, list[Any]] = {name: [] for name in VOLUME}
        for sub in group:
            for entry in read_json(folder / f"{sub}.json").get("volumes", []):
                rows["participant_id"].append(sub)
                for name in KEY:
                    rows[name].append(str(entry[name]))
                for name in ("value", "uncertainty"):
                    rows[name].append(None if entry.get(name) is None else float(entry[name]))
                rows["uncertainty_of"].append(entry.get("uncertainty_of") or "")
        tables.append(pa.table(rows, schema=schema))
    return pa.concat_tables(tables)


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    p = command_line(__doc__, "normct.evaluate.collect", "scores")
    args = p.parse_args(argv)
    subjects = list(accepted_test(read_cohort(args.out))["participant_id"])
    with atomic(args.out / VOLUMES) as part:
        pq.write_table(read_volumes(args.scores, subjects), part, compression="zstd")
    columns = write_slices(args.out / SLICES, args.scores, subjects)
    log.info("%d tested scans, %d slice scores", len(subjects), len(columns))


if __name__ == "__main__":
    run(main)
