"""The export: one long table of usable slices, and one of volumes, for whoever wants to check."""

from __future__ import annotations

import gzip
import io
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from normct.common.cli import parser, run
from normct.common.files import atomic, read_json

log = logging.getLogger(__name__)
SLICES = ("participant_id", "z", "method", "score", "seed", "value", "rank", "n_healthy", "percentile",
          "percentile_low", "percentile_high", "higher_than_all", "uncertainty", "uncertainty_of", "brain_pixels",
          "lesion_pixels", "group", "pathology", "split")  # fmt: skip
VOLUMES = ("participant_id", "method", "score", "seed", "value", "rank", "n_healthy", "percentile",
           "percentile_low", "percentile_high", "higher_than_all", "uncertainty", "uncertainty_of", "group",
           "pathology", "split")  # fmt: skip


def export(folder: Path, subjects: Iterable[str], slices: Path, volumes: Path) -> int:
    """Write ``slices.csv.gz`` and ``volumes.csv``; one scan is in memory at a time.

    Parameters
    ----------
    folder : Path
        Holds ``<subject>.parquet`` and ``<subject>.json``.
    subjects : iterable of str
        In the order of the tables; scans set aside have no rows.
    slices, volumes : Path
        Outputs. The same scores give the same bytes: no time in the gzip header, nine significant digits.

    Returns
    -------
    int
        Rows of the table of slices.
    """
    rows = 0
    style: Any = {"index": False, "header": False, "float_format": "%.9g", "lineterminator": "\n"}
    with (
        atomic(slices) as part,
        atomic(volumes) as volume_part,
        part.open("wb") as raw,
        gzip.GzipFile("", "wb", 6, raw, mtime=0) as packed,
        io.TextIOWrapper(packed, "utf-8", newline="") as text,
        volume_part.open("w", encoding="utf-8", newline="") as volume_text,
    ):
        text.write(",".join(SLICES) + "\n")
        volume_text.write(",".join(VOLUMES) + "\n")
        for subject in subjects:
            table = pd.read_parquet(folder / f"{subject}.parquet")
            usable = table.loc[table["usable"], list(SLICES)]
            usable.to_csv(text, **style)
            rows += len(usable)
            scores = pd.DataFrame(read_json(folder / f"{subject}.json")["volumes"])
            if scores.empty:
                continue
            for name in ("participant_id", "group", "pathology", "split"):
                scores[name] = table[name].iloc[0]
            scores[list(VOLUMES)].to_csv(volume_text, **style)
    return rows


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    arguments = parser(__doc__, "normct.score.export")
    arguments.add_argument("folder", type=Path, help="folder with <subject>.parquet and <subject>.json")
    arguments.add_argument("--subjects", nargs="*", default=[], help="participant IDs to export")
    arguments.add_argument("--slices", type=Path, required=True, help="slices.csv.gz")
    arguments.add_argument("--volumes", type=Path, required=True, help="volumes.csv")
    args = arguments.parse_args(argv)
    log.info("%d rows", export(args.folder, args.subjects, args.slices, args.volumes))


if __name__ == "__main__":
    run(main)
