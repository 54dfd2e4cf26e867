"""A BIDS directory instead of a table: subjects, sessions, and a table beside them."""

from __future__ import annotations

import pytest

from normct.cohort.table import load_participants
from normct.common.errors import ConfigError


def bids(folder, *names: str):
    """Make files of different bytes."""
    for n, name in enumerate(names, start=1):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(n))
    return folder


def test_a_session_is_a_scan_of_the_subject(tmp_path, settings):
    bids(
        tmp_path,
        "sub-01/ses-pre/ct/sub-01_ses-pre_ct.nii.gz",
        "sub-01/ses-02/ct/sub-01_ses-02_ct.nii.gz",
        "sub-01/ses-mri/anat/sub-01_ses-mri_T1w.nii.gz",
        "sub-02/ct/sub-02_ct.nii",
        "derivatives/sub-03/ct/sub-03_ct.nii.gz",
    )
    people = load_participants(tmp_path, settings, new=True)
    found = [(p.participant_id, p.patient, p.ct) for p in people]
    assert found == [
        ("sub-01ses02", "sub-01", str(tmp_path / "sub-01/ses-02/ct/sub-01_ses-02_ct.nii.gz")),
        ("sub-01sespre", "sub-01", str(tmp_path / "sub-01/ses-pre/ct/sub-01_ses-pre_ct.nii.gz")),
        ("sub-02", "sub-02", str(tmp_path / "sub-02/ct/sub-02_ct.nii")),
    ]


def test_groups_of_subjects_and_of_single_sessions(tmp_path, settings):
    names = [f"sub-0{n}/ses-{s}/ct/x_ct.nii.gz" for n in (1, 2, 3) for s in ("a", "b")]
    bids(tmp_path, *names, "mask.nii.gz")
    table = [
        ("sub-01", "healthy", "n/a", "n/a"),
        ("sub-02", "healthy", "n/a", "n/a"),
        ("sub-03", "unlabelled", "n/a", "n/a"),
        ("sub-03sesb", "abnormal", "icb", "mask.nii.gz"),
    ]
    lines = ["participant_id\tgroup\tpathology\tlesion_mask", *("\t".join(row) for row in table)]
    (tmp_path / "participants.tsv").write_text("\n".join(lines) + "\n")
    people = load_participants(tmp_path, settings)
    found = {p.participant_id: (p.group, p.patient, p.lesion_mask is not None) for p in people}
    assert found == {
        "sub-01sesa": ("healthy", "sub-01", False),
        "sub-01sesb": ("healthy", "sub-01", False),
        "sub-02sesa": ("healthy", "sub-02", False),
        "sub-02sesb": ("healthy", "sub-02", False),
        "sub-03sesa": ("unlabelled", "sub-03", False),
        "sub-03sesb": ("abnormal", "sub-03", True),
    }
    splits = {p.patient: p.split for p in people if p.group == "healthy"}
    assert all(p.split == splits[p.patient] for p in people if p.group == "healthy")


def test_faults_of_sessions_say_which(tmp_path, settings):
    bids(
        tmp_path,
        "sub-01/ses-a/ct/run-1_ct.nii.gz",
        "sub-01/ses-a/ct/run-2_ct.nii.gz",
        "sub-02/ses-a/ct/x_ct.nii.gz",
        "sub-02/ses-b/ct/x_ct.nii.gz",
        "mask.nii.gz",
    )
    (tmp_path / "sub-03/ses-a/ct").mkdir(parents=True)
    (tmp_path / "participants.tsv").write_text(
        "participant_id\tgroup\tpathology\tlesion_mask\nsub-01\thealthy\tn/a\tn/a\n"
        "sub-02\tabnormal\ticb\tmask.nii.gz\nsub-03\thealthy\tn/a\tn/a\nsub-04\thealthy\tn/a\tn/a\n"
    )
    with pytest.raises(ConfigError) as caught:
        load_participants(tmp_path, settings)
    assert caught.value.faults == [
        "line 2, sub-01sesa, ct: 2 files match sub-01/ses-a/ct/*_ct.nii.gz; "
        "name one in a column `ct` of participants.tsv",
        "line 3, sub-02, lesion_mask: one mask for 2 scans; give sub-02sesa, sub-02sesb rows of their own",
        "line 4, sub-03sesa, ct: no such file: sub-03/ses-a/ct/sub-03sesa_ct.nii.gz; "
        "paths start at the table's folder",
        "line 5, sub-04, ct: no such file: sub-04/ct/sub-04_ct.nii.gz; paths start at the table's folder",
    ]


def test_a_folder_that_is_no_bids_directory(tmp_path, settings):
    with pytest.raises(ConfigError, match=r"without sub-\*/ct/\*_ct.nii.gz or sub-\*/ses-\*/ct"):
        load_participants(tmp_path, settings, new=True)
