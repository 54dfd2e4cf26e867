"""Write participants.tsv for CQ500 (Chilamkurthy et al., Lancet 2018): DICOM folders and reads.csv.

Expected, as published, zips unpacked: ``DIR/reads.csv`` and ``DIR/**/CQ500CT<n> CQ500CT<n>/``. A finding is
there when two of the three readers say so. Scans without bleed, fracture, mass effect or midline shift are
``healthy``; those with such findings but no bleed are ``unlabelled``, neither trained on nor counted. The
readers looked for nothing else: an infarct or a tumour may be among the ``healthy``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from normct.cohort.public import bleed_label, command_line, read_csv, scan_row, write_table
from normct.common import cli

READERS = ("R1", "R2", "R3")
BLEEDS = {
    "IPH": "intraparenchymal",
    "IVH": "intraventricular",
    "SDH": "subdural",
    "EDH": "epidural",
    "SAH": "subarachnoid",
}
OTHERS = ("ChronicBleed", "Fracture", "CalvarialFracture", "OtherFracture", "MassEffect", "MidlineShift")


def label(reads: dict[str, str]) -> dict[str, str]:
    """Return group, pathology and subtype from one row of reads.csv."""
    names = ["ICH", *BLEEDS, *OTHERS]
    if any(reads[f"{r}:{name}"].strip() not in {"0", "1"} for r in READERS for name in names):
        return {"group": "unlabelled"}
    votes = {name: sum(int(reads[f"{r}:{name}"]) for r in READERS) for name in names}
    bleeds = {word: votes[name] if votes[name] >= 2 else 0 for name, word in BLEEDS.items()}
    if votes["ICH"] >= 2 or any(bleeds.values()):
        pathology, subtype = bleed_label(bleeds)
        return {"group": "abnormal", "pathology": pathology, "subtype": subtype}
    return {"group": "unlabelled" if any(votes[name] >= 2 for name in OTHERS) else "healthy"}


def import_cq500(folder: Path, out: Path) -> Path:
    """Write ``out/participants.tsv`` and return its path.

    Parameters
    ----------
    folder : Path
        The unpacked set.
    out : Path
        Folder of the table; the scans stay where they are.

    Raises
    ------
    ConfigError
        reads.csv is missing or another, or no scan is found.
    """
    columns = [f"{r}:{name}" for r in READERS for name in ("ICH", *BLEEDS, *OTHERS)]
    reads = read_csv(folder / "reads.csv", ["name", *columns])
    scans: dict[int, Path] = {}
    for path in sorted(folder.rglob("CQ500*CT*")):
        match = re.match(r"CQ500-?CT-?(\d+)(?!\d)", path.name)
        if path.is_dir() and match:
            scans.setdefault(int(match[1]), path)  # the outer folder sorts first

    def found() -> Iterator[dict[str, str] | None]:
        for read in reads:
            number = re.search(r"(\d+)\s*$", read["name"])
            scan = scans.get(int(number[1])) if number else None
            yield scan_row(f"CQ500CT{int(number[1])}", scan, **label(read)) if number and scan else None

    return write_table(found(), out, "reads.csv")


main = command_line(__doc__, "normct.cohort.import_cq500", import_cq500)


if __name__ == "__main__":
    cli.run(main)
