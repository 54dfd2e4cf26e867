"""A comment reruns nothing; code, of the module or of what it imports, does."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[2] / "src" / "normct"


@pytest.fixture
def copy(tmp_path):
    shutil.copytree(SOURCE, tmp_path / "normct", ignore=shutil.ignore_patterns("__pycache__"))

    (tmp_path / ".snakemake").mkdir()  # where what a text hashes to is kept

    def value(module: str) -> str:
        code = f"from normct.common.codehash import code_hash; print(code_hash({module!r}))"
        return subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONPATH": str(tmp_path)},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
        ).stdout

    return tmp_path / "normct", value


def test_comments_and_docstrings_do_not_count(copy):
    root, value = copy
    before = value("normct.common.slices")
    path = root / "common" / "slices.py"
    path.write_text(path.read_text().replace('"""Return the store', '"""Give the store') + "\n# why\n")
    assert value("normct.common.slices") == before


def test_code_of_an_imported_module_counts(copy):
    root, value = copy
    before, other = value("normct.common.slices"), value("normct.common.registry")
    path = root / "common" / "files.py"
    path.write_text(path.read_text() + "\nX = 1\n")
    assert value("normct.common.slices") != before
    assert value("normct.common.registry") == other


def test_what_is_kept_changes_nothing(copy):
    root, value = copy
    first = value("normct.common.slices")
    (kept,) = (root.parent / ".snakemake" / "normct").glob("code-*.json")
    assert value("normct.common.slices") == first
    kept.write_text("{ not whole")
    assert value("normct.common.slices") == first
    shutil.rmtree(root.parent / ".snakemake")
    assert value("normct.common.slices") == first
    assert not (root.parent / ".snakemake").exists()
