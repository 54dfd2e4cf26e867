"""Every scan's verdict and every test scan's scores, read once and written as three tables that the stage reads.

``scans.parquet``: a row a scan of the cohort. ``slices.parquet``: a row a slice of the accepted test scans, all 155
of each, a column a score, named ``method/score/seed``; null where a scan has no such score. ``volumes.parquet``: a
row a test scan and score. Numbers are what the scans' own files hold, bit for bit.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from normct.common.cli import run
from normct.common.files import atomic, read_json
from normct.evaluate.arguments import command_line
from normct.evaluate.data import (
    KEY,
    SCANS,
    SLICES,
    VOLUMES,
    Column,
    accepted_test,
    column_name,
    ordered,
)

log = logging.getLogger(__name__)
GROUP = 256
"""Scans a row group: what is there twice, as read and as written, at any time."""
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


def read_scans(participants: str | Path, preprocess: str | Path, imports: str | Path) -> pd.DataFrame:
    """Read ``participants.tsv``, each scan's verdict and the hash of its source.

    Parameters
    ----------
    participants : str or Path
        ``R/cohort/participants.tsv``.
    preprocess, imports : str or Path
        Folders ``R/preprocess`` and ``R/cohort``, with ``<sub>/quality.json`` and ``<sub>/import.json``.

    Returns
    -------
    DataFrame
        As :func:`normct.evaluate.data.read_cohort` gives it.
    """
    table = pd.read_csv(participants, sep="\t", dtype=str, keep_default_na=False)
    table["has_lesion_mask"] = table["has_lesion_mask"].str.lower().isin(["true", "1", "yes"])
    for name in ("patient", "subtype", "scanner", "age"):
        if name not in table:
            table[name] = "n/a"
    unnamed = table["patient"].isin(["", "n/a"])
    table.loc[unnamed, "patient"] = table.loc[unnamed, "participant_id"]
    records = [read_json(Path(preprocess) / sub / "quality.json") for sub in table["participant_id"]]
    table["verdict"] = [record["verdict"] for record in records]
    table["reasons"] = [" ".join(record.get("reasons", [])) for record in records]
    thickness = [record.get("measures", {}).get("slice_thickness_mm") for record in records]
    table["slice_thickness_mm"] = np.array(thickness, np.float64)  # None becomes NaN
    sources = [read_json(Path(imports) / sub / "import.json") for sub in table["participant_id"]]
    table["sha256"] = [str(source["sha256"]) if source.get("sha256") else None for source in sources]
    return table


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


def read_blocks(folder: Path, subjects: Iterable[str]) -> deque[Block]:
    """Read the slices of scans, those without any left out."""
    blocks: deque[Block] = deque()
    seen: dict[tuple[Column, ...], dict[Column, int]] = {}
    for sub in subjects:
        block = read_block(folder / f"{sub}.parquet")
        if block is not None:
            # scans have the same columns: their names are kept once
            columns = seen.setdefault(tuple(block.columns), block.columns)
            blocks.append(replace(block, columns=columns))
    return blocks


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


def write_blocks(path: Path, blocks: deque[Block]) -> list[Column]:
    """Write ``slices.parquet`` and return its columns; ``blocks`` is emptied, so that nothing is kept twice."""
    columns = ordered(column for block in blocks for column in block.columns)
    names = [column_name(column) for column in columns]
    schema = pa.schema(
        [("participant_id", pa.string()), *UNIT.items(), *((name, pa.float64()) for name in names)]
    )
    # scores hardly repeat, so a dictionary of them would only cost time
    with (
        atomic(path) as part,
        pq.ParquetWriter(part, schema, compression="zstd", use_dictionary=["participant_id"]) as writer,
    ):
        while blocks:
            some = [blocks.popleft() for _ in range(min(GROUP, len(blocks)))]
            arrays = [pa.array(np.repeat([b.participant_id for b in some], [len(b.matrix) for b in some]))]
            arrays += [
                pa.array(np.concatenate([b.facts[name] for b in some]), kind) for name, kind in UNIT.items()
            ]
            arrays += [_values(some, column) for column in columns]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))
    return columns


def read_volumes(folder: Path, subjects: Iterable[str]) -> pa.Table:
    """Read ``R/score/subjects/<sub>.json`` of scans: a row a scan and score, null for what is unknown."""
    rows: dict[str, list[Any]] = {name: [] for name in VOLUME}
    for sub in subjects:
        for entry in read_json(folder / f"{sub}.json").get("volumes", []):
            rows["participant_id"].append(sub)
            for name in KEY:
                rows[name].append(str(entry[name]))
            for name in ("value", "uncertainty"):
                rows[name].append(None if entry.get(name) is None else float(entry[name]))
            rows["uncertainty_of"].append(entry.get("uncertainty_of") or "")
    return pa.table(rows, schema=pa.schema(VOLUME.items()))


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    p = command_line(__doc__, "normct.evaluate.collect", "participants", "preprocess", "imports", "scores")
    args = p.parse_args(argv)
    scans = read_scans(args.participants, args.preprocess, args.imports)
    with atomic(args.out / SCANS) as part:
        scans.to_parquet(part, index=False)
    subjects = list(accepted_test(scans)["participant_id"])
    with atomic(args.out / VOLUMES) as part:
        pq.write_table(read_volumes(args.scores, subjects), part, compression="zstd")
    columns = write_blocks(args.out / SLICES, read_blocks(args.scores, subjects))
    log.info("%d scans, %d of them tested, %d slice scores", len(scans), len(subjects), len(columns))


if __name__ == "__main__":
    run(main)
