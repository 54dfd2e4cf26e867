"""Resampling keeps world coordinates whatever the input's axes."""

from __future__ import annotations

from itertools import permutations, product
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from factories import make_head
from normct.common.files import write_json
from normct.common.volumes import Volume, read_volume, write_volume
from normct.preprocess import resample

MARK = np.array([60, 40, 30])  # voxel, off centre on every axis


def marked_head() -> Volume:
    """A head with a bright cube around one voxel."""
    head, _ = make_head(noise=0)
    head.data[tuple(slice(m - 1, m + 2) for m in MARK)] = 3000
    return head


def marker_world(volume: Volume) -> np.ndarray:
    """World coordinate of the bright cube's centre."""
    index = np.argwhere(volume.data > 2500).mean(axis=0)
    return volume.affine[:3, :3] @ index + volume.affine[:3, 3]


def reoriented(volume: Volume, axes: tuple[int, ...], flips: tuple[int, ...]) -> Volume:
    """The same image stored in another axis order."""
    image = nib.Nifti1Image(volume.data, volume.affine).as_reoriented(
        np.column_stack([axes, flips]).astype(float)
    )
    return Volume(np.asarray(image.dataobj), image.affine)


def test_marker_stays_in_place_and_voxels_are_one_mm():
    head = marked_head()
    result = resample.resample_head(head)
    np.testing.assert_allclose(result.zooms, 1.0, atol=1e-4)
    assert result.data.dtype == np.int16
    np.testing.assert_allclose(marker_world(result), marker_world(head), atol=0.6)


def test_values_are_linear_between_slices():
    ramp = np.broadcast_to(np.arange(12) * 100.0, (20, 20, 12)).astype(np.int16)
    result = resample.resample_head(Volume(ramp, np.diag([1.0, 1.0, 4.0, 1.0])))
    column = result.data[10, 10]
    z = result.affine[2, 3] + np.arange(len(column))
    inner = (z > 0) & (z < 44)
    np.testing.assert_allclose(column[inner], z[inner] * 25, atol=1)


@pytest.mark.parametrize("zooms", [(0.45, 0.45, 3.0), (0.9, 1.3, 0.6)])
def test_values_are_those_of_ants(zooms):
    import ants

    data = np.random.default_rng(3).integers(-200, 2000, (70, 64, 21)).astype(np.int16)
    volume = Volume(data, np.diag([*zooms, 1.0]))
    result = resample.resample_head(volume).data
    image = ants.from_numpy(data.astype(np.float32), spacing=zooms)
    expected = ants.resample_image(image, (1.0, 1.0, 1.0), use_voxels=False, interp_type=0).numpy()
    both = tuple(slice(min(pair)) for pair in zip(expected.shape, result.shape, strict=True))
    assert result[both].size > 0.9 * result.size
    assert np.abs(result[both] - expected[both]).max() <= 0.51  # rounded to whole HU


def test_any_axis_order_and_flip_is_the_same_image_in_world_space():
    head = marked_head()
    for axes, flips in product(permutations(range(3)), product((1, -1), repeat=3)):
        result = resample.canonical(reoriented(head, axes, flips))
        np.testing.assert_allclose(result.affine, head.affine, atol=1e-9)
        np.testing.assert_array_equal(result.data, head.data)


@pytest.mark.parametrize(("axes", "flips"), [((2, 0, 1), (-1, 1, 1)), ((1, 0, 2), (-1, -1, -1))])
def test_any_axis_order_and_flip_gives_the_same_resampled_head(axes, flips):
    head = marked_head()
    expected, result = resample.resample_head(head), resample.resample_head(reoriented(head, axes, flips))
    np.testing.assert_allclose(result.affine, expected.affine, atol=1e-3)
    assert result.data.shape == expected.data.shape
    assert np.abs(result.data.astype(int) - expected.data).max() <= 1


def test_oblique_scan_keeps_its_world_coordinates():
    head = marked_head()
    turn = np.eye(4)
    turn[:3, :3] = Rotation.from_euler("xyz", [20, -8, 11], degrees=True).as_matrix()
    oblique = Volume(head.data, turn @ head.affine)
    result = resample.resample_head(oblique)
    assert not result.sheared
    np.testing.assert_allclose(marker_world(result), marker_world(oblique), atol=0.6)


def test_sheared_gantry_tilt_is_straightened():
    head = marked_head()
    affine = head.affine.copy()
    affine[1, 2] = -head.zooms[2] * np.tan(np.radians(15))
    tilted = Volume(head.data, affine)
    assert tilted.sheared
    result = resample.resample_head(tilted)
    assert not result.sheared
    np.testing.assert_allclose(result.zooms, 1.0, atol=1e-6)
    np.testing.assert_allclose(marker_world(result), marker_world(tilted), atol=0.6)


def test_crop_drops_the_table_but_nothing_of_the_head():
    head, cavity = make_head(shape=(160, 180, 44), noise=0)
    table = head.data.copy()
    table[:, 5:7, :] = 200
    whole = Volume(table, head.affine)
    cropped = resample.crop_to_body(whole)
    assert cropped.data.size < 0.5 * whole.data.size
    assert (cropped.data > -300).sum() >= (head.data > -300).sum()
    low = np.linalg.inv(cropped.affine) @ head.affine @ [*np.argwhere(cavity.data).min(axis=0), 1]
    assert (low[:3] > 4).all()


def test_padding_is_clamped_to_air():
    head, _ = make_head(noise=0)
    head.data[:, :, 0] = -3024
    assert resample.resample_head(head).data.min() == resample.AIR_HU


def test_air_alone_and_a_single_slice_do_not_crash():
    air = Volume(np.full((20, 20, 5), -1000, np.int16), np.diag([1.0, 1, 5, 1]))
    assert resample.resample_head(air).data.max() <= -999
    one = Volume(np.full((20, 20, 1), 40, np.int16), np.diag([1.0, 1, 5, 1]))
    assert resample.resample_head(one).data.shape == (20, 20, 1)


def test_command_line_passes_a_set_aside_scan_on(tmp_path: Path):
    head, _ = make_head()
    write_volume(tmp_path / "ct.nii.gz", head)
    out, record = tmp_path / "head.nii", tmp_path / "import.json"
    write_json(record, {"verdict": "set_aside", "reason": "ct: empty"})
    resample.main([str(tmp_path / "ct.nii.gz"), str(out), "--import-json", str(record)])
    assert read_volume(out, None).data.shape == (1, 1, 1)
    write_json(record, {"verdict": "ok", "reason": None})
    resample.main([str(tmp_path / "ct.nii.gz"), str(out), "--import-json", str(record), "--spacing", "2"])
    result = read_volume(out, None)
    assert result.data.dtype == np.int16
    np.testing.assert_allclose(result.zooms, 2.0, atol=1e-4)
