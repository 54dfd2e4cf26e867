"""ID and date, what changed, and the outputs for machines and the file."""

import base64
import csv
import json
import re
import shutil
import subprocess
import zipfile
import zlib
from importlib import metadata
from pathlib import Path

import pytest
from handoff_case import INDEX
from jsonschema import Draft202012Validator

from normct.common.files import read_json, write_json
from normct.common.provenance import versions
from normct.handoff import history
from normct.handoff.index import build
from normct.handoff.report_pdf import LIMITS
from normct.handoff.scores import read_score
from normct.handoff.sums import check_sums, listed_files, read_sums
from normct.handoff.tables import write_tables

SCHEMA = Path(__file__).resolve().parents[2] / "docs" / "handoff_summary.schema.json"


@pytest.fixture
def run(finished_run, tmp_path, monkeypatch):
    # somebody may commit between two builds
    commit = read_json(finished_run / "handoff" / "provenance.json")["commit"]
    monkeypatch.setattr("normct.handoff.index.git_commit", lambda: commit)
    return shutil.copytree(finished_run, tmp_path / "run")


def page_streams(path):
    """Return what is drawn on each page of a report, decompressed."""
    found = re.findall(
        rb"/ASCII85Decode /FlateDecode.*?stream\r?\n(.*?)endstream", path.read_bytes(), re.DOTALL
    )
    contents = (zlib.decompress(base64.a85decode(b"<~" + c.strip(), adobe=True)) for c in found)
    return [c.decode("latin-1") for c in contents if b" Tj" in c]


def drawn_lines(content):
    """Return height and words of each line; ASCII keeps its codes in an embedded font."""
    lines = re.findall(r"1 0 0 1 [-0-9.]+ ([-0-9.]+) Tm .*?\((.*?)(?<!\\)\) Tj", content)
    return [(float(y), re.sub(r"\\(.)", r"\1", words)) for y, words in lines]


def pages_text(path):
    """Return each page's text, line breaks undone."""
    return [" ".join(words.strip() for _, words in drawn_lines(c)) for c in page_streams(path)]


def changes(run):
    with (run / "handoff" / "changes.csv").open(encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle))


# what has no place for words: tied to the ID by its line in SHA256SUMS
WORDLESS = {".gz", ".jpg", ".dcm"}


def marks(path):
    """Return ID and date as a reader finds them in the file."""
    if path.suffix == ".json":
        content = read_json(path)
        return {(content["handoff_id"], content["date"])}
    if path.suffix == ".csv":
        with path.open(encoding="utf-8", newline="") as handle:
            return {(row["handoff_id"], row["date"]) for row in csv.DictReader(handle)}
    texts = pages_text(path) if path.suffix == ".pdf" else [path.read_text("utf-8")]
    return {
        found for text in texts for found in re.findall(r"([0-9a-f]{12}), (\d{4}-[-0-9]+ [0-9:]+ UTC)", text)
    }


def test_every_page_and_output_carries_id_and_date(run, monkeypatch):
    out = run / "handoff"
    first = read_json(out / "provenance.json")["handoff_id"]
    for again in (False, True):
        if again:  # nothing differs but a setting: all is stamped anew
            monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
            build(run, INDEX | {"seeds": [0, 1, 2]}, [], None)
        made = read_json(out / "provenance.json")
        mark = (made["handoff_id"], made["date"])
        assert (mark[0] != first) == again
        named = {name for name in listed_files(out) if Path(name).suffix not in WORDLESS} | {"SHA256SUMS"}
        assert {"report.pdf", "changes.csv", "summary.csv", "findings.csv", "status.json"} < named
        assert {
            f"patients/sub-{n}/{f}" for n in ("low", "bad") for f in ("patient.json", "index.html")
        } < named
        for name in named:
            found = marks(out / name)
            assert found == {mark} or (name == "changes.csv" and mark in found), name
    for page in (out / "patients").glob("*/index.html"):
        assert f"<span data-stamp>{mark[0]}, {mark[1]}</span>" in page.read_text("utf-8")


def test_empty_tables_still_name_the_columns(tmp_path):
    write_tables(tmp_path, {"scored": [], "aside": [], "failed": []}, "0123456789ab", "1970-01-02 00:00 UTC")
    for name in ("summary.csv", "findings.csv"):
        assert (tmp_path / name).read_text("utf-8").endswith(",handoff_id,date\n")


def test_sha256sum_reads_the_sums(run):
    program = shutil.which("sha256sum")
    if program is None:
        pytest.skip("sha256sum is not here")
    command = [program, "-c", "--strict", "SHA256SUMS"]
    done = subprocess.run(command, cwd=run / "handoff", capture_output=True, text=True, check=False)
    assert done.returncode == 0 and done.stderr == ""
    assert len(done.stdout.splitlines()) == len(listed_files(run / "handoff"))


def test_same_results_keep_id_date_and_bytes(run, monkeypatch):
    before = (run / "handoff" / "SHA256SUMS").read_bytes()
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
    build(run, INDEX, [], None)
    assert (run / "handoff" / "SHA256SUMS").read_bytes() == before
    assert [(r["what"], r["previous_id"]) for r in changes(run)] == [("hand-off", "n/a")]


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
    first, *later = changes(run)
    assert first["handoff_id"] == before and later[0]["what"] == "hand-off"
    assert {r["previous_id"] for r in later} == {before}
    assert {r["handoff_id"] for r in later} == {after["handoff_id"]} != {before}
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
    assert [" ".join(LIMITS.split()) in text for text in pages_text(finished_run / "handoff" / "report.pdf")] == [
        True, True, True, False,
    ]  # fmt: skip


def test_report_goes_on_to_a_next_page_and_keeps_the_limits(run):
    """Nine cautions and ten long findings; a list of failures longer than a page."""
    out, long = (
        run / "handoff",
        "it lies outside the range of the scans that the model learnt from, by far, " * 2,
    )
    path = out / "patients" / "sub-high" / "patient.json"
    record = read_json(path)
    finding = record["findings"][0]
    record["out_of_scope"] = [f"caution {n}: {long}" for n in range(9)]
    record["findings"] = [finding | {"number": n, "words": f"finding {n}: {long}"} for n in range(1, 11)]
    write_json(path, record)
    failed = {"participant_id": "sub-low", "status": "failed", "quality": "n/a"}
    failed["reasons"] = [f"reason {n}: {long}" for n in range(60)]
    write_json(out / "patients" / "sub-low" / "patient.json", failed)
    build(run, INDEX, [], None)
    made = read_json(out / "provenance.json")
    pages = pages_text(out / "report.pdf")
    for page in pages:
        assert page.startswith("Research use only") and f"{made['handoff_id']}, {made['date']}" in page
    scan = [p for p in pages if "sub-high" in p]
    assert "sub-high, continued" in scan[1] and " ".join(LIMITS.split()) in scan[-1]
    for name, last in (("caution", range(9)), ("finding", range(1, 11))):
        assert all(any(f"{name} {n}: it lies" in p for p in scan) for n in last)
    aside = [p for p in pages if "Scans without a result" in p]
    assert len(aside) > 1 and all(any(f"reason {n}: it" in p for p in aside) for n in range(60))
    bottom = 15 / 25.4 * 72
    for y in (y for content in page_streams(out / "report.pdf") for y, _ in drawn_lines(content)):
        assert y >= bottom - 0.01


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
    where = (scored, run / "score" / "calibration.json", INDEX["method"], "thesis", "thesis", 0.1)
    assert read_score(*where).folds == 3
    for path in (out / "patients").glob("*/patient.json"):
        record = read_json(path)
        write_json(path, record | ({"cross_fit": 3} if record["status"] == "ok" else {}))
    build(run, INDEX, [], None)
    assert said() == [[False, True], [False, True]]
    Draft202012Validator(read_json(SCHEMA)).validate(read_json(out / "summary.json"))


def test_provenance_names_commit_and_every_input(run):
    for subject in ("sub-bad", "sub-cal", "sub-low"):
        path = run / "cohort" / subject / "import.json"
        write_json(path, read_json(path) | {"sha256": f"sum of {subject}"})
    failed = {"participant_id": "sub-low", "status": "failed", "reasons": ["broken"], "quality": "n/a"}
    write_json(run / "handoff" / "patients" / "sub-low" / "patient.json", failed)
    (run / "cohort" / "sub-cal" / "import.json").unlink()
    build(run, INDEX, [], None)
    made = read_json(run / "handoff" / "provenance.json")
    assert made["commit"] is None or re.fullmatch(r"[0-9a-f]{40}(-dirty)?", made["commit"])
    assert made["inputs_sha256"] == {
        "sub-high": None, "sub-dark": None, "sub-low": "sum of sub-low", "sub-bad": "sum of sub-bad", "sub-cal": None,
    }  # fmt: skip


def test_provenance_names_the_software_that_reads_and_writes(finished_run):
    made = read_json(finished_run / "handoff" / "provenance.json")["versions"]
    for name in ("dcm2niix", "pydicom", "highdicom", "pillow"):
        assert re.match(r"[0-9]+\.[0-9]+", made[name]), name


def test_versions_of_programs_that_are_no_python_packages(tmp_path, monkeypatch):
    monkeypatch.delenv("FSLDIR", raising=False)
    programs = {"dcm2niix": "echo Chris; echo v1.0.20200101; exit 3", "bet": "exit 0"}
    for name, text in programs.items():
        path = tmp_path / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    known = metadata.version

    def version(name):
        if name == "dcm2niix":
            raise metadata.PackageNotFoundError(name)
        return known(name)

    monkeypatch.setattr(metadata, "version", version)
    found = versions()
    assert (found["dcm2niix"], found["fsl"]) == ("1.0.20200101", "unknown")
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "fslversion").write_text("6.0.7.9\n")
    assert versions()["fsl"] == "6.0.7.9"
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "fsl" not in versions() and versions()["dcm2niix"] == "not installed"


def test_zip_holds_what_was_summed_and_goes_when_switched_off(run):
    config = INDEX["config"] | {"handoff": {"zip": True}}
    build(run, INDEX | {"config": config}, [], None)
    out = run / "handoff"
    first = (out / "handoff.zip").read_bytes()
    with zipfile.ZipFile(out / "handoff.zip") as packed:
        assert packed.testzip() is None
        summed = read_sums(out / "SHA256SUMS")
        assert sorted(packed.namelist()) == sorted(f"handoff/{n}" for n in [*summed, "SHA256SUMS"])
    assert check_sums(out) == []
    build(run, INDEX | {"config": config}, [], None)
    assert (out / "handoff.zip").read_bytes() == first
    build(run, INDEX, [], None)
    assert not (out / "handoff.zip").exists()
