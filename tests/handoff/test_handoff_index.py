"""Worklist, tables, status, checksums."""

import csv
import gzip
import json
import shutil

import pytest
from handoff_case import INDEX, SETTINGS

from normct.common.errors import NormctError
from normct.common.files import read_json, write_json
from normct.handoff.index import build, remove_stale
from normct.handoff.provenance import without_places
from normct.handoff.sums import check_sums, listed_files
from normct.handoff.tables import _cell
from normct.handoff.verify import main as verify


@pytest.fixture
def run(finished_run, tmp_path):
    return shutil.copytree(finished_run, tmp_path / "run")


def rows(path):
    with path.open(encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle))


def test_scans_are_ranked_by_score_and_all_are_accounted_for(finished_run):
    table = rows(finished_run / "handoff" / "summary.csv")
    assert [r["participant_id"] for r in table] == ["sub-high", "sub-dark", "sub-low", "sub-bad", "sub-cal"]
    assert [r["status"] for r in table] == ["scored"] * 3 + ["set_aside"] * 2
    assert table[3]["reasons"] == "no brain was found"
    found = rows(finished_run / "handoff" / "findings.csv")
    assert {(r["participant_id"], r["kind"], r["side"]) for r in found} == {
        ("sub-high", "hyperdense", "left"),
        ("sub-dark", "hypodense", "right"),
    }
    status = read_json(finished_run / "handoff" / "status.json")
    assert status["failed"] == [] and len(status["set_aside"]) == 2


def test_failed_page_is_listed_and_the_others_stay(run):
    record = {"participant_id": "sub-low", "status": "failed", "reasons": ["broken <b>"], "quality": "n/a"}
    write_json(run / "handoff" / "patients" / "sub-low" / "patient.json", record)
    build(run, INDEX, [], None)
    failed = read_json(run / "handoff" / "status.json")["failed"]
    assert failed == [{"participant_id": "sub-low", "reason": "broken <b>"}]
    text = (run / "handoff" / "index.html").read_text("utf-8")
    assert "broken &lt;b&gt;" in text and "sub-high" in text


def test_removed_scan_leaves_no_trace(run):
    table = run / "cohort" / "participants.tsv"
    table.write_text("".join(line for line in table.open() if not line.startswith("sub-dark")))
    build(run, INDEX, [], None)
    assert not (run / "handoff" / "patients" / "sub-dark").exists()
    for path in (run / "handoff").glob("*"):
        if path.is_file() and path.name not in {"changes.csv", ".history.json"}:  # they say that it went
            assert b"sub-dark" not in path.read_bytes(), path.name
    assert check_sums(run / "handoff") == []


def test_stale_link_is_not_followed(tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "keep.txt").write_text("x")
    patients = tmp_path / "patients"
    patients.mkdir()
    (patients / "sub-old").symlink_to(outside)
    (patients / "notes").mkdir()
    assert remove_stale(patients, []) == ["sub-old"]
    assert (outside / "keep.txt").exists() and (patients / "notes").exists()


@pytest.mark.parametrize("harm", ["flip", "remove", "add", "link"])
def test_verify_detects_every_change(run, harm):
    folder = run / "handoff"
    verify([str(folder)])
    victim = folder / "patients" / "sub-high" / "anomaly_map.nii.gz"
    if harm == "flip":
        content = bytearray(victim.read_bytes())
        content[len(content) // 2] ^= 1
        victim.write_bytes(content)
    elif harm == "remove":
        victim.unlink()
    elif harm == "link":
        (folder / "extra.txt").symlink_to("/etc/hostname")
    else:
        (folder / "extra.txt").write_text("x")
    with pytest.raises(NormctError, match="extra.txt" if harm in {"add", "link"} else "anomaly_map"):
        verify([str(folder)])


def test_folder_with_a_link_is_not_handed_off(run):
    (run / "handoff" / "patients" / "sub-high" / "more").symlink_to(run / "preprocess")
    with pytest.raises(NormctError, match="patients/sub-high/more"):
        build(run, INDEX, [], None)


def contents(path):
    """Return a file's bytes as a reader sees them, gzip undone."""
    return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()


def test_no_place_and_no_label_in_any_file(finished_run):
    folder = finished_run / "handoff"
    for name in listed_files(folder):
        content = contents(folder / name)
        for word in ("/home/someone", str(finished_run), "secretlabel"):
            assert word.encode() not in content, name


def test_provenance_drops_paths_and_keeps_settings():
    config = {"results_dir": "/a/b", "cohort": {"participants": None, "seed": 3}, "handoff": SETTINGS}
    cleaned = without_places(config)
    assert cleaned["results_dir"] == "given" and cleaned["cohort"] == {"participants": None, "seed": 3}
    assert json.dumps(cleaned["handoff"]) == json.dumps(SETTINGS)


def test_cells_are_no_formulas():
    assert _cell("=1+1") == "'=1+1" and _cell(-1.5) == -1.5 and _cell(None) == "n/a"
