"""The way back: from the networks' 128×128 slices to the voxels of the original scan."""

import nibabel as nib
import numpy as np
import pytest
from head_case import native_grid, rigid, small
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from factories import ellipsoid
from normct.common.anatomy import ATLAS_SHAPE, atlas_affine
from normct.common.geometry import resample
from normct.common.slices import DEPTH, GRID, SliceStore
from normct.common.volumes import Volume
from normct.handoff.anomaly import atlas_map, native_map, read_residual
from normct.handoff.drawing import native_mask

AFFINE = atlas_affine()


def store_of(brain: np.ndarray) -> SliceStore:
    mask = small(brain) > 0.5
    empty = np.zeros_like(brain)
    return SliceStore("sub-a", mask.astype(np.float16), mask, brain, empty, brain.any(axis=(1, 2)), False)


BRAIN = ellipsoid((DEPTH, GRID, GRID), (75, 120, 120), (65, 85, 68))
STORE = store_of(BRAIN)


@st.composite
def grids(draw):
    """Oblique, flipped, permuted, anisotropic grids that cover the head."""
    zooms = np.array(draw(st.tuples(*[st.floats(2.0, 3.0)] * 2, st.floats(2.0, 5.0))))
    order = draw(st.permutations([0, 1, 2]))
    signs = draw(st.tuples(*[st.sampled_from([-1.0, 1.0])] * 3))
    tilt = draw(st.tuples(*[st.floats(-20, 20)] * 3))
    shear = draw(st.sampled_from([0.0, 0.3]))  # gantry tilt
    linear = np.zeros((3, 3))
    linear[order, range(3)] = np.array(signs)
    bend = np.eye(3)
    bend[1, 2] = shear
    linear = Rotation.from_euler("xyz", tilt, degrees=True).as_matrix() @ bend @ linear @ np.diag(zooms)
    shape = tuple(int(np.ceil(260 / z)) for z in zooms)
    affine = np.eye(4)
    affine[:3, :3] = linear
    affine[:3, 3] = np.array([0, -18, 10]) - linear @ (np.array(shape) - 1) / 2
    return shape, affine


@settings(max_examples=8, deadline=None)
@given(grid=grids(), x=st.floats(-30, 30), y=st.floats(-50, 25), pitch=st.floats(-25, 25))
def test_lesion_of_atlas_space_lands_on_its_own_voxels(grid, x, y, pitch):
    """A ball painted on the atlas grid is found where mathematics puts it in the scan."""
    shape, affine = grid
    centre, radius = np.array([x, y, 15.0]), 16.0
    world = np.indices(ATLAS_SHAPE).reshape(3, -1).T @ AFFINE[:3, :3].T + AFFINE[:3, 3]
    ball = (((world - centre) ** 2).sum(axis=1) <= radius**2).reshape(ATLAS_SHAPE).transpose(2, 1, 0) & BRAIN
    points = rigid(pitch)
    grid240 = atlas_map(STORE, small(ball)[STORE.mask])
    result = native_map(grid240, AFFINE, shape, affine, points)
    assert result.data.shape == shape
    np.testing.assert_array_equal(result.affine, affine)
    to_atlas = np.linalg.inv(points) @ affine
    own = np.indices(shape).reshape(3, -1).T @ to_atlas[:3, :3].T + to_atlas[:3, 3]
    expected = (((own - centre) ** 2).sum(axis=1) <= radius**2).reshape(shape)
    found = result.data > 0.5
    dice = 2 * (found & expected).sum() / (found.sum() + expected.sum())
    assert dice >= 0.9


@pytest.mark.parametrize(("thickness", "slices"), [(0.8, 60), (0.4, 111)])
def test_fine_voxels_between_the_samples_lie_where_they_belong(thickness, slices):
    """Voxels of 0.4 mm are filled in from every second one, across slabs too: the lesion keeps its place and its edge."""
    zooms, shape, centre = (0.4, 0.45, thickness), (130, 121, slices), np.array([10.0, -20.0, 15.0])
    turn = Rotation.from_euler("xyz", (14, -9, 20), degrees=True).as_matrix()
    points, affine = rigid(-8), np.eye(4)
    affine[:3, :3] = turn @ np.diag(zooms) @ np.diag([-1, 1, -1])
    middle = points[:3, :3] @ centre + points[:3, 3]
    affine[:3, 3] = middle - affine[:3, :3] @ (np.array(shape) - 1) / 2
    world = np.indices(ATLAS_SHAPE).reshape(3, -1).T @ AFFINE[:3, :3].T + AFFINE[:3, 3]
    far = np.sqrt(((world - centre) ** 2).sum(axis=1)).reshape(ATLAS_SHAPE).transpose(2, 1, 0)
    values = np.clip(12 - far, 0, 6).astype(np.float32)
    result = native_map(values, AFFINE, shape, affine, points, step=1e-4).data
    own = np.moveaxis(np.indices(shape), 0, -1) @ affine[:3, :3].T + affine[:3, 3] - middle
    expected = np.clip(12 - np.linalg.norm(own, axis=-1), 0, 6)
    assert np.abs(result - expected).max() < 0.6 and np.abs(result - expected).mean() < 0.05
    assert result.flags.f_contiguous  # as NIfTI writes it


def test_brain_mask_is_carried_voxel_by_voxel_to_a_turned_grid():
    mask = Volume((np.random.default_rng(0).random((40, 44, 36)) > 0.5).astype(np.uint8), np.eye(4))
    mask.affine[:3, 3] = (-20.3, -37.2, -1.4)
    grid = native_grid((50, 61, 23), (0.73, 0.61, 2.17), "SRA") @ rigid(14)
    found = native_mask(mask, Volume(np.zeros((50, 61, 23), np.int16), grid)).data
    assert 0.1 < found.mean() < 0.6 and found.dtype == np.uint8 and found.flags.f_contiguous
    np.testing.assert_array_equal(found, resample(mask, found.shape, grid, order=0).data)


def test_constant_residual_stays_constant_up_to_the_rim():
    """Background is not mixed in: a thin layer under the skull keeps its value."""
    grid = atlas_map(STORE, np.full(STORE.mask.sum(), 3.0, np.float32))
    np.testing.assert_allclose(grid[BRAIN & (grid != 0)], 3.0, rtol=1e-4)
    assert (grid[BRAIN] == 0).mean() < 0.01
    assert not grid[~BRAIN].any()


def test_map_of_another_scan_is_refused():
    with pytest.raises(ValueError, match="disagree"):
        atlas_map(STORE, np.zeros(7, np.float32))


def test_residual_is_averaged_over_seeds(tmp_path):
    path = tmp_path / "maps.npz"
    other = {"vae_kl/seed-0": np.full(3, 9.0), "statistical_atlas": np.zeros(3)}
    np.savez(path, **{"vae/seed-0": np.full(3, 1.0), "vae/seed-10": np.full(3, 2.0)}, **other)
    np.testing.assert_array_equal(read_residual(path, "vae"), np.full(3, 1.5))
    with pytest.raises(KeyError, match="no anomaly map of the method cevae"):
        read_residual(path, "cevae")


def test_outputs_lie_on_the_scans_grid(finished_run):
    for subject in ("sub-low", "sub-high", "sub-dark"):
        native = nib.load(finished_run / "cohort" / subject / "ct.nii.gz")
        for name in ("anomaly_map", "anomaly_mask", "brain_mask"):
            image = nib.load(finished_run / "handoff" / "patients" / subject / f"{name}.nii.gz")
            assert image.shape == native.shape
            np.testing.assert_allclose(image.affine, native.affine, atol=1e-4)
        counted = nib.load(finished_run / "handoff" / "patients" / subject / "anomaly_map.nii.gz")
        assert counted.get_data_dtype() == np.int16 and counted.dataobj.slope == 0.25  # HU, a step
