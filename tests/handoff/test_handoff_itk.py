"""The NIfTI files in ITK, which ITK-SNAP and 3D Slicer read with."""

from html import unescape

import ants
import nibabel as nib
import numpy as np
import pytest
from handoff_case import arguments, write_shared, write_subject
from scipy.spatial.transform import Rotation

from normct.handoff.patient import main

FILES = ("anomaly_map.nii.gz", "anomaly_mask.nii.gz", "brain_mask.nii.gz")
SMALL = {"shape": (40, 40, 12), "zooms": (5.0, 5.0, 14.0)}


def turned(angles, shear=0.0) -> np.ndarray:
    matrix, tilt = np.eye(4), np.eye(3)
    tilt[1, 2] = shear
    matrix[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix() @ tilt
    return matrix


def handed_off(root, **scan):
    """Folder of a scan's page."""
    write_shared(root, {"sub-a": "test"})
    write_subject(root, "sub-a", **SMALL | scan)
    main(arguments(root, "sub-a"))
    return root / "handoff" / "patients" / "sub-a"


@pytest.mark.parametrize(
    "scan",
    [{"flips": "RAI"}, {"flips": "LPS"}, {"turn": turned((14, -9, 21))}, {"turn": turned((0, 0, 0), 5e-4)}],
    ids=["flipped", "radiological", "oblique", "barely sheared"],
)
def test_itk_reads_the_files_where_nibabel_does(tmp_path, scan):
    folder = handed_off(tmp_path, **scan)
    for name in FILES:
        image, seen = nib.load(folder / name), ants.image_read(str(folder / name))
        lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ image.affine
        zooms = np.linalg.norm(lps[:3, :3], axis=0)
        assert seen.shape == image.shape == SMALL["shape"]
        np.testing.assert_allclose(seen.spacing, zooms, rtol=1e-4)
        np.testing.assert_allclose(seen.origin, lps[:3, 3], atol=1e-3)
        np.testing.assert_allclose(seen.direction, lps[:3, :3] / zooms, atol=1e-3)
        np.testing.assert_allclose(seen.numpy(), image.get_fdata(), atol=1e-4)
        # the file's strongest voxel lies at one place of the world
        voxel = np.array(np.unravel_index(np.abs(seen.numpy()).argmax(), seen.shape))
        place = np.array(seen.origin) + seen.direction @ (voxel * seen.spacing)
        np.testing.assert_allclose(place, (lps @ [*voxel, 1])[:3], atol=0.1)
        assert image.get_fdata()[tuple(voxel)] != 0
    assert 'id="sheared"' not in (folder / "index.html").read_text("utf-8")


def test_sheared_grid_is_what_itk_refuses_and_the_page_says_so(tmp_path):
    folder = handed_off(tmp_path, turn=turned((0, 0, 0), 0.27))
    assert nib.load(folder / "anomaly_mask.nii.gz").get_fdata().any()
    for name in FILES:
        with pytest.raises(RuntimeError, match="orthonormal"):
            ants.image_read(str(folder / name))
    text = unescape((folder / "index.html").read_text("utf-8"))
    assert 'id="sheared"' in text and "do not open in ITK-SNAP or 3D Slicer" in text
