"""Hostile inputs: each accepted, repaired, set aside or refused, with the message; the grid is kept."""

from __future__ import annotations

import errno
import gzip
import json
import os
import re
import traceback

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from factories import HEAD_AFFINE, ellipsoid, head_hu, save_nifti
from normct.cohort import importer, nifti
from normct.cohort.importer import run_import
from normct.common.errors import DataFault
from normct.common.volumes import read_volume

SHAPE = head_hu().shape


def bring_in(folder, path, lesion=None):
    return run_import("sub-1", path, lesion, folder / "out")


def nan_at(share):
    data = head_hu()
    data.ravel()[: int(share * data.size)] = np.nan
    return data


def padded(value):
    data = head_hu()
    data[~ellipsoid(SHAPE, (24, 28, 16), (24, 28, 40))] = value
    return data


def mri():
    """T1-like: tissue at every value, dark bone and air."""
    rng = np.random.default_rng(0)
    data = np.abs(rng.normal(0, 8, SHAPE))
    head = ellipsoid(SHAPE, (24, 28, 16), (20, 24, 15))
    data[head] = rng.gamma(6, 120, int(head.sum()))
    return data


# data, affine, dtype, header fields -> what the notes say (None: nothing)
ACCEPTED = {
    "plain": (head_hu(), HEAD_AFFINE, np.int16, {}, None),
    "float": (head_hu(), HEAD_AFFINE, np.float32, {}, None),
    "trailing axis of 1": (head_hu()[..., None], HEAD_AFFINE, np.int16, {}, None),
    "flipped": (head_hu(), HEAD_AFFINE @ np.diag([-1, -1, 1, 1]), np.int16, {}, None),
    "unsigned, no offset": (head_hu() + 1024, HEAD_AFFINE, np.uint16, {}, "without its rescale intercept"),
    "12 bit": (np.clip(head_hu() + 1024, 0, 4095), HEAD_AFFINE, np.uint16, {}, "1024 subtracted"),
    "no offset, padding": (padded(-3024) + 1024, HEAD_AFFINE, np.int16, {}, "1024 subtracted"),
    "unsigned wrap": (
        (padded(-3024) + 1024) % 65536,
        HEAD_AFFINE,
        np.uint16,
        {},
        "unsigned 16 bit: unwrapped",
    ),
    "padding -3024": (padded(-3024), HEAD_AFFINE, np.int16, {}, "padding at -3024 HU set to -1024"),
    "padding -2000": (padded(-2000), HEAD_AFFINE, np.int16, {}, "padding at -2000 HU set to -1024"),
    "padding -1500": (padded(-1500), HEAD_AFFINE, np.int16, {}, "padding at -1500 HU set to -1024"),
    "few NaN": (nan_at(0.004), HEAD_AFFINE, np.float32, {}, "voxels were NaN or infinite: set to -1024"),
    "metres": (
        head_hu(),
        np.diag([0.001] * 3 + [1]) @ HEAD_AFFINE,
        np.int16,
        {"xyzt_units": 1},
        "units were metres",
    ),
    "microns": (
        head_hu(),
        np.diag([1000] * 3 + [1]) @ HEAD_AFFINE,
        np.int16,
        {"xyzt_units": 3},
        "were microns",
    ),
    "metres, unsaid": (
        head_hu(),
        np.diag([0.001] * 3 + [1]) @ HEAD_AFFINE,
        np.int16,
        {"xyzt_units": 0},
        "were metres",
    ),
    "wrong unit": (head_hu(), HEAD_AFFINE, np.int16, {"xyzt_units": 1}, "contradicts the voxel size"),
    "no orientation": (head_hu(), HEAD_AFFINE, np.int16, {"sform_code": 0, "qform_code": 0}, "RAS assumed"),
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_accepted_with_what_was_repaired(tmp_path, name):
    data, affine, dtype, header, note = ACCEPTED[name]
    record = bring_in(tmp_path, save_nifti(tmp_path / "é ct.nii.gz", data, affine, dtype, **header))
    assert record["verdict"] == "ok", record["reason"]
    assert note in " ".join(record["repairs"]) if note else record["repairs"] == []
    out = nib.load(tmp_path / "out" / "ct.nii.gz")
    hu = np.asarray(out.dataobj)
    assert out.get_data_dtype() == np.int16
    assert hu.shape == SHAPE
    inside = ellipsoid(SHAPE, (24, 28, 16), (16, 20, 11))
    assert abs(np.median(hu[inside]) - 32) <= 1
    assert hu.min() >= -1024
    expected = np.abs(HEAD_AFFINE) if name in ("flipped", "no orientation") else HEAD_AFFINE
    got = np.abs(out.affine) if name in ("flipped", "no orientation") else out.affine
    np.testing.assert_allclose(got[:3, :3], expected[:3, :3], atol=1e-4)
    if name == "flipped":
        np.testing.assert_array_equal(out.affine, affine)
    lesion = nib.load(tmp_path / "out" / "lesion.nii.gz")
    assert lesion.get_data_dtype() == np.uint8
    assert lesion.shape == SHAPE
    assert not np.asarray(lesion.dataobj).any()


def thin(n, spacing):
    affine = HEAD_AFFINE.copy()
    affine[2, 2] = spacing
    return head_hu()[:, :, 16 - n // 2 : 16 - n // 2 + n], affine, np.int16


SET_ASIDE = {
    "many NaN": ((nan_at(0.2), HEAD_AFFINE, np.float32), r"20 % of the voxels are NaN"),
    "all zero": ((np.zeros(SHAPE), HEAD_AFFINE, np.int16), r"every voxel is 0"),
    "constant": ((np.full(SHAPE, 7), HEAD_AFFINE, np.int16), r"every voxel has the same value \(7\)"),
    "air only": ((np.random.default_rng(0).normal(-1000, 5, SHAPE), HEAD_AFFINE, np.int16), r"air only"),
    "MRI": ((mri(), HEAD_AFFINE, np.int16), r"no air near -1000 HU: not CT \(an MRI\?\)"),
    "brain window": ((np.clip(head_hu(), 0, 80), HEAD_AFFINE, np.int16), r"windowed"),
    "offset of 1000": ((head_hu() + 1000, HEAD_AFFINE, np.int16), r"stored without its rescale"),
    "one slice": (thin(1, 5.0), r"a single slice"),
    "two slices": (thin(2, 5.0), r"2 slices only"),
    "three slices of 20 mm": (thin(3, 20.0), r"slices 20 mm apart \(limit 10 mm\)"),
    "short": (thin(8, 5.0), r"covers 40 mm only \(at least 60 mm\)"),
}


@pytest.mark.parametrize("name", SET_ASIDE)
def test_what_only_voxels_show_is_set_aside(tmp_path, name):
    made, message = SET_ASIDE[name]
    record = bring_in(tmp_path, save_nifti(tmp_path / "ct.nii.gz", *made))
    assert record["verdict"] == "set_aside"
    assert re.search(message, record["reason"]), record["reason"]
    assert record["reason"].endswith(("series", "again", "files", "units"))
    for file in ("ct.nii.gz", "lesion.nii.gz"):
        assert nib.load(tmp_path / "out" / file).shape == (1, 1, 1)
    assert json.loads((tmp_path / "out" / "import.json").read_text()) == record


def unreadable(folder, name):
    path, mask = save_nifti(folder / "ct.nii.gz", head_hu()), None
    if name == "text":
        path.write_text("not an image")
    elif name == "zero bytes":
        path.write_bytes(b"")
    elif name == "gone":
        path.unlink()
    elif name == "truncated gzip":
        path.write_bytes(path.read_bytes()[:-2000])
    elif name == "damaged gzip":
        content = bytearray(path.read_bytes())
        content[5000:5100] = bytes(100)
        path.write_bytes(content)
    elif name == "short":
        path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())[:-5000]))
    elif name == "4-D":
        save_nifti(path, np.stack([head_hu()] * 2, -1))
    elif name == "RGB":
        save_nifti(
            path,
            np.zeros(SHAPE, [("R", "u1"), ("G", "u1"), ("B", "u1")]),
            dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")],
        )
    elif name == "complex":
        save_nifti(path, head_hu(), dtype=np.complex64)
    elif name == "affine":
        save_nifti(path, head_hu(), srow_x=[np.nan, 0, 0, 0], sform_code=1)
    elif name == "singular":
        save_nifti(path, head_hu(), srow_x=[0, 0, 0, 0], sform_code=1)
    elif name == "pipe":
        path.unlink()
        os.mkfifo(path)
    elif name == "giant":
        save_nifti(path, head_hu(), dim=[3, 30000, 30000, 30000, 1, 1, 1, 1])
    elif name == "no folder":
        path = path / "ct.nii.gz"
    elif name == "mask shape":
        mask = save_nifti(folder / "m.nii.gz", np.zeros((8, 8, 8)), dtype=np.uint8)
    elif name == "mask affine":
        mask = save_nifti(folder / "m.nii.gz", np.zeros(SHAPE), HEAD_AFFINE + np.eye(4, k=3) * 9, np.uint8)
    elif name == "mask text":
        mask = folder / "m.nii.gz"
        mask.write_text("x" * 600)
    return path, mask


UNREADABLE = {
    "text": "ct: not a NIfTI file",
    "zero bytes": r"ct: an empty file \(0 bytes\)",
    "gone": "ct: no such file",
    "truncated gzip": "ct: a damaged or truncated gzip file",
    "damaged gzip": "ct: a damaged or truncated gzip file",
    "short": r"ct: truncated: \d+ bytes where the header promises",
    "4-D": r"ct: 4-D \(48×56×32×2\); one volume is needed",
    "RGB": "ct: the voxels are RGB colour, not HU",
    "complex": "ct: the voxels are complex, not HU",
    "affine": "ct: the affine is not finite",
    "singular": "ct: the affine is singular",
    "pipe": "ct: neither a file nor a folder",
    "giant": "ct: 30000×30000×30000 voxels, more than any head scan has",
    "no folder": "ct: no such file",
    "mask shape": "lesion_mask: its shape 8×8×8 is not that of ct, 48×56×32",
    "mask affine": "lesion_mask: its affine is not that of ct",
    "mask text": "lesion_mask: not a NIfTI file",
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_what_bytes_show_is_set_aside_where_it_was_not_refused(tmp_path, name):
    path, mask = unreadable(tmp_path, name)
    with pytest.raises(DataFault, match=f"sub-1: {UNREADABLE[name]}") as caught:
        importer.import_scan("sub-1", path, mask)
    assert str(tmp_path) not in str(caught.value)
    record = bring_in(tmp_path, path, mask)
    assert record["verdict"] == "set_aside"
    assert re.match(UNREADABLE[name], record["reason"])
    assert nib.load(tmp_path / "out" / "ct.nii.gz").shape == (1, 1, 1)


def test_a_failing_disk_is_no_fault_of_the_data_and_shows_no_path(tmp_path, monkeypatch):
    path = save_nifti(tmp_path / "Doe_John.nii.gz", head_hu())

    def failing(*args):
        raise OSError(errno.EIO, "Input/output error", str(path))

    monkeypatch.setattr(nifti, "_stream", failing)
    with pytest.raises(RuntimeError, match="sub-1: ct cannot be read: Input/output error") as caught:
        bring_in(tmp_path, path)
    assert "Doe" not in "".join(traceback.format_exception(caught.value))
    assert not (tmp_path / "out").exists()


def test_content_decides_not_the_name(tmp_path):
    plain = save_nifti(tmp_path / "a.nii", head_hu())
    plain.rename(tmp_path / "a.nii.gz")
    packed = save_nifti(tmp_path / "b.nii.gz", head_hu())
    packed.rename(tmp_path / "b.nii")
    for name in ("a.nii.gz", "b.nii"):
        assert bring_in(tmp_path, tmp_path / name)["verdict"] == "ok"


def test_scaled_and_nifti2_and_half_a_pair(tmp_path):
    stored = nib.Nifti2Image(np.rint((head_hu() + 1000) / 2).astype(np.int16), HEAD_AFFINE)
    stored.header.set_slope_inter(2, -1000)
    nib.save(stored, tmp_path / "two.nii")
    bring_in(tmp_path, tmp_path / "two.nii")
    np.testing.assert_allclose(read_volume(tmp_path / "out/ct.nii.gz").data, head_hu(), atol=1.01)
    nib.save(nib.Nifti1Pair(head_hu().astype(np.int16), HEAD_AFFINE), tmp_path / "pair.img")
    assert ".hdr/.img pair" in bring_in(tmp_path, tmp_path / "pair.hdr")["reason"]


def test_lesion_mask_is_made_binary_and_kept_on_the_grid(tmp_path):
    ball = ellipsoid(SHAPE, (20, 30, 18), (3, 3, 3))
    ct = save_nifti(tmp_path / "ct.nii.gz", head_hu())
    record = bring_in(tmp_path, ct, save_nifti(tmp_path / "m.nii", ball * 255, dtype=np.uint8))
    assert record["has_lesion_mask"] is True
    assert any("everything above 0 is lesion" in note for note in record["repairs"])
    np.testing.assert_array_equal(np.asarray(nib.load(tmp_path / "out/lesion.nii.gz").dataobj), ball)


def test_header_text_does_not_survive_and_bytes_repeat(tmp_path):
    path = save_nifti(
        tmp_path / "Doe_John.nii.gz", head_hu(), descrip=b"Doe^John", aux_file=b"19700101", db_name=b"Doe"
    )
    record = bring_in(tmp_path, path)
    first = (tmp_path / "out" / "ct.nii.gz").read_bytes()
    assert b"Doe" not in gzip.decompress(first)
    assert b"19700101" not in gzip.decompress(first)
    assert "Doe" not in json.dumps(record)
    bring_in(tmp_path, path)
    assert (tmp_path / "out" / "ct.nii.gz").read_bytes() == first


@settings(max_examples=15, deadline=None)
@given(
    st.permutations([0, 1, 2]),
    st.tuples(*[st.sampled_from([-1, 1])] * 3),
    st.tuples(*[st.floats(-0.5, 0.5)] * 3),
    st.floats(-0.3, 0.3),
)
def test_any_orientation_keeps_voxels_and_affine(tmp_path_factory, order, signs, angles, shear):
    from scipy.spatial.transform import Rotation

    folder = tmp_path_factory.mktemp("pose")
    data = head_hu().transpose(order).astype(np.int16)
    axes = np.diag([4.0, 4.0, 5.0])[:, order] * signs
    tilt = np.eye(3)
    tilt[1, 2] = shear
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", angles).as_matrix() @ tilt @ axes
    affine[:3, 3] = (11.5, -7.25, 300)
    affine = affine.astype(np.float32).astype(float)
    bring_in(folder, save_nifti(folder / "ct.nii", data, affine))
    out = nib.load(folder / "out" / "ct.nii.gz")
    np.testing.assert_array_equal(out.affine, affine)
    np.testing.assert_array_equal(np.asarray(out.dataobj), np.maximum(data, -1024))


def test_command_line(tmp_path, caplog):
    path = save_nifti(tmp_path / "ct.nii.gz", head_hu())
    args = ["--subject", "sub-7", "--ct", str(path), "--lesion", "", "--out", str(tmp_path / "sub-7")]
    importer.main(args)
    assert json.loads((tmp_path / "sub-7/import.json").read_text())["participant_id"] == "sub-7"
    assert str(tmp_path) not in caplog.text
