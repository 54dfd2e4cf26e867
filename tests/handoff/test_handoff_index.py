"""Worklist, tables, status, checksums."""

import csv
import gzip
import json
import os
import shutil
import subprocess
import time

import pytest
from handoff_case import INDEX, SETTINGS, arguments

from normct.common.errors import NormctError
from normct.common.files import atomic, read_json, write_json
from normct.handoff.index import build
from normct.handoff.patient import main as patient_main
from normct.handoff.provenance import without_places
from normct.handoff.stale import IDLE_S, remove_stale
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


@pytest.mark.parametrize("history", ["kept", "deleted", "edited"])
def test_removed_scan_leaves_no_trace(run, history):
    """As the guide says of erasing a person: what tells of changes says that it went, unless cleared."""
    out, table = run / "handoff", run / "cohort" / "participants.tsv"
    table.write_text("".join(line for line in table.open() if not line.startswith("sub-dark")))
    if history == "deleted":
        (out / ".history.json").unlink()
    elif history == "edited":
        known = read_json(out / ".history.json")
        del known["scans"]["sub-dark"]
        known["changes"] = [r for r in known["changes"] if r["participant_id"] != "sub-dark"]
        write_json(out / ".history.json", known)
    build(run, INDEX, [], None)
    assert not (out / "patients" / "sub-dark").exists()
    said = {p.name for p in out.rglob("*") if p.is_file() and b"sub-dark" in p.read_bytes()}
    assert said == ({"changes.csv", ".history.json"} if history == "kept" else set())
    assert check_sums(out) == []


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


def files(folder):
    """Return every file with its content and time."""
    return {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in sorted(folder.rglob("*")) if p.is_file()}


def test_linked_folder_of_patients_is_refused_before_anything_goes(run, tmp_path):
    patients, outside = run / "handoff" / "patients", tmp_path / "outside"
    patients.rename(outside)
    (outside / "sub-someone").mkdir()
    (outside / "sub-someone" / "keep.txt").write_text("x")
    patients.symlink_to(outside)
    before = files(outside)
    with pytest.raises(NormctError, match=r"patients is a link.*remove it"):
        build(run, INDEX, [], None)
    with pytest.raises(NormctError, match="patients is a link"):
        patient_main(arguments(run, "sub-bad"))
    assert files(outside) == before


def test_linked_page_is_refused_and_not_stamped(run, tmp_path):
    """Its scan is still in the table, so it is not stale; the stamp would be written to its target."""
    page, outside = run / "handoff" / "patients" / "sub-high", tmp_path / "outside"
    page.rename(outside)
    page.symlink_to(outside)
    before = files(outside)
    with pytest.raises(NormctError, match="patients/sub-high"):
        build(run, INDEX | {"seeds": [7]}, [], None)
    assert files(outside) == before


@pytest.mark.parametrize(
    "subject", ["../../x", "<script>", "sub-a/../../x", "sub-", "sub-a b", "sub-" + "a" * 65]
)
def test_id_that_could_lead_out_is_refused(run, tmp_path, subject):
    """What lies outside, a page with a stamp and a record, is neither read nor written."""
    table, outside = run / "cohort" / "participants.tsv", run / "x"
    outside.mkdir()
    (outside / "index.html").write_text("<span data-stamp></span>")
    write_json(outside / "patient.json", read_json(run / "handoff/patients/sub-high/patient.json"))
    table.write_text(table.read_text() + f"{subject}\tn/a\tn/a\ttest\n")
    before = files(run)
    with pytest.raises(NormctError, match=r"sub- and 1 to 64 letters or digits") as error:
        build(run, INDEX, [], None)
    assert repr(subject) in str(error.value) and files(run) == before


def own_mark(folder):
    """Return host and process as `atomic` writes those of this very process."""
    with atomic(folder / "x") as part:
        part.touch()
    (folder / "x").unlink()
    return part.name.split("-")[1:3]


@pytest.mark.parametrize("process", ["dead", "elsewhere, idle", "elsewhere, busy", "alive"])
def test_half_of_a_killed_job_goes_unless_it_may_still_be_written(run, process):
    out = run / "handoff"
    host, number = own_mark(out)
    if process == "dead":
        with subprocess.Popen(["true"]) as child:
            number = str(child.pid)  # waited for when the block is left
    if process.startswith("elsewhere"):
        host = "000000"
    left = out / "patients" / f".part-{host}-{number}-sub-old"
    left.mkdir()
    (left / "patient.json").write_text("{}")
    if process == "elsewhere, idle":
        for path in (left / "patient.json", left):
            os.utime(path, (time.time() - IDLE_S - 9,) * 2)
    (out / ".notes").write_text("somebody's own")
    build(run, INDEX, [], None)
    stays = process in {"elsewhere, busy", "alive"}
    assert left.exists() == stays and (out / ".notes").exists()
    hidden = [".notes", *([f"patients/{left.name}"] if stays else [])]
    assert check_sums(out) == [f"{name}: hidden, no file of the hand-off" for name in hidden]


def test_half_written_files_of_a_killed_worklist_go_links_unfollowed(run, tmp_path):
    with subprocess.Popen(["true"]) as child:
        number = child.pid
    out, outside = run / "handoff", tmp_path / "outside"
    outside.mkdir()
    (outside / "keep.txt").write_text("x")
    host, _ = own_mark(out)
    for place in (out, out / "patients" / "sub-high"):
        (place / f".part-{host}-{number}-index.html").write_text("half")
    (out / f".part-{host}-{number}-linked").symlink_to(outside)
    build(run, INDEX, [], None)
    assert not list(out.rglob(".part-*")) and (outside / "keep.txt").exists()
    assert check_sums(out) == []


@pytest.mark.parametrize("harm", ["flip", "remove", "add", "link", "hide"])
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
        (folder / (".extra.txt" if harm == "hide" else "extra.txt")).write_text("x")
    with pytest.raises(NormctError, match="extra.txt" if harm in {"add", "link", "hide"} else "anomaly_map"):
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
