"""NIfTI writing against nibabel's own, and boxes of masks."""

from __future__ import annotations

import subprocess
import sys

import nibabel as nib
import numpy as np
import pytest

from normct.common.volumes import Volume, box_of, crop, read_volume, write_volume


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32])
def test_file_is_the_one_nibabel_writes(tmp_path, dtype, order):
    data = np.asarray(np.random.default_rng(1).integers(0, 200, (5, 6, 7)).astype(dtype), order=order)
    affine = np.diag([0.5, 0.5, 3.0, 1.0])
    write_volume(tmp_path / "ours.nii", Volume(data, affine))
    image = nib.Nifti1Image(data, affine)
    image.header.set_xyzt_units("mm", "sec")
    image.set_sform(affine, 1)
    image.set_qform(affine, 1)
    nib.save(image, tmp_path / "theirs.nii")
    assert (tmp_path / "ours.nii").read_bytes() == (tmp_path / "theirs.nii").read_bytes()
    assert np.array_equal(read_volume(tmp_path / "ours.nii", None).data, data)


def test_box_holds_the_mask_and_stays_in_the_array():
    mask = np.zeros((9, 10, 11), bool)
    mask[2:4, 0:3, 7] = True
    assert box_of(mask) == (slice(2, 4), slice(0, 3), slice(7, 8))
    part = crop(Volume(np.arange(990).reshape(9, 10, 11), np.eye(4)), mask, margin=2)
    assert part.data.shape == (6, 5, 5)
    assert part.affine[:3, 3].tolist() == [0, 0, 5]
    assert part.data[0, 0, 0] == 5


def test_importing_nibabel_leaves_pydicom_out_and_findable():
    code = (
        "import sys, normct.common.volumes; assert 'pydicom' not in sys.modules;"
        "import pydicom; assert pydicom.dcmread; from nibabel import Nifti1Image"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
