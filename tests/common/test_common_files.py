"""Outputs are whole or absent."""

from __future__ import annotations

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
