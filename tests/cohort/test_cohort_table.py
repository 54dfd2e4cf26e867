"""Every fault of a table, in one list, in words; and what is accepted."""

from __future__ import annotations

import builtins
import os
import re
import sys
from pathlib import Path

import jsonschema
import pytest
import yaml

from normct.cohort import table
from normct.cohort.faults import SCHEMA, columns
from normct.cohort.participants import digest, write_participants
from normct.cohort.table import load_participants, participants_from_rows
from normct.common.errors import ConfigError

MASK = {"group": "abnormal", "pathology": "icb", "lesion_mask": "mask.nii.gz"}

# one changed row (line 6, sub-009), and what the message must say
ROW_FAULTS = {
    "bad ID": (
        {"participant_id": "sub_9"},
        r"line 6, sub_9, participant_id: 'sub_9' is not allowed; give `sub-`",
    ),
    "no ID": ({"participant_id": "n/a"}, r"line 6, no ID, participant_id: empty"),
    "duplicate ID": ({"participant_id": "sub-001"}, r"sub-001, participant_id: the ID of line 2 again"),
    "duplicate ID but for case": (
        {"participant_id": "sub-A"},
        r"line 7, sub-a, participant_id: the ID of line 6 again",
    ),
    "unknown group": (
        {"group": "helthy"},
        r"sub-009, group: unknown group 'helthy'; did you mean 'healthy'\?",
    ),
    "no group": ({"group": "n/a"}, r"sub-009, group: empty; give healthy, abnormal or unlabelled"),
    "unknown pathology": (
        {"group": "abnormal", "pathology": "ischaemia"},
        r"unknown pathology 'ischaemia'; did you mean 'ischemia'\?",
    ),
    "unknown split": ({"split": "training"}, r"unknown split 'training'; did you mean 'train'\?"),
    "no pathology": ({"group": "abnormal"}, r"an abnormal scan without pathology; give one of aneurysm"),
    "pathology on healthy": ({"pathology": "icb"}, r"a pathology on a scan that is healthy"),
    "mask on healthy": (
        {"lesion_mask": "mask.nii.gz"},
        r"lesion_mask: a lesion mask for a scan that is healthy",
    ),
    "mask without label": (
        {"group": "unlabelled", "lesion_mask": "mask.nii.gz"},
        r"a lesion mask for a scan that is unlabelled",
    ),
    "abnormal in train": (
        {**MASK, "split": "train"},
        r"split: an abnormal scan in train; training is on healthy",
    ),
    "unlabelled in train": ({"group": "unlabelled", "split": "train"}, r"an unlabelled scan in a split"),
    "two splits": (
        {"split": "test", "patient": "p1"},
        r"line 7, sub-a, split: patient p1 is in val here and in test on line 6",
    ),
    "abnormal patient in val": (
        {**MASK, "patient": "p1"},
        r"patient p1 is in val \(abnormal scans are test\) here and in test on line 6",
    ),
    "missing file": (
        {"ct": "gone.nii.gz", "skip": 1},
        r"sub-009, ct: no such file: gone.nii.gz; paths start at",
    ),
    "missing mask": ({**MASK, "lesion_mask": "gone.nii"}, r"sub-009, lesion_mask: no such file: gone.nii"),
    "empty file": ({"ct": "empty.nii.gz"}, r"ct: an empty file \(0 bytes\): empty.nii.gz; copy it again"),
    "empty folder": ({"ct": "dicom"}, r"ct: a DICOM folder without files: dicom"),
    "mask is a folder": (
        {**MASK, "lesion_mask": "dicom"},
        r"lesion_mask: a folder: dicom; give a NIfTI file",
    ),
    "same path": ({"ct": "./ct 1é.nii.gz"}, r"ct: the same file as ct of sub-001 \(line 2\)"),
    "same inode": ({"ct": "link.nii.gz"}, r"ct: the same file as ct of sub-001 \(line 2\)"),
    "bad age": ({"age": "old"}, r"age: 'old' is not allowed; give years"),
    "bad sex": ({"sex": "X1"}, r"sex: 'X1' is not allowed; give M, F or O"),
    "patient's name": ({"patient": "Doe, John"}, r"patient: 'Doe, John' is not allowed; give a pseudonym"),
    "unknown verdict": ({"quality": "bad", "quality_reason": "moved"}, r"unknown quality 'bad'"),
    "verdict without reason": ({"quality": "fail"}, r"quality_reason: a quality verdict without its reason"),
    "reason without verdict": ({"quality_reason": "moved"}, r"quality: a quality reason without a verdict"),
}


@pytest.mark.parametrize("name", ROW_FAULTS)
def test_row_fault_names_line_subject_column_and_remedy(cohort, settings, name):
    changed, message = ROW_FAULTS[name]
    (cohort.folder / "empty.nii.gz").touch()
    (cohort.folder / "mask.nii.gz").write_bytes(b"x")
    (cohort.folder / "dicom").mkdir()
    os.link(cohort.folder / "ct 1é.nii.gz", cohort.folder / "link.nii.gz")
    cohort.add(9, **changed)
    cohort.add(10, participant_id="sub-a", patient="p1", split="val")
    with pytest.raises(ConfigError) as caught:
        load_participants(cohort.write(), settings)
    assert re.search(message, str(caught.value)), str(caught.value)
    assert len(caught.value.faults) == 1


def test_all_faults_come_in_one_list(cohort, settings):
    cohort.add(5, group="helthy", age="old")
    cohort.add(1, ct="gone.nii", skip=1)
    with pytest.raises(ConfigError) as caught:
        load_participants(cohort.write(), settings)
    assert len(caught.value.faults) == 4
    for part in ("helthy", "'old'", "gone.nii", "the ID of line 2"):
        assert part in str(caught.value)


HEADERS = {
    "misspelt": (
        "participant_id\tct\tgrup\nsub-1\ta\thealthy\n",
        r"unknown column 'grup'; did you mean 'group'\?",
    ),
    "capitals": (
        "Participant_ID\tct\tgroup\nsub-1\ta\thealthy\n",
        r"unknown column 'Participant_ID'; did you mean",
    ),
    "missing": ("participant_id\tct\nsub-1\ta\n", r"column 'group' is missing; add it: healthy, abnormal"),
    "twice": ("participant_id\tct\tct\tgroup\nsub-1\ta\ta\thealthy\n", r"column 'ct' is there twice"),
    "commas": (
        "participant_id,ct,group\nsub-1,a,healthy\n",
        r"not tab-separated \(commas or semicolons found\)",
    ),
    "semicolons": ("participant_id;ct;group\n", r"not tab-separated"),
    "empty": ("", r"the table is empty"),
    "header only": ("participant_id\tct\tgroup\n", r"the table has no rows"),
    "ragged": ("participant_id\tct\tgroup\nsub-1\ta\n", r"line 2, sub-1: 2 columns, the header has 3"),
}


@pytest.mark.parametrize("name", HEADERS)
def test_header_faults(cohort, settings, name):
    text, message = HEADERS[name]
    with pytest.raises(ConfigError, match=message):
        load_participants(cohort.write(text=text), settings)


def test_missing_table_and_wrong_encoding(tmp_path, settings):
    with pytest.raises(ConfigError, match="no such file"):
        load_participants(tmp_path / "none.tsv", settings)
    (tmp_path / "latin.tsv").write_bytes("participant_id\tct\tgroup\nsub-1\té\thealthy".encode("latin-1"))
    with pytest.raises(ConfigError, match="not UTF-8"):
        load_participants(tmp_path / "latin.tsv", settings)


def test_excel_export_extra_columns_and_values(cohort, settings):
    cohort.rows[0] |= {
        "age": "63.5",
        "sex": "female",
        "comment": "BIDS allows it",
        "quality": "warn",
        "quality_reason": "moved",
    }
    path = cohort.write()
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n") + b"\t\t\t\r\n")
    people = load_participants(path, settings)
    assert [p.participant_id for p in people] == ["sub-001", "sub-002", "sub-003", "sub-004"]
    first = people[0]
    assert (first.age, first.sex, first.quality, first.quality_reason) == (63.5, "F", "warn", "moved")
    assert first.ct == str(cohort.folder / "ct 1é.nii.gz")
    assert people[1].age is None
    assert people[1].patient == "sub-002"
    assert people[3].role == people[3].split == "test"
    assert {p.role for p in people[:3]} == {"train", "stop", "calibrate"}


def test_pathologies_of_the_users_own(cohort, settings):
    cohort.add(5, group="abnormal", pathology="abscess")
    with pytest.raises(ConfigError, match=r"cohort\.pathologies"):
        load_participants(cohort.write(), settings)
    assert (
        load_participants(cohort.write(), settings | {"pathologies": ["abscess"]})[-1].pathology == "abscess"
    )


def test_set_aside_leaves_single_bad_files_to_the_import(cohort, settings):
    cohort.add(5, ct="gone.nii.gz", skip=1)
    (cohort.folder / "empty.nii.gz").touch()
    cohort.add(6, ct="empty.nii.gz")
    assert len(load_participants(cohort.write(), settings | {"on_bad_file": "set_aside"})) == 6


def test_new_scans_have_no_labels(cohort, settings):
    cohort.add(5, ct="gone.nii.gz", skip=1, group="abnormal", split="train", pathology="nonsense")
    people = load_participants(cohort.write(), settings, new=True)
    assert {(p.group, p.role, p.split, p.pathology, p.lesion_mask) for p in people} == {
        ("unlabelled", "unlabelled", None, None, None)
    }
    only = cohort.write(text="participant_id\tct\nsub-1\tct 1é.nii.gz\n")
    assert load_participants(only, settings, new=True)[0].participant_id == "sub-1"


def test_a_cohort_without_healthy_patients_cannot_train(cohort, settings):
    cohort.rows = cohort.rows[2:]
    with pytest.raises(ConfigError, match="too few healthy patients"):
        load_participants(cohort.write(), settings)


def test_bids_directory(tmp_path, cohort, settings):
    for n in (1, 2, 3):
        folder = tmp_path / f"sub-{n:02d}" / "ct"
        folder.mkdir(parents=True)
        (folder / f"sub-{n:02d}_ct.nii.gz").write_bytes(bytes(n))
        (folder / f"sub-{n:02d}_ct.json").write_text("{}")
    people = load_participants(tmp_path, settings, new=True)
    assert [p.participant_id for p in people] == ["sub-01", "sub-02", "sub-03"]
    assert people[2].ct == str(tmp_path / "sub-03/ct/sub-03_ct.nii.gz")
    table_text = "participant_id\tgroup\n" + "".join(f"sub-{n:02d}\thealthy\n" for n in (1, 2, 3))
    (tmp_path / "participants.tsv").write_text(table_text)
    assert {p.group for p in load_participants(tmp_path, settings)} == {"healthy"}
    (tmp_path / "sub-01/ct/sub-01_run-2_ct.nii.gz").write_bytes(b"second")
    (tmp_path / "sub-02/ct/sub-02_ct.nii.gz").unlink()
    with pytest.raises(
        ConfigError, match=r"(?s)sub-01, ct: 2 files match.*sub-02, ct: no such file: sub-02/ct"
    ):
        load_participants(tmp_path, settings)


def test_ten_thousand_rows_open_the_table_only(tmp_path, settings, monkeypatch):
    (tmp_path / "ct").mkdir()
    lines = ["participant_id\tct\tgroup"]
    for n in range(10_000):
        if n < 500:
            (tmp_path / "ct" / f"{n}.nii.gz").write_bytes(b"x")
        lines.append(f"sub-{n:05d}\tct/{n}.nii.gz\thealthy")
    path = tmp_path / "participants.tsv"
    path.write_text("\n".join(lines))
    columns()  # the schema, read once a process
    opened = []
    plain = Path.open

    def counted(self, *args, **kwargs):
        opened.append(self.name)
        return plain(self, *args, **kwargs)

    monkeypatch.setattr(Path, "open", counted)
    monkeypatch.setattr(builtins, "open", lambda *a, **k: pytest.fail("a scan was opened"))
    assert len(load_participants(path, settings | {"on_bad_file": "set_aside"})) == 10_000
    assert opened == ["participants.tsv"]


def test_reading_the_table_imports_nothing_heavy():
    import subprocess

    code = "import sys, normct.cohort.check, normct.cohort.dicom_folder, normct.cohort.participants;"
    code += "print([m for m in ('numpy', 'pandas', 'nibabel', 'pydicom') if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"


def test_rows_of_files_that_do_not_exist_yet(settings):
    rows = [
        {"participant_id": f"sub-{n}", "ct": f"./results/{n}.nii.gz", "group": "healthy"} for n in range(9)
    ]
    people = participants_from_rows(rows, settings)
    assert people[3].ct == "./results/3.nii.gz"
    with pytest.raises(ConfigError, match="row 2, sub-0, participant_id"):
        participants_from_rows([rows[0], rows[0]], settings)


def test_schema_agrees_with_what_is_accepted(cohort, settings):
    schema = yaml.safe_load(SCHEMA.read_text("utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    for row in cohort.rows:
        assert not list(validator.iter_errors(row))
    assert list(validator.iter_errors(cohort.rows[0] | {"group": "helthy"}))
    fields = set(table.Participant.__dataclass_fields__)
    assert set(columns()) | {"role"} == fields


def test_resolved_table_has_no_paths(cohort, settings, tmp_path):
    cohort.rows[0] |= {"age": "63", "sex": "M"}
    (tmp_path / "mask.nii.gz").write_bytes(b"x")
    cohort.rows[3]["lesion_mask"] = "mask.nii.gz"
    people = load_participants(cohort.write(), settings)
    write_participants(people, tmp_path / "out" / "participants.tsv")
    text = (tmp_path / "out" / "participants.tsv").read_text("utf-8")
    lines = [line.split("\t") for line in text.splitlines()]
    expected = "participant_id group pathology split role patient age sex scanner subtype has_lesion_mask"
    assert lines[0] == expected.split()
    assert lines[1][6:8] == ["63", "M"]
    assert lines[4][:5] == ["sub-004", "abnormal", "icb", "test", "test"]
    assert [line[-1] for line in lines[1:]] == ["false", "false", "false", "true"]
    assert "nii" not in text
    before = digest(people)
    cohort.rows[0]["age"] = "64"
    assert digest(load_participants(cohort.write(), settings)) != before
