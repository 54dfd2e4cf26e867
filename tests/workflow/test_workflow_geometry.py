"""From a file on any grid to its anomaly map: what is painted into a scan's voxels comes back to them.

Import, resampling, slices and hand-off are the real ones, met through files; only the skull strip (brain is
what is denser than air) and the registration (its result is known) are left out, for speed.
"""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from normct.cohort.importer import run_import
from normct.common.anatomy import atlas_affine
from normct.common.geometry import read_transform, write_transform
from normct.common.slices import read_slices, write_slices
from normct.common.volumes import Volume, read_volume, write_volume
from normct.handoff.anomaly import atlas_map, native_map
from normct.preprocess.resample import resample_head
from normct.preprocess.slices import make_slices

pytestmark = pytest.mark.timeout(900)

SLICES = {"normalisation": "window", "window": [0, 80], "min_brain_pixels": 10}
CENTRE = np.array([0.0, -18.0, 20.0])  # of the brain, in atlas space, mm
BRAIN_MM, BRAIN_HU, LESION_HU = 36.0, 30.0, 70.0


@st.composite
def scans(draw):
    """A grid of any axis order, flips, obliqueness, gantry tilt and voxel size; a pose; a lesion."""
    zooms = np.array(draw(st.tuples(st.floats(0.9, 2), st.floats(0.9, 2), st.floats(1, 3))))
    order = draw(st.permutations([0, 1, 2]))
    signs = np.array(draw(st.tuples(*[st.sampled_from([-1, 1])] * 3)))
    oblique = draw(st.tuples(*[st.floats(-25, 25)] * 3))
    tilt = draw(st.sampled_from([0.0, 0.0, 0.27]))
    pose = draw(st.tuples(st.floats(-30, 30), st.floats(-15, 15), st.floats(-15, 15)))
    shift = draw(st.tuples(*[st.floats(-40, 40)] * 3))
    toward = np.array(draw(st.tuples(*[st.floats(-10, 10)] * 3)))
    return zooms, order, signs, oblique, tilt, pose, shift, toward, draw(st.floats(10, 14))


def turn(angles, shift=(0, 0, 0)) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    matrix[:3, 3] = shift
    return matrix


def paint(folder, scan):
    """Write the scan; return its path, atlas point to native point, and the lesion on its voxels."""
    zooms, order, signs, oblique, tilt, pose, shift, toward, radius = scan
    points = turn(pose, shift)
    centre = points[:3, :3] @ CENTRE + points[:3, 3]
    shear = np.eye(3)
    shear[1, 2] = tilt
    axes = np.zeros((3, 3))
    axes[order, range(3)] = signs * zooms
    shape = tuple(int(n) for n in np.ceil(2 * (BRAIN_MM + 12) * (1 + tilt) / zooms))
    affine = np.eye(4)
    affine[:3, :3] = turn(oblique)[:3, :3] @ shear @ axes
    affine[:3, 3] = centre - affine[:3, :3] @ (np.array(shape) - 1) / 2
    affine = affine.astype(np.float32).astype(float)
    world = np.moveaxis(np.indices(shape), 0, -1) @ affine[:3, :3].T + affine[:3, 3]
    back = np.linalg.inv(points)
    own = world @ back[:3, :3].T + back[:3, 3]
    brain = np.linalg.norm(own - CENTRE, axis=-1) <= BRAIN_MM
    lesion = np.linalg.norm(own - CENTRE - toward, axis=-1) <= radius
    hu = np.where(lesion, LESION_HU, np.where(brain, BRAIN_HU, -1000.0)).astype(np.int16)
    image = nib.Nifti1Image(hu, affine)
    image.set_qform(None, 0)
    nib.save(image, folder / "raw.nii")
    nib.save(nib.Nifti1Image(lesion.astype(np.uint8), affine), folder / "mask.nii")
    return points, lesion


ORDINARY = (np.array([1.0, 1.0, 3.0]), [0, 1, 2], np.array([1, 1, 1]), (0, 0, 0), 0.0, (0, 0, 0), (0, 0, 0))


@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
@given(scan=scans())
@example(scan=(*ORDINARY, np.zeros(3), 10.0))
@example(
    scan=(
        np.array([0.9, 2.0, 3.0]), [2, 0, 1], np.array([-1, 1, -1]), (20, -15, 10), 0.27, (25, -10, 8),
        (30, -20, 35), np.array([9.0, -9, 6]), 10.0,
    )
)  # fmt: skip
def test_a_painted_lesion_comes_back_to_its_own_voxels(tmp_path_factory, scan):
    folder = tmp_path_factory.mktemp("scan")
    points, painted = paint(folder, scan)
    record = run_import("sub-1", folder / "raw.nii", folder / "mask.nii", folder)
    assert record["verdict"] == "ok", record["reason"]
    native = read_volume(folder / "ct.nii.gz")
    write_transform(folder / "native_to_atlas.mat", points)

    head = resample_head(native)
    mask = Volume((head.data > -400).astype(np.uint8), head.affine)
    brain = Volume(head.data.astype(np.float32) * mask.data, head.affine)
    grid = atlas_affine()
    store = make_slices(
        "sub-1", brain, mask, read_volume(folder / "lesion.nii.gz", None),
        read_transform(folder / "native_to_atlas.mat"), affine=grid, interpolation="linear", settings=SLICES,
    )  # fmt: skip
    write_slices(folder / "slices.npz", store)

    store = read_slices(folder / "slices.npz")
    residual = store.image.astype(np.float32)[store.mask] - BRAIN_HU / 80
    values = atlas_map(store, residual * 80)
    transform = read_transform(folder / "native_to_atlas.mat")
    anomaly = native_map(values, grid, native.data.shape, native.affine, transform)
    write_volume(folder / "anomaly_map.nii.gz", anomaly)

    raw, result = nib.load(folder / "raw.nii"), nib.load(folder / "anomaly_map.nii.gz")
    assert result.shape == raw.shape
    np.testing.assert_allclose(result.affine, raw.affine, atol=1e-4)
    found = np.asarray(result.dataobj) > (LESION_HU - BRAIN_HU) / 2
    dice = 2 * (found & painted).sum() / (found.sum() + painted.sum())
    assert dice >= 0.9
    # the mask that is scored against takes the same way
    volume_ml = 4 / 3 * np.pi * scan[-1] ** 3 / 1000
    assert store.lesion.sum() / 1000 == pytest.approx(volume_ml, rel=0.15)
