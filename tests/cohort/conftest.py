"""A small head in HU, and a table around it."""

from __future__ import annotations

import pytest

from factories import head_hu, save_nifti

SETTINGS = {"seed": 0, "test_fraction": 0.2, "val_fraction": 0.2, "pathologies": [], "on_bad_file": "refuse"}


class Cohort:
    """A folder with a table: rows are dicts; a file that a row names is made unless it is there."""

    def __init__(self, folder):
        self.folder, self.rows = folder, []

    def add(self, n: int, **values) -> dict:
        row = {"participant_id": f"sub-{n:03d}", "ct": f"ct {n}é.nii.gz", "group": "healthy"} | values
        path = self.folder / row["ct"]
        if not path.exists() and "skip" not in row:
            save_nifti(path, head_hu(n))
        row.pop("skip", None)
        self.rows.append(row)
        return row

    def write(self, name: str = "participants.tsv", text: str | None = None):
        columns = list(dict.fromkeys(k for row in self.rows for k in row))
        lines = ["\t".join(columns), *("\t".join(str(r.get(c, "n/a")) for c in columns) for r in self.rows)]
        path = self.folder / name
        path.write_text(text if text is not None else "\n".join(lines) + "\n", "utf-8")
        return path


@pytest.fixture
def settings() -> dict:
    return dict(SETTINGS)


@pytest.fixture
def cohort(tmp_path) -> Cohort:
    """Three healthy scans and an abnormal one."""
    made = Cohort(tmp_path)
    for n in (1, 2, 3):
        made.add(n)
    made.add(4, group="abnormal", pathology="icb")
    return made
