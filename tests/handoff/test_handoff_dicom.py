"""DICOM in, DICOM out: on the source's own planes, valid, and without a word about the patient."""

import shutil
import subprocess

import numpy as np
import pydicom
import pytest
from dicom_case import BALL, DELTA, PLANTED, frames, inside_ball, readable, write_series
from handoff_case import INDEX, arguments, write_shared, write_subject

from normct.common.files import read_json
from normct.handoff.index import build
from normct.handoff.patient import main
from normct.handoff.sums import listed_files


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    """Root of a run with one DICOM scan, and the planes it was sent on."""
    root = tmp_path_factory.mktemp("dicom")
    source = tmp_path_factory.mktemp("source") / "Mustermann Erika"
    planes = write_series(source)
    write_shared(root, {"sub-dcm": "test"})
    write_subject(root, "sub-dcm", dicom=source, ball=BALL, delta=DELTA)
    main(arguments(root, "sub-dcm"))
    build(root, INDEX, [], None)
    return root, planes, source


def test_import_keeps_every_plane_and_no_name(case):
    root, planes, _ = case
    private = read_json(root / "cohort" / "sub-dcm" / "dicom_private.json")
    assert [i["sop_instance"] for i in private["instances"]] == [p["uid"] for p in planes]
    assert private["frame_of_reference"] == planes[0]["frame"]
    text = (root / "cohort" / "sub-dcm" / "dicom_private.json").read_text("utf-8")
    assert not any(word in text for word in PLANTED.values())
    assert "tilt corrected" in read_json(root / "cohort" / "sub-dcm" / "import.json")["series"]


def test_segmentation_lies_on_the_lesion_of_every_source_image(case):
    root, planes, _ = case
    seg = pydicom.dcmread(root / "handoff" / "patients" / "sub-dcm" / "dicom" / "findings_seg.dcm")
    assert seg.FrameOfReferenceUID == planes[0]["frame"] and seg.StudyInstanceUID == planes[0]["study"]
    (segment,) = seg.SegmentSequence
    assert segment.SegmentLabel == "Denser than expected"
    by_uid = {p["uid"]: p for p in planes}
    found = {}
    for source, position, number, pixels in frames(seg):
        assert number == 1
        np.testing.assert_allclose(position, by_uid[source]["position"], atol=1e-4)
        found[source] = pixels > 0
    assert set(found) == set(by_uid)  # empty frames too
    both = total = 0
    for uid, plane in by_uid.items():
        truth = inside_ball(plane)
        both += (truth & found[uid]).sum()
        total += truth.sum() + found[uid].sum()
    assert 2 * both / total >= 0.9


def test_overlay_holds_the_difference_in_hu_on_every_source_image(case):
    root, planes, _ = case
    overlay = pydicom.dcmread(root / "handoff" / "patients" / "sub-dcm" / "dicom" / "overlay_map.dcm")
    shared = overlay.SharedFunctionalGroupsSequence[0]
    where = (
        shared if "RealWorldValueMappingSequence" in shared else overlay.PerFrameFunctionalGroupsSequence[0]
    )
    mapping = where.RealWorldValueMappingSequence[0]
    assert mapping.MeasurementUnitsCodeSequence[0].CodeValue == "[hnsf'U]"
    by_uid = {p["uid"]: p for p in planes}
    values, seen = [], set()
    for source, _, _, pixels in frames(overlay):
        hu = pixels * float(mapping.RealWorldValueSlope) + float(mapping.RealWorldValueIntercept)
        values.append(hu[inside_ball(by_uid[source])])
        seen.add(source)
    assert seen == set(by_uid)
    assert np.concatenate(values).mean() == pytest.approx(DELTA, abs=4)


def test_no_planted_name_leaves_and_uids_only_under_dicom(case):
    root, planes, source = case
    folder = root / "handoff"
    uids = [planes[0]["study"], planes[0]["series"], planes[0]["frame"], *(p["uid"] for p in planes)]
    names = [*PLANTED.values(), "Mustermann", "Erika", "Nirgends", str(source)]
    seen_dicom = 0
    for name in listed_files(folder):
        content = readable(folder / name)
        if name.endswith((".pdf", "README.txt", "index.html")):  # what is packed is seen
            assert b"Research use only" in content, name
        for word in names:
            assert word.encode() not in content, (name, word)
        if name.endswith(".dcm"):
            seen_dicom += 1
        else:
            assert not any(uid.encode() in content for uid in uids), name
    assert seen_dicom == 2


def test_rebuilding_gives_the_same_objects(case):
    root, _, _ = case
    folder = root / "handoff" / "patients" / "sub-dcm"
    before = {p.name: p.read_bytes() for p in (folder / "dicom").iterdir()}
    main(arguments(root, "sub-dcm"))
    assert {p.name: p.read_bytes() for p in (folder / "dicom").iterdir()} == before
    assert (folder / "scan.nii.gz").is_file()
    assert "dicom/findings_seg.dcm" in (folder / "index.html").read_text("utf-8")


def test_other_findings_are_other_objects(case, tmp_path):
    """A PACS keeps the first of two objects of one UID."""
    root, _, _ = case
    shutil.copytree(root, tmp_path / "run")
    main(arguments(tmp_path / "run", "sub-dcm", min_finding_ml=1e6))
    path = "handoff/patients/sub-dcm/dicom/findings_seg.dcm"
    one, other = pydicom.dcmread(root / path), pydicom.dcmread(tmp_path / "run" / path)
    assert one.SOPInstanceUID != other.SOPInstanceUID and one.PixelData != other.PixelData


def test_patient_module_is_copied_only_when_asked_for(case, tmp_path):
    root, _, source = case
    shutil.copytree(root, tmp_path / "run")
    asked = {"write": True, "uid_root": "1.2.826.0.1.3680043.10.999", "copy_patient": True}
    main(arguments(tmp_path / "run", "sub-dcm", dicom=asked, dicom_source=str(source)))
    path = "handoff/patients/sub-dcm/dicom/findings_seg.dcm"
    copied, plain = pydicom.dcmread(tmp_path / "run" / path), pydicom.dcmread(root / path)
    assert str(copied.PatientName) == PLANTED["PatientName"] and copied.PatientID == PLANTED["PatientID"]
    assert str(plain.PatientName) == "" and plain.PatientID == "sub-dcm"
    assert copied.SOPInstanceUID.startswith("1.2.826.0.1.3680043.10.999.")
    assert plain.SOPInstanceUID.startswith("2.25.") and len(plain.SOPInstanceUID) <= 64
    page = (tmp_path / "run" / "handoff" / "patients" / "sub-dcm" / "index.html").read_text("utf-8")
    assert "Mustermann" not in page


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="needs dciodvfy: apt-get install -y dicom3tools")
@pytest.mark.parametrize("name", ["findings_seg", "overlay_map"])
def test_dciodvfy_finds_no_error(case, name):
    path = case[0] / "handoff" / "patients" / "sub-dcm" / "dicom" / f"{name}.dcm"
    done = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, check=False)
    said = (done.stdout + done.stderr).splitlines()
    assert any(line in {"Segmentation", "ParametricMap"} for line in said)
    assert [line for line in said if line.startswith(("Error", "Abort"))] == []


def test_instances_that_cannot_be_told_apart_are_said(case, tmp_path):
    root, _, _ = case
    shutil.copytree(root, tmp_path / "run")
    (tmp_path / "run" / "cohort" / "sub-dcm" / "dicom_private.json").write_text('{"instances": []}')
    main(arguments(tmp_path / "run", "sub-dcm"))
    folder = tmp_path / "run" / "handoff" / "patients" / "sub-dcm"
    assert not (folder / "dicom").exists()
    assert "could not be told apart" in (folder / "index.html").read_text("utf-8")
