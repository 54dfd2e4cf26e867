"""ID and date, what changed, and the outputs for machines and the file."""

import csv
import json
import re
import shutil
import zipfile
from pathlib import Path

import pytest
from handoff_case import INDEX
from jsonschema import Draft202012Validator

from normct.common.files import read_json, write_json
from normct.handoff import history
from normct.handoff.index import build
from normct.handoff.scores import read_score
from normct.handoff.sums import check_sums

SCHEMA = Path(__file__).resolve().parents[2] / "docs" / "handoff_summary.schema.json"


@pytest.fixture
def run(finished_run, tmp_path, monkeypatch):
    # somebody may commit between two builds
    commit = read_json(finished_run / "handoff" / "provenance.json")["commit"]
    monkeypatch.setattr("normct.handoff.index.git_commit", lambda: commit)
    return shutil.copytree(finished_run, tmp_path / "run")


def changes(run):
    with (run / "handoff" / "changes.csv").open(encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle))


def test_every_page_and_table_carries_the_id(run):
    out = run / "handoff"
    made = read_json(out / "provenance.json")
    mark, date = made["handoff_id"], made["date"]
    for name in ("index.html", "README.txt", "methods.txt", "summary.json", "status.json"):
        text = (out / name).read_text("utf-8")
        assert mark in text and date in text, name
    for name in ("summary.csv", "findings.csv"):
        assert mark in (out / name).read_text("utf-8"), name
    pages = list((out / "patients").glob("*/index.html"))
    assert len(pages) == 4
    for page in pages:
        assert f"<span data-stamp>{mark}, {date}</span>" in page.read_text("utf-8")


def test_same_results_keep_id_date_and_bytes(run, monkeypatch):
    before = (run / "handoff" / "SHA256SUMS").read_bytes()
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
    build(run, INDEX, [], None)
    assert (run / "handoff" / "SHA256SUMS").read_bytes() == before
    assert changes(run) == []


def test_changed_score_is_listed_with_before_and_after(run, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
    before = read_json(run / "handoff" / "provenance.json")["handoff_id"]
    path = run / "handoff" / "patients" / "sub-low" / "patient.json"
    write_json(path, read_json(path) | {"score": 2.5, "n_below": 4})
    table = run / "cohort" / "participants.tsv"
    table.write_text("".join(line for line in table.open() if not line.startswith("sub-dark")))
    build(run, INDEX, [], None)
    after = read_json(run / "handoff" / "provenance.json")
    rows = {(r["participant_id"], r["what"]): (r["before"], r["after"]) for r in changes(run)}
    assert rows["sub-low", "score"] == ("0.95", "2.5")
    assert rows["sub-low", "rank"] == ("3", "1")
    assert rows["sub-dark", "scan"] == ("handed off", "absent")
    assert {r["previous_id"] for r in changes(run)} == {before}
    assert {r["handoff_id"] for r in changes(run)} == {after["handoff_id"]} != {before}
    assert after["date"] == "1970-01-02 00:00 UTC"
    stamped = (run / "handoff" / "patients" / "sub-high" / "index.html").read_text("utf-8")
    assert "1970-01-02" in stamped and before not in stamped
    assert check_sums(run / "handoff") == []


def test_differences_follow_what_is_handed_off():
    old = {"sub-a": dict.fromkeys(history.FOLLOWED), "sub-b": dict.fromkeys(history.FOLLOWED)}
    new = {"sub-a": old["sub-a"] | {"status": "failed"}, "sub-c": old["sub-b"]}
    assert [(r["participant_id"], r["what"]) for r in history.differences(old, new)] == [
        ("sub-a", "status"),
        ("sub-b", "scan"),
        ("sub-c", "scan"),
    ]


def test_summary_follows_its_schema(finished_run):
    schema = read_json(SCHEMA)
    Draft202012Validator.check_schema(schema)
    summary = read_json(finished_run / "handoff" / "summary.json")
    assert [e.message for e in Draft202012Validator(schema).iter_errors(summary)] == []
    assert [s["status"] for s in summary["scans"]] == ["scored"] * 3 + ["set_aside"] * 2
    broken = json.loads(json.dumps(summary))
    del broken["scans"][0]["score"]
    assert not Draft202012Validator(schema).is_valid(broken)


def test_report_has_a_page_a_scan_and_one_for_those_without(finished_run):
    content = (finished_run / "handoff" / "report.pdf").read_bytes()
    assert content.startswith(b"%PDF") and len(re.findall(rb"/Type /Page\b", content)) == 4
    assert content.count(b"/Subtype /Image") == 3


def test_methods_name_software_numbers_and_sources(finished_run):
    text = (finished_run / "handoff" / "methods.txt").read_text("utf-8")
    assert "4 healthy" in " ".join(text.split()) and "arXiv 2011.05428" in text and "antspyx" in text


def test_cross_fitted_scans_are_not_said_to_have_had_no_part_in_training(run):
    out, calibration = run / "handoff", read_json(run / "score" / "calibration.json")
    write_json(run / "score" / "calibration.json", calibration | {"cross_fit": {"folds": 3, "scans": 2}})
    words = ("took no part in training", "cross-fitted in 3 folds")

    def said():
        texts = [" ".join((out / n).read_text("utf-8").split()) for n in ("methods.txt", "README.txt")]
        return [[word in text for word in words] for text in texts]

    assert said() == [[True, False], [False, False]]
    scored = run / "score" / "subjects" / "sub-high.json"
    where = (scored, run / "score" / "calibration.json", INDEX["method"], "thesis", 0.1)
    assert read_score(*where).folds == 3
    for path in (out / "patients").glob("*/patient.json"):
        record = read_json(path)
        write_json(path, record | ({"cross_fit": 3} if record["status"] == "ok" else {}))
    build(run, INDEX, [], None)
    assert said() == [[False, True], [False, True]]
    Draft202012Validator(read_json(SCHEMA)).validate(read_json(out / "summary.json"))


def test_provenance_names_commit_and_inputs(finished_run):
    made = read_json(finished_run / "handoff" / "provenance.json")
    assert made["commit"] is None or re.fullmatch(r"[0-9a-f]{40}(-dirty)?", made["commit"])
    assert set(made["inputs_sha256"]) == {"sub-low", "sub-high", "sub-dark"}


def test_zip_holds_what_was_summed_and_goes_when_switched_off(run):
    config = INDEX["config"] | {"handoff": {"zip": True}}
    build(run, INDEX | {"config": config}, [], None)
    out = run / "handoff"
    first = (out / "handoff.zip").read_bytes()
    with zipfile.ZipFile(out / "handoff.zip") as packed:
        assert packed.testzip() is None
        summed = [line.split("  ")[1] for line in (out / "SHA256SUMS").read_text().splitlines()]
        assert sorted(packed.namelist()) == sorted(f"handoff/{n}" for n in [*summed, "SHA256SUMS"])
    assert check_sums(out) == []
    build(run, INDEX | {"config": config}, [], None)
    assert (out / "handoff.zip").read_bytes() == first
    build(run, INDEX, [], None)
    assert not (out / "handoff.zip").exists()
