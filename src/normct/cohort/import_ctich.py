"""Write participants.tsv for PhysioNet CT-ICH 1.3 (Hssayeni et al., Data 2020): NIfTI, masks, diagnoses.

Expected, as published: ``DIR/hemorrhage_diagnosis_raw_ct.csv``, ``DIR/ct_scans/049.nii`` and so on,
``DIR/masks/049.nii``, and ``DIR/patient_demographics.csv`` for age and sex. A scan with a bleed on any
slice is ``abnormal``; with a fracture only ``unlabelled``, neither trained on nor counted; the others are
``healthy``.
"""

from __future__ import annotations

import csv
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from normct.cohort.public import (
    EXTRA_AXIAL,
    INTRA_AXIAL,
    bleed_label,
    command_line,
    read_csv,
    scan_row,
    write_table,
)
from normct.common import cli

TYPES = (*INTRA_AXIAL, *EXTRA_AXIAL)
FRACTURE = "Fracture_Yes_No"


def read_demographics(path: Path) -> dict[int, dict[str, str]]:
    """Return age and sex by patient number; empty where the file is missing.

    Its header spans two lines, with line breaks in names: columns are found by a word, rows by a number.
    """
    if not path.is_file():
        return {}
    with path.open(encoding="utf-8-sig", newline="") as handle:
        lines = list(csv.reader(handle))
    header = [name.lower() for name in lines[0]] if lines else []
    age = next((n for n, name in enumerate(header) if name.startswith("age")), None)
    sex = next((n for n, name in enumerate(header) if name.startswith(("gender", "sex"))), None)
    people = {}
    for line in lines[1:]:
        if line and line[0].strip().isdigit():
            years = line[age].strip() if age is not None else ""
            gender = line[sex].strip()[:1].upper() if sex is not None else ""
            people[int(line[0])] = {
                "age": years if re.fullmatch(r"\d{1,2}(\.\d+)?|1[0-4]\d", years) else "n/a",
                "sex": gender if gender in {"M", "F"} else "n/a",
            }
    return people


def _scan(folder: Path, number: int) -> Path | None:
    names = [f"{number:03d}.nii", f"{number:03d}.nii.gz"]
    return next((folder / name for name in names if (folder / name).is_file()), None)


def import_ctich(folder: Path, out: Path) -> Path:
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
        The diagnoses are missing or others, or no scan is found.
    """
    titles = {kind: kind.capitalize() for kind in TYPES}
    diagnoses = folder / "hemorrhage_diagnosis_raw_ct.csv"
    slices = defaultdict(list)
    for line in read_csv(diagnoses, ["PatientNumber", *titles.values(), FRACTURE]):
        slices[int(float(line["PatientNumber"]))].append(line)
    demographics = read_demographics(folder / "patient_demographics.csv")

    def found() -> Iterator[dict[str, str] | None]:
        for number, lines in sorted(slices.items()):
            scan = _scan(folder / "ct_scans", number)
            if scan is None:
                yield None
                continue
            row = scan_row(f"CTICH{number:03d}", scan, **demographics.get(number, {}))
            evidence = {
                kind: sum(line[title].strip() == "1" for line in lines) for kind, title in titles.items()
            }
            if any(evidence.values()):
                pathology, subtype = bleed_label(evidence)
                mask = _scan(folder / "masks", number)
                row |= {"group": "abnormal", "pathology": pathology, "subtype": subtype}
                row["lesion_mask"] = str(mask) if mask else "n/a"
            else:
                fractured = any(line[FRACTURE].strip() == "1" for line in lines)
                row["group"] = "unlabelled" if fractured else "healthy"
            yield row

    return write_table(found(), out, diagnoses.name)


main = command_line(__doc__, "normct.cohort.import_ctich", import_ctich)


if __name__ == "__main__":
    cli.run(main)
