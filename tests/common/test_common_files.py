"""Outputs are whole or absent."""

from __future__ import annotations

import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from normct.common.files import atomic, read_json, sha256, write_json


def test_a_failure_leaves_the_old_file_and_no_remains(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("old")
    with pytest.raises(RuntimeError), atomic(path) as part:
        part.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_directory_is_replaced_whole(tmp_path):
    folder = tmp_path / "bundle"
    (folder / "stale").mkdir(parents=True)
    with atomic(folder) as part:
        part.mkdir()
        (part / "new").write_text("x")
    assert [p.name for p in folder.iterdir()] == ["new"]


def test_suffixes_are_kept_for_writers_that_look_at_them(tmp_path):
    with atomic(tmp_path / "ct.nii.gz") as part:
        assert part.name.endswith(".nii.gz")
        part.write_bytes(b"x")
    assert (
        sha256(tmp_path / "ct.nii.gz") == "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"
    )


def test_json_refuses_what_other_readers_cannot_read(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "x.json", {"mi": float("nan")})
    assert not list(tmp_path.iterdir())
    write_json(tmp_path / "x.json", {"µ": 1})
    assert read_json(tmp_path / "x.json") == {"µ": 1}


TWIN = """
import sys
from normct.common.files import atomic
with atomic(sys.argv[1]) as part:
    part.write_text("twin")
    print(part.name, flush=True)
    sys.stdin.readline()
"""


def test_two_writers_of_one_output_write_to_names_of_their_own(tmp_path):
    path = tmp_path / "model.bin"
    with atomic(path) as part:
        part.write_text("ours")
        twin = subprocess.Popen(
            [sys.executable, "-c", TWIN, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert twin.stdout.readline().strip() != part.name  # both write now
        assert part.read_text() == "ours"
    assert path.read_text() == "ours"
    twin.communicate("\n", timeout=60)
    assert twin.returncode == 0
    assert path.read_text() == "twin"  # whole, whoever comes last
    assert list(tmp_path.iterdir()) == [path]


def test_the_same_process_number_on_another_host_is_another_writer(tmp_path, monkeypatch):
    with atomic(tmp_path / "a") as here:
        monkeypatch.setattr(os, "uname", lambda: SimpleNamespace(nodename="another"))
        with atomic(tmp_path / "a") as there:
            assert here.name != there.name
            there.touch()
        here.touch()
