"""Write the participants table of the synthetic cohort, paths relative to the table."""

from __future__ import annotations

import csv
import json
from pathlib import Path

from normct.common.cli import parser, run
from normct.common.files import atomic
from normct.phantom.plan import plan_rows


def write_participants(path: str | Path, rows: list[dict[str, str]]) -> None:
    """Write rows of :func:`normct.phantom.plan.plan_rows` as tab-separated text, one row a scan."""
    columns = list(rows[0]) if rows else ["participant_id", "ct", "group"]
    with atomic(path) as part, part.open("w", encoding="utf-8", newline="") as handle:
        table = csv.DictWriter(handle, columns, delimiter="\t", lineterminator="\n")
        table.writeheader()
        table.writerows(rows)


def main(argv: list[str] | None = None) -> None:
    """Parse the command line and write the table."""
    cli = parser(__doc__, "normct.phantom.participants")
    cli.add_argument("table", help="participants.tsv to write, beside the subjects' folders")
    cli.add_argument("--settings", required=True, type=json.loads, help="JSON of the phantom: section")
    args = cli.parse_args(argv)
    rows = plan_rows(args.settings, ".")
    for row in rows:
        row["ct"] = row["ct"].removeprefix("./phantom/")
        row["lesion_mask"] = row["lesion_mask"].removeprefix("./phantom/")
    write_participants(args.table, rows)


if __name__ == "__main__":
    run(main)
