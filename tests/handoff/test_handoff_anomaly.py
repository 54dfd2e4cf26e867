"""The way back: from the networks' 128×128 slices to the voxels of the original scan."""

import nibabel as nib
import numpy as np
import pytest
from head_case import rigid, small
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from factories import ellipsoid
from normct.common.anatomy import ATLAS_SHAPE, atlas_affine
from normct.common.slices import DEPTH, GRID, SliceStore
from normct.handoff.anomaly import atlas_map, native_map, read_residual

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
