"""What the importers of public sets share: labels of bleeds, reading, writing the table, the command line."""

from __future__ import annotations

import csv
import logging
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from normct.common import cli
from normct.common.errors import ConfigError
from normct.common.files import atomic

log = logging.getLogger(__name__)
COLUMNS = ["participant_id", "ct", "group", "pathology", "subtype", "lesion_mask", "patient", "age", "sex"]
# intra-axial bleeds are the thesis's icb, extra-axial ones its bleed (our reading; it does not define them)
INTRA_AXIAL = ("intraparenchymal", "intraventricular")
EXTRA_AXIAL = ("subdural", "epidural", "subarachnoid")


def bleed_label(evidence: Mapping[str, int]) -> tuple[str, str]:
    """Return pathology and subtype of a scan with bleeds.

    Parameters
    ----------
    evidence : mapping
        Bleed type to its number of readers or slices; 0 where it was not seen.

    Returns
    -------
    pathology : str
        ``icb`` or ``bleed``, whichever has more evidence; ``icb`` if equal, or if no type is told.
    subtype : str
        Types seen, most evident first; ``n/a`` if none is told.
    """
    intra, extra = (sum(evidence.get(t, 0) for t in types) for types in (INTRA_AXIAL, EXTRA_AXIAL))
    seen = sorted((t for t, n in evidence.items() if n), key=lambda t: (-evidence[t], t))
    return "bleed" if extra > intra else "icb", "+".join(seen) or "n/a"


def read_csv(path: Path, needed: list[str]) -> list[dict[str, str]]:
    """Read a comma-separated file; :class:`ConfigError` where it is not what was published."""
    title = "The data set is not laid out as published:"
    if not path.is_file():
        raise ConfigError(title, [f"{path.name}: no such file in the folder; give the folder that holds it"])
    with path.open(encoding="utf-8-sig", newline="") as handle:
        reader = csv.DictReader(handle)
        header = reader.fieldnames or []
        if missing := [name for name in needed if name not in header]:
            raise ConfigError(title, [f"{path.name}: no column '{name}'" for name in missing])
        return list(reader)


def scan_row(name: str, scan: Path, **columns: str) -> dict[str, str]:
    """Return a row of the table: the set's own name is ID and patient, for a scan is a patient there."""
    return {"participant_id": f"sub-{name}", "ct": str(scan), "patient": name, **columns}


def write_table(found: Iterable[dict[str, str] | None], out: Path, source: str) -> Path:
    """Write ``participants.tsv`` into ``out``, paths from there; say how many scans of each group there are.

    Parameters
    ----------
    found : iterable of dict or None
        A row a scan; None for a scan of ``source`` that is not on disk.
    out : Path
        Folder of the table.
    source : str
        File of the set that lists its scans.

    Raises
    ------
    ConfigError
        Where no scan was found.
    """
    listed = list(found)
    rows = [row for row in listed if row is not None]
    if missing := len(listed) - len(rows):
        log.warning(
            "%d scans of %s are not in the folder (not downloaded, or still zipped?)", missing, source
        )
    if not rows:
        raise ConfigError(
            "The data set is not laid out as published:", ["no scan of its table was found on disk"]
        )
    for row in rows:
        for column in ("ct", "lesion_mask"):
            if row.get(column, "n/a") != "n/a":
                row[column] = os.path.relpath(row[column], out)
    with atomic(out / "participants.tsv") as part, part.open("w", encoding="utf-8", newline="") as handle:
        writer = csv.DictWriter(handle, COLUMNS, restval="n/a", delimiter="\t", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    for group in ("healthy", "abnormal", "unlabelled"):
        log.info("%d %s", sum(row["group"] == group for row in rows), group)
    return out / "participants.tsv"


def command_line(
    doc: str | None, program: str, importer: Callable[[Path, Path], Path]
) -> Callable[[list[str] | None], None]:
    """Return the command line of an importer: DIR OUT, prints the table's path."""

    def main(argv: list[str] | None) -> None:
        parser = cli.parser(doc, program)
        parser.add_argument("folder", type=Path, metavar="DIR", help="the unpacked set")
        parser.add_argument("out", type=Path, metavar="OUT", help="folder to write participants.tsv into")
        args = parser.parse_args(argv)
        print(importer(args.folder, args.out))

    return main
