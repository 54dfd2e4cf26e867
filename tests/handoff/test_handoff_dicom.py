"""DICOM in, DICOM out: on the source's own planes, valid, and without a word about the patient."""

import shutil

import numpy as np
import pydicom
import pytest
from dicom_case import (
    BALL,
    DELTA,
    PLANTED,
    errors,
    frames,
    inside_ball,
    mapped,
    needs_dciodvfy,
    readable,
    sampled,
    write_again,
    write_series,
)
from handoff_case import INDEX, Z_SETTINGS, arguments, write_shared, write_subject
from head_case import ball_mask, small

from normct.common.files import read_json
from normct.common.slices import read_slices
from normct.common.volumes import Volume, read_volume, write_volume
from normct.handoff.index import build
from normct.handoff.patient import main
from normct.handoff.planes import OWN_PLANE
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


@pytest.fixture(scope="module")
def z_case(case, tmp_path_factory):
    """The same scan with the default map, in SD, and a dark finding beside the light one."""
    root, planes, source = case
    copy = tmp_path_factory.mktemp("dicom_z") / "run"
    shutil.copytree(root, copy)
    mask = read_slices(copy / "preprocess" / "sub-dcm" / "slices.npz").mask
    dark = small(ball_mask((38.0, -50.0, 15.0, 14.0)).transpose(2, 1, 0))[mask]
    path = copy / "score" / "calibrated" / "sub-dcm.npz"
    with np.load(path) as maps:
        z = {name: (maps[name] - 5 * dark).astype(np.float16) for name in maps.files}
    np.savez_compressed(path, **z)
    main(arguments(copy, "sub-dcm", **Z_SETTINGS))
    return copy, planes, source


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
    mapping = mapped(overlay)
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


def test_readme_lists_every_file_and_says_what_a_pacs_needs(case):
    out = case[0] / "handoff"
    guide = (out / "README.txt").read_text("utf-8")
    names = {p.name for p in (out / "patients" / "sub-dcm").iterdir()} - {"index.html"}
    assert {"scan.nii.gz", "key_slice.jpg", "dicom"} <= names
    for name in names:
        assert f"patients/<scan>/{name}" in guide
    assert "set copy_patient before" in guide and "set handoff.dicom.write: false" in guide


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


@needs_dciodvfy
@pytest.mark.parametrize("name", ["findings_seg", "overlay_map"])
@pytest.mark.parametrize("which", ["case", "z_case"])
def test_dciodvfy_finds_no_error(which, name, request):
    root, _, _ = request.getfixturevalue(which)
    assert errors(root / "handoff" / "patients" / "sub-dcm" / "dicom" / f"{name}.dcm") == []


@pytest.mark.parametrize(
    ("which", "labels", "unit", "span"),
    [
        ("case", ["Denser than expected"], "[hnsf'U]", 80),
        ("z_case", ["Denser than expected", "Less dense than expected"], "1", 12),
    ],
)
def test_every_frame_holds_the_native_files_at_its_plane(which, labels, unit, span, request):
    """Mask and map of the folder, sampled here by DICOM's formula, are what each frame holds."""
    root, planes, _ = request.getfixturevalue(which)
    folder = root / "handoff" / "patients" / "sub-dcm"
    mask = read_volume(folder / "anomaly_mask.nii.gz", dtype=None)
    seg = pydicom.dcmread(folder / "dicom" / "findings_seg.dcm")
    assert [segment.SegmentLabel for segment in seg.SegmentSequence] == labels
    by_uid = {p["uid"]: p for p in planes}
    seen = set()
    for source, _, number, pixels in frames(seg):
        truth = sampled(mask, by_uid[source], 0) == number  # 1 denser, 2 less dense
        np.testing.assert_array_equal(pixels > 0, truth)
        seen.add((source, number, bool(truth.any())))
    assert {s[:2] for s in seen} == {(uid, n + 1) for uid in by_uid for n in range(len(labels))}
    assert {s[1] for s in seen if s[2]} == set(range(1, len(labels) + 1))

    anomaly = read_volume(folder / "anomaly_map.nii.gz")
    overlay = pydicom.dcmread(folder / "dicom" / "overlay_map.dcm")
    mapping = mapped(overlay)
    assert mapping.MeasurementUnitsCodeSequence[0].CodeValue == unit
    slope, intercept = float(mapping.RealWorldValueSlope), float(mapping.RealWorldValueIntercept)
    sources, lowest, highest = [], 0.0, 0.0
    # half a step, and what a plane taken for the volume's own may miss it by
    slack = slope / 2 + OWN_PLANE * max(np.abs(np.diff(anomaly.data, axis=n)).max() for n in range(3))
    for source, position, _, pixels in frames(overlay):
        np.testing.assert_allclose(position, by_uid[source]["position"], atol=1e-4)
        truth = np.clip(sampled(anomaly, by_uid[source], 1), -span, span)
        np.testing.assert_allclose(pixels * slope + intercept, truth, atol=slack, rtol=0)
        sources.append(source)
        lowest, highest = min(lowest, truth.min()), max(highest, truth.max())
    assert sorted(sources) == sorted(by_uid)
    assert highest > 0.2 * span and (lowest < -0.2 * span) == (len(labels) == 2)


def test_a_large_segmentation_leaves_empty_frames_out(z_case, tmp_path, monkeypatch):
    root, planes, _ = z_case
    monkeypatch.setattr("normct.handoff.dicom_objects.MAX_SEG_BYTES", 0)
    maps = root / "handoff" / "patients" / "sub-dcm"
    write_again(root / "cohort" / "sub-dcm", tmp_path / "out", maps, **Z_SETTINGS)
    path = tmp_path / "out" / "dicom" / "findings_seg.dcm"
    mask = read_volume(maps / "anomaly_mask.nii.gz", dtype=None)
    cut = {p["uid"]: sampled(mask, p, 0) for p in planes}
    expected = {(uid, n): cut[uid] == n for uid in cut for n in (1, 2) if (cut[uid] == n).any()}
    found = {(source, number): pixels > 0 for source, _, number, pixels in frames(pydicom.dcmread(path))}
    assert set(found) == set(expected) and 0 < len(found) < 2 * len(planes)
    for key, pixels in found.items():
        np.testing.assert_array_equal(pixels, expected[key])
    if shutil.which("dciodvfy"):
        assert errors(path) == []


@pytest.mark.parametrize("most", [0, 6e6])
def test_a_scan_without_a_finding_has_empty_frames(case, tmp_path, monkeypatch, most):
    root, planes, _ = case
    monkeypatch.setattr("normct.handoff.dicom_objects.MAX_SEG_BYTES", most)
    maps = tmp_path / "maps"
    for name in ("anomaly_map", "anomaly_mask"):
        volume = read_volume(root / "handoff" / "patients" / "sub-dcm" / f"{name}.nii.gz", dtype=None)
        write_volume(maps / f"{name}.nii.gz", Volume(np.zeros_like(volume.data), volume.affine))
    write_again(root / "cohort" / "sub-dcm", tmp_path / "out", maps)
    path = tmp_path / "out" / "dicom" / "findings_seg.dcm"
    found = {source: pixels.any() for source, _, _, pixels in frames(pydicom.dcmread(path))}
    assert found == {p["uid"]: False for p in planes}
    if shutil.which("dciodvfy"):
        assert errors(path) == []


def test_instances_that_cannot_be_told_apart_are_said(case, tmp_path):
    root, _, _ = case
    shutil.copytree(root, tmp_path / "run")
    (tmp_path / "run" / "cohort" / "sub-dcm" / "dicom_private.json").write_text('{"instances": []}')
    main(arguments(tmp_path / "run", "sub-dcm"))
    folder = tmp_path / "run" / "handoff" / "patients" / "sub-dcm"
    assert not (folder / "dicom").exists()
    assert "could not be told apart" in (folder / "index.html").read_text("utf-8")


ASKED = {"write": True, "uid_root": "2.25", "copy_patient": True}


@pytest.mark.parametrize(
    ("characters", "name", "study_id"),
    [
        ("ISO_IR 100", "Müller^Jörg", "Ä1"),
        ("ISO_IR 144", "Иванова^Ольга", "Ж1"),
        ("ISO_IR 192", "Иванова^Ольга", "Ж1"),
        (None, "Mustermann^Erika", "1"),
    ],
)
def test_copied_names_of_any_script_are_read_back(case, tmp_path, characters, name, study_id):
    """Sources may have any character set; the results have Unicode."""
    root, planes, source = case
    images = tmp_path / "images"
    images.mkdir()
    image = pydicom.dcmread(source / "001.dcm")
    if characters:
        image.SpecificCharacterSet = characters
    image.PatientName, image.ReferringPhysicianName, image.StudyID = name, name, study_id
    image.save_as(images / "1")
    assert image.SOPInstanceUID == planes[0]["uid"]
    if characters != "ISO_IR 192":  # else the test would pass without decoding
        assert name.isascii() or name.encode() not in (images / "1").read_bytes()
    maps = root / "handoff" / "patients" / "sub-dcm"
    words = write_again(
        root / "cohort" / "sub-dcm", tmp_path / "out", maps, dicom=ASKED, dicom_source=str(images)
    )
    assert not any("copy_patient" in text for text in words)
    for path in sorted((tmp_path / "out" / "dicom").iterdir()):
        written = pydicom.dcmread(path)
        assert written.SpecificCharacterSet == "ISO_IR 192"
        assert str(written.PatientName) == str(written.ReferringPhysicianName) == name
        assert written.StudyID == study_id and written.PatientID == PLANTED["PatientID"]
        assert name.encode() in path.read_bytes()
        if shutil.which("dciodvfy"):
            assert errors(path) == []


def test_a_missing_source_image_is_said(case, tmp_path, caplog):
    """Asked for the patient's name, the results are not filed under the participant ID in silence."""
    root, _, source = case
    images = tmp_path / "images"
    images.mkdir()
    shutil.copyfile(source / "002.dcm", images / "2")  # of the series, but not the image that is looked for
    maps = root / "handoff" / "patients" / "sub-dcm"
    words = write_again(
        root / "cohort" / "sub-dcm", tmp_path / "out", maps, dicom=ASKED, dicom_source=str(images)
    )
    (said,) = [text for text in words if "copy_patient" in text]
    assert "not found" in said and "filed under sub-dcm" in said
    assert any("copy_patient" in r.getMessage() for r in caplog.records if r.levelname == "WARNING")
    written = pydicom.dcmread(tmp_path / "out" / "dicom" / "findings_seg.dcm")
    assert written.PatientID == "sub-dcm" and str(written.PatientName) == ""
