"""Transforms agree with ANTs, and a map comes back to the voxels it came from."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from scipy.ndimage import gaussian_filter
from scipy.spatial.transform import Rotation

from normct.common.geometry import angles_deg, read_transform, resample, to_native, write_transform
from normct.common.volumes import Volume, read_volume, write_volume


def rigid(angles: tuple[float, float, float], shift: tuple[float, float, float]) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    matrix[:3, 3] = shift
    return matrix


@pytest.fixture
def smooth() -> Volume:
    rng = np.random.default_rng(0)
    data = gaussian_filter(rng.standard_normal((40, 48, 36)), 3).astype(np.float32) * 100
    affine = np.array([[1.0, 0, 0, -20], [0, 1, 0, -24], [0, 0, 1, -18], [0, 0, 0, 1]])
    return Volume(data, affine)


def test_a_transform_file_means_to_ants_what_it_means_to_us(tmp_path, smooth):
    ants = pytest.importorskip("ants")
    matrix = rigid((12, -7, 5), (3, -2, 4))
    write_transform(tmp_path / "t.mat", matrix)
    write_volume(tmp_path / "v.nii.gz", smooth)
    image = ants.image_read(str(tmp_path / "v.nii.gz"))
    theirs = ants.apply_transforms(image, image, [str(tmp_path / "t.mat")], interpolator="linear").numpy()
    ours = resample(smooth, smooth.data.shape, smooth.affine, matrix).data
    inner = (slice(10, -10),) * 3
    np.testing.assert_allclose(ours[inner], theirs[inner], atol=0.02)


def test_ants_own_rigid_files_are_read(tmp_path):
    ants = pytest.importorskip("ants")
    transform = ants.create_ants_transform(
        transform_type="Euler3DTransform",
        center=(4.0, 5.0, 6.0),
        matrix=Rotation.from_euler("z", 20, degrees=True).as_matrix(),
        translation=(1.0, 2.0, 3.0),
    )
    ants.write_transform(transform, str(tmp_path / "euler.mat"))
    matrix = read_transform(tmp_path / "euler.mat")
    lps = np.array([7.0, -3.0, 2.0])
    expected = np.array(transform.apply_to_point(lps))
    ras = matrix @ np.append(lps * [-1, -1, 1], 1)
    np.testing.assert_allclose(ras[:3] * [-1, -1, 1], expected, atol=1e-4)


@given(
    angles=st.tuples(*[st.floats(-40, 40)] * 3),
    shift=st.tuples(*[st.floats(-50, 50)] * 3),
)
@settings(max_examples=50, deadline=None)
def test_a_written_transform_is_read_back(tmp_path_factory, angles, shift):
    path = tmp_path_factory.mktemp("t") / "t.mat"
    matrix = rigid(angles, shift)
    write_transform(path, matrix)
    np.testing.assert_allclose(read_transform(path), matrix, atol=1e-9)
    np.testing.assert_allclose(angles_deg(matrix), angles, atol=1e-6)


@given(
    order=st.permutations([0, 1, 2]),
    flips=st.tuples(*[st.sampled_from([-1, 1])] * 3),
    angles=st.tuples(*[st.floats(-25, 25)] * 3),
    zooms=st.tuples(st.floats(0.7, 1.5), st.floats(0.7, 1.5), st.floats(0.7, 2.0)),
    shear=st.floats(-0.3, 0.3),
)
@settings(max_examples=25, deadline=None)
def test_a_lesion_comes_back_to_its_own_voxels(order, flips, angles, zooms, shear):
    """Any axis order, flip, oblique or sheared grid: native to atlas and back overlaps by 0.8 and more."""
    axes = np.zeros((3, 3))
    for row, (column, flip) in enumerate(zip(order, flips, strict=True)):
        axes[column, row] = flip * zooms[row]
    sheared = np.eye(3)
    sheared[1, 2] = shear
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix() @ sheared @ axes
    shape = tuple(int(90 / z) for z in zooms)
    affine[:3, 3] = -affine[:3, :3] @ (np.array(shape) / 2) + [2, -3, 1]
    grid = (
        np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), -1) @ affine[:3, :3].T
        + affine[:3, 3]
    )
    lesion = (np.linalg.norm(grid - [6.0, -8.0, 4.0], axis=-1) < 12).astype(np.uint8)
    native = Volume(lesion, affine)
    pose = rigid((8, -4, 6), (3, 2, -4))
    atlas = np.eye(4)
    atlas[:3, 3] = -60
    forward = resample(native, (120, 120, 120), atlas, pose, order=0)
    back = to_native(forward, native, pose, order=0)
    assert back.data.shape == native.data.shape
    np.testing.assert_array_equal(back.affine, native.affine)
    assert 2 * (back.data & lesion).sum() / (back.data.sum() + lesion.sum()) > 0.8


def test_volumes_round_trip_with_the_same_bytes(tmp_path, smooth):
    for name in ("a.nii.gz", "b.nii.gz"):
        write_volume(tmp_path / name, smooth)
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()
    back = read_volume(tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(back.data, smooth.data)
    np.testing.assert_allclose(back.affine, smooth.affine)
    assert back.zooms.tolist() == [1, 1, 1]


def test_a_tilted_affine_is_seen_as_sheared(smooth):
    tilted = smooth.affine.copy()
    tilted[1, 2] = 0.3
    assert Volume(smooth.data, tilted).sheared
    assert not Volume(smooth.data, rigid((20, 10, 5), (0, 0, 0)) @ smooth.affine).sheared


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32])
def test_nearest_neighbour_gives_the_values_of_scipy(dtype):
    rng = np.random.default_rng(5)
    volume = Volume(rng.integers(0, 99, (13, 17, 11)).astype(dtype), np.diag([0.9, 1.1, 2.5, 1.0]))
    points = np.eye(4)
    points[:3, :3] = Rotation.from_euler("xyz", (25, -14, 8), degrees=True).as_matrix()
    points[:3, 3] = (3.3, -2.1, 1.7)
    affine = np.diag([-1.0, 1.0, 1.0, 1.0])
    affine[0, 3] = 12
    index = np.linalg.inv(volume.affine) @ points @ affine
    expected = ndimage.affine_transform(
        volume.data, index[:3, :3], index[:3, 3], output_shape=(20, 21, 22), order=0, cval=7, prefilter=False
    )
    found = resample(volume, (20, 21, 22), affine, points, order=0, fill=7).data
    assert (found != 7).sum() > 500
    assert found.dtype == dtype
    assert np.array_equal(found, expected)
