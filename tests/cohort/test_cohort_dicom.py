"""DICOM folders: series made here, and a real head with a tilted gantry where it is at hand."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from factories import PHI, head_hu, save_nifti, write_series
from normct.cohort import dicom, dicom_folder
from normct.cohort.check import check_files
from normct.cohort.dicom import Series, choose
from normct.cohort.dicom_folder import folder_stamp
from normct.cohort.importer import run_import
from normct.cohort.table import load_participants
from normct.common.errors import ConfigError, DataFault

REAL = Path(__file__).resolve().parents[2].parent / "shared" / "data"


def test_series_becomes_hu_without_any_header_text(tmp_path, caplog):
    data = head_hu()
    write_series(tmp_path / "Doe John" / "nested", data)
    record = run_import("sub-1", tmp_path / "Doe John", None, tmp_path / "out")
    assert (record["verdict"], record["source"], record["shape"]) == ("ok", "dicom", [48, 56, 32])
    assert record["acquisition"] == {
        "slice_thickness_mm": 5.0, "kernel": "STANDARD", "tube_current_ma": 200.0, "vendor": "Siemens",
    }  # fmt: skip
    image = nib.load(tmp_path / "out" / "ct.nii.gz")
    # LPS rows to RAS: the same voxel at the same place in the patient
    world = image.affine @ np.array([10, image.shape[1] - 1 - 20, 7, 1])
    np.testing.assert_allclose(world[:3], [96 - 40, 112 - 80, -80 + 35], atol=1e-3)
    assert abs(np.asarray(image.dataobj)[10, image.shape[1] - 1 - 20, 7] - data[10, 20, 7]) <= 1
    for path in (tmp_path / "out").iterdir():
        content = path.read_bytes()
        if path.name.endswith(".gz"):
            content = image.to_bytes()
        assert not any(word.encode() in content for word in (*PHI, "Doe"))
        if path.name != "dicom_private.json":  # its UIDs go back to the PACS, and nowhere else
            assert b"1.2.826" not in content
    assert not any(word in caplog.text for word in (*PHI, "Doe"))
    assert record["series"] == "original, axial, soft kernel STANDARD, 32 slices, as scanned; the only one"


def test_localiser_and_sharp_kernel_are_passed_over(tmp_path):
    write_series(tmp_path / "d", head_hu()[:, :, 15:16], 1, "FC01", ("ORIGINAL", "PRIMARY", "LOCALIZER"))
    write_series(tmp_path / "d", head_hu(1), 3, "BONE")
    write_series(tmp_path / "d", head_hu()[:, :, 4:28], 2, "H31s")
    record = run_import("sub-1", tmp_path / "d", None, tmp_path / "out")
    assert record["series"].startswith(
        "original, axial, soft kernel H31s, 24 slices, as scanned; chosen among 3"
    )
    assert "passed over: 1 localisers or single slices, 1 other volumes" in record["series"]


def series(name, n=30, **meta):
    base = {"Modality": "CT", "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"], "ConvolutionKernel": "STANDARD"}
    return Series(Path(name), base | meta, (512, 512, n))


RULES = {
    "tilt corrected over plain": (series("s2_Tilt_Eq_1.nii", 56), series("s2.nii", 28)),
    "evened out over plain": (series("s2_Eq_1.nii", 30), series("s2.nii", 40)),
    "more slices": (series("s3.nii", 60), series("s2.nii", 30)),
    "soft over sharp": (series("s2.nii", 30), series("s3.nii", 250, ConvolutionKernel="BONEPLUS")),
    "soft over unknown": (series("s2.nii", 30), series("s3.nii", 250, ConvolutionKernel="X")),
    "Siemens number": (
        series("a.nii", 30, ConvolutionKernel=["J40s", "3"]),
        series("b.nii", 90, ConvolutionKernel="Hr60"),
    ),
    "original over derived": (series("s2.nii", 30), series("s3.nii", 99, ImageType=["DERIVED", "SECONDARY"])),
    "axial over coronal": (
        series("s2.nii", 30, ImageOrientationPatientDICOM=[1, 0, 0, 0, 1, 0]),
        series("s3.nii", 99, ImageOrientationPatientDICOM=[1, 0, 0, 0, 0, -1]),
    ),
    "head over spine": (series("s2.nii", 30, BodyPart="HEAD"), series("s3.nii", 99, BodyPart="CSPINE")),
    "volume over scout": (
        series("s2.nii", 30),
        series("s1.nii", 99, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]),
    ),
}


@pytest.mark.parametrize("name", RULES)
def test_choice(name):
    right, wrong = RULES[name]
    assert choose([wrong, right], "sub-1")[0] is right
    assert choose([right, wrong], "sub-1")[0] is right


# bits stored, slices gone, what is said; dcm2niix evens out 12-bit series only
GAPS = {
    "one of 12 bit": (12, [16], None),
    "three of 12 bit": (
        12,
        [14, 15, 16],
        "ct: slices are missing: a gap of 20 mm (limit 10 mm). Give",
    ),
    "one of 16 bit": (
        16,
        [16],
        "ct: slices are missing or unevenly spaced, and cannot be put right. Give",
    ),
}


@pytest.mark.parametrize("name", GAPS)
def test_missing_slices_never_squeeze_the_head(tmp_path, name):
    bits, gone, message = GAPS[name]
    write_series(tmp_path / "d", head_hu(), bits=bits)
    for k in gone:
        (tmp_path / "d" / f"002_{k:03d}.dcm").unlink()
    record = run_import("sub-1", tmp_path / "d", None, tmp_path / "out")
    if message:
        assert record["reason"].startswith(message)
    else:
        assert record["shape"] == [48, 56, 32]
        assert "slice distance evened out" in record["series"]


def test_a_truncated_file_in_the_series(tmp_path):
    write_series(tmp_path / "d", head_hu())
    path = tmp_path / "d" / "002_016.dcm"
    path.write_bytes(path.read_bytes()[:2500])
    record = run_import("sub-1", tmp_path / "d", None, tmp_path / "out")
    assert record["verdict"] == "set_aside"
    assert record["reason"].startswith("ct: a folder without a readable DICOM series.")


def test_kernel_text_that_could_hold_a_name_is_dropped():
    assert series("a.nii", ConvolutionKernel="Doe, John 1970").kernel is None
    assert "Doe" not in series("a.nii", ConvolutionKernel="Doe, John 1970").kind()


def test_no_volume_no_ct():
    with pytest.raises(DataFault, match="localisers or single slices only"):
        choose([series("s1.nii", 1)], "sub-1")
    with pytest.raises(DataFault, match="not CT"):
        choose([series("s1.nii", 30, Modality="MR")], "sub-1")


def test_folders_are_checked_before_any_job(cohort, settings):
    write_series(cohort.folder / "mri", head_hu(), mri=True)
    (cohort.folder / "junk").mkdir()
    (cohort.folder / "junk" / "a.txt").write_text("x")
    write_series(cohort.folder / "one", head_hu(9))
    (cohort.folder / "two").mkdir()
    for path in (cohort.folder / "one").iterdir():
        (cohort.folder / "two" / f"x{path.name}").write_bytes(path.read_bytes())
    for n, name in enumerate(("mri", "junk", "one", "two"), start=5):
        cohort.add(n, ct=name)
    people = load_participants(cohort.write(), settings)
    with pytest.raises(ConfigError) as caught:
        check_files(people, settings, cohort.folder / "checked.json", 2)
    assert [fault.split(". ")[0] for fault in caught.value.faults] == [
        "sub-005: ct: a DICOM folder without a readable CT image",
        "sub-006: ct: a DICOM folder without a readable CT image",
        "sub-008: ct: the same bytes as ct of sub-007",
    ]


def test_mask_on_another_grid_than_a_dicom_folder_is_refused_before_any_job(cohort, settings):
    write_series(cohort.folder / "icb", head_hu(9))
    cohort.rows[3] |= {"ct": "icb", "lesion_mask": "mask.nii"}
    run_import("sub-004", cohort.folder / "icb", None, cohort.folder / "made")
    grid = nib.load(cohort.folder / "made" / "ct.nii.gz")
    save_nifti(cohort.folder / "mask.nii", np.zeros(grid.shape), grid.affine, np.uint8)
    people = load_participants(cohort.write(), settings)
    cache = cohort.folder / "checked.json"
    assert check_files([*people[:3], replace(people[3], lesion_mask=None)], settings, cache, 1) == []
    assert check_files(people, settings, cache, 1) == []  # the grid is asked for now, though bytes are known
    flipped = grid.affine @ np.diag([1, -1, 1, 1])
    save_nifti(cohort.folder / "mask.nii", np.zeros(grid.shape), flipped, np.uint8)
    with pytest.raises(ConfigError, match=r"sub-004: lesion_mask: its affine is not that of ct .*dcm2niix"):
        check_files(people, settings, cache, 1)


def test_a_missing_converter_is_said_before_any_job(cohort, settings, monkeypatch):
    write_series(cohort.folder / "dicom", head_hu(9)[:, :, :3])
    cohort.add(5, ct="dicom")
    people = load_participants(cohort.write(), settings)

    def missing():
        raise RuntimeError("dcm2niix is missing: pip install dcm2niix")

    monkeypatch.setattr(dicom, "program", missing)
    assert check_files(people[:4], settings, cohort.folder / "checked.json", 1) == []
    with pytest.raises(ConfigError, match="pip install dcm2niix"):
        check_files(people, settings, cohort.folder / "checked.json", 1)


def test_a_file_that_may_not_be_read_sets_the_folder_aside(tmp_path, monkeypatch):
    write_series(tmp_path / "Doe", head_hu()[:, :, :3])

    def denied(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(dicom_folder, "sha256", denied)
    record = run_import("sub-1", tmp_path / "Doe", None, tmp_path / "out")
    assert record["reason"].startswith("ct: a file of the DICOM folder may not be read. Give read permission")


def test_unreadable_folder_and_mask_on_another_grid_are_set_aside(tmp_path):
    (tmp_path / "junk").mkdir()
    (tmp_path / "junk" / "a.dcm").write_text("x" * 500)
    record = run_import("sub-1", tmp_path / "junk", None, tmp_path / "out")
    assert record["reason"].startswith("ct: a DICOM folder without a readable CT image.")
    write_series(tmp_path / "d", head_hu())
    mask = save_nifti(tmp_path / "m.nii", np.zeros((3, 3, 3)), dtype=np.uint8)
    record = run_import("sub-1", tmp_path / "d", mask, tmp_path / "out")
    assert record["reason"].startswith("lesion_mask: its shape 3×3×3 is not that of ct, 48×56×32.")


def test_missing_or_killed_program_is_no_fault_of_the_data(tmp_path, monkeypatch):
    write_series(tmp_path / "d", head_hu()[:, :, :3])
    killed = tmp_path / "dcm2niix"
    killed.write_text("#!/bin/sh\nkill -9 $$\n")
    killed.chmod(0o755)
    monkeypatch.setattr(dicom, "program", lambda: str(killed))
    with pytest.raises(RuntimeError, match="dcm2niix ended with status -9"):
        run_import("sub-1", tmp_path / "d", None, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_stamp_sees_a_file_changed_in_place(tmp_path):
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "a").write_text("1")
    before = folder_stamp(str(tmp_path / "d"))
    (tmp_path / "d" / "a").write_text("22")
    assert folder_stamp(str(tmp_path / "d")) != before
    assert folder_stamp(str(tmp_path / "d" / "a")) == ""


@pytest.mark.skipif(not (REAL / "ge_head_dicom").is_dir(), reason="the real head is not on this machine")
def test_real_tilted_head(tmp_path):
    record = run_import("sub-ge", REAL / "ge_head_dicom", None, tmp_path)
    assert record["verdict"] == "ok"
    assert record["shape"] == [512, 611, 56]
    assert "gantry tilt corrected" in record["series"]
    image = nib.load(tmp_path / "ct.nii.gz")
    axes = image.affine[:3, :3] / np.linalg.norm(image.affine[:3, :3], axis=0)
    np.testing.assert_allclose(axes.T @ axes, np.eye(3), atol=1e-3)
    hu = np.asarray(image.dataobj)
    # a head of plausible size: everything denser than fat, about 3 to 5 litres
    litres = (hu > -200).sum() * abs(np.linalg.det(image.affine[:3, :3])) / 1e6
    assert 2.5 < litres < 6
    assert hu.min() == -1024
    assert json.loads((tmp_path / "import.json").read_text())["acquisition"]["vendor"] == "GE"


@pytest.mark.skipif(
    not (REAL / "philips_phantom_dicom").is_dir(), reason="the phantom is not on this machine"
)
def test_real_physical_phantom_is_ct_and_left_to_quality_control(tmp_path):
    record = run_import("sub-ph", REAL / "philips_phantom_dicom", None, tmp_path)
    assert record["source"] == "dicom"
    assert record["shape"] == [512, 512, 28]
    text = (tmp_path / "import.json").read_text()
    assert not any(word in text for word in ("QMC", "NOTTINGHAM", "336067", "TRAUMA"))
