"""The morphology engine, its measures and its verdicts on data without a brain."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from factories import make_head
from normct.common.files import read_json
from normct.common.geometry import resample
from normct.common.volumes import Volume, read_volume, write_volume
from normct.preprocess import skullstrip
from normct.preprocess.engine_morphology import extract
from normct.preprocess.resample import resample_head

HU_RANGE = (0.0, 100.0)
SETTINGS = {
    "engine": "morphology", "hu_range": [0, 100], "smooth_mm": 1.0,
    "fractional_intensity": 0.01, "timeout_s": 60,
}  # fmt: skip


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * (a & b).sum() / (a.sum() + b.sum())


@pytest.fixture(scope="module")
def head() -> tuple[Volume, np.ndarray]:
    """A 1 mm head and the truth of its cranial cavity."""
    scan, cavity = make_head()
    fine = resample_head(scan)
    return fine, resample(cavity, fine.data.shape, fine.affine, order=0).data > 0


@pytest.fixture(scope="module")
def mask(head) -> np.ndarray:
    return extract(head[0], HU_RANGE)


def test_mask_is_the_cavity_and_not_the_neck(head, mask):
    assert dice(mask, head[1]) > 0.95
    assert (mask & ~head[1]).sum() < 0.02 * mask.sum()


@pytest.mark.parametrize("hu", [0.0, 90.0])
def test_lesion_at_the_inner_table_survives(head, hu):
    volume, cavity = head
    lesion_at = np.argwhere(cavity[:, :, cavity.shape[2] // 2]).max(axis=0)[0]
    i, j, k = np.ogrid[tuple(slice(0, n) for n in cavity.shape)]
    middle = np.argwhere(cavity[lesion_at]).mean(axis=0)
    ball = ((i - lesion_at) ** 2 + (j - middle[0]) ** 2 + (k - middle[1]) ** 2 <= 14**2) & cavity
    assert ball.sum() > 2000
    rng = np.random.default_rng(1)
    data = np.where(ball, hu + 4 * rng.standard_normal(ball.shape), volume.data).astype(np.int16)
    found = extract(Volume(data, volume.affine), HU_RANGE)
    # what is lost is the voxel that the inner table shares
    assert (found & ball).sum() > 0.9 * ball.sum()


def test_calcification_and_dense_clot_inside_are_filled(head):
    volume, cavity = head
    centre = np.argwhere(cavity).mean(axis=0).astype(int)
    data = volume.data.copy()
    data[tuple(slice(c - 6, c + 7) for c in centre)] = 400
    assert extract(Volume(data, volume.affine), HU_RANGE)[tuple(centre)]


def test_burr_hole_does_not_leak(head, mask):
    volume, cavity = head
    data = volume.data.copy()
    j, k = (int(v) for v in np.argwhere(cavity).mean(axis=0)[1:])
    edge = np.flatnonzero(cavity[:, j, k])[-1]
    data[edge : edge + 12, j - 5 : j + 6, k - 5 : k + 6] = 40
    assert dice(extract(Volume(data, volume.affine), HU_RANGE), mask) > 0.99


@pytest.mark.parametrize("axes", [(1, 0, 2), (2, 0, 1)])
def test_any_axis_order_gives_the_same_brain_in_world_space(axes, head, mask):
    scan, _ = make_head()
    affine = scan.affine[:, [*axes, 3]]
    flipped = affine.copy()
    flipped[:, 0] *= -1
    flipped[:3, 3] += affine[:3, 0] * (scan.data.shape[axes[0]] - 1)
    other = resample_head(Volume(scan.data.transpose(axes)[::-1], flipped))
    np.testing.assert_allclose(other.affine, head[0].affine, atol=1e-3)
    assert dice(extract(other, HU_RANGE), mask) > 0.999


def test_measures_of_a_known_mask():
    mask = np.zeros((40, 40, 40), bool)
    mask[10:30, 10:30, 10:30] = True
    volume = Volume(np.zeros(mask.shape, np.float32), np.eye(4))
    measures = skullstrip.measure(volume, mask)
    assert measures == {
        "brain_volume_ml": 8.0, "components": 1, "symmetry": 1.0,
        "border_contact_cm2": 0.0, "touches_fov_border": False,
    }  # fmt: skip
    mask[20:30] = False
    mask[32:36, 2:30, 2:30] = True
    assert skullstrip.measure(volume, mask)["components"] == 2
    assert skullstrip.measure(volume, mask)["symmetry"] < 0.6


def test_truncated_vertex_touches_the_border(head):
    volume, cavity = head
    top = np.argwhere(cavity)[:, 2].max()
    cut = Volume(volume.data[:, :, : top - 25], volume.affine)
    mask, record = skullstrip.strip(cut, SETTINGS)
    assert record["touches_fov_border"] is True
    assert record["border_contact_cm2"] > 30
    assert dice(mask, cavity[:, :, : top - 25]) > 0.93


def test_padding_of_a_tilted_scan_counts_as_border(head):
    volume, cavity = head
    top = int(np.argwhere(cavity)[:, 2].max())
    data = volume.data.copy()
    data[:, :, top - 25 :] = -1024
    record = skullstrip.strip(Volume(data, volume.affine), SETTINGS)[1]
    assert record["touches_fov_border"] is True
    assert skullstrip.strip(volume, SETTINGS)[1]["touches_fov_border"] is False


@pytest.mark.parametrize(
    ("fill", "shape", "word"),
    [(-1000, (60, 60, 60), "no brain"), (40, (60, 60, 60), "no brain"), (-1024, (1, 1, 1), "No head")],
)
def test_data_without_a_brain_gives_a_reason_and_empty_files(tmp_path: Path, fill, shape, word):
    write_volume(tmp_path / "head.nii", Volume(np.full(shape, fill, np.int16), np.eye(4)))
    names = [str(tmp_path / n) for n in ("head.nii", "brain.nii.gz", "mask.nii.gz", "record.json")]
    skullstrip.main([*names, "--settings", json.dumps(SETTINGS)])
    record = read_json(names[3])
    assert word in record["reason"]
    assert record["brain_volume_ml"] == 0.0
    assert not read_volume(names[2], None).data.any()
    assert (read_volume(names[1], None).data == -1024).all()


def test_command_line_writes_hu_inside_and_air_outside(tmp_path: Path, head):
    write_volume(tmp_path / "head.nii", head[0])
    names = [str(tmp_path / n) for n in ("head.nii", "brain.nii.gz", "mask.nii.gz", "record.json")]
    skullstrip.main([*names, "--settings", json.dumps(SETTINGS)])
    brain, mask = read_volume(names[1], None), read_volume(names[2], None)
    assert (brain.data.dtype, mask.data.dtype) == (np.int16, np.uint8)
    inside = mask.data > 0
    assert (brain.data[~inside] == -1024).all()
    np.testing.assert_array_equal(brain.data[inside], head[0].data[inside])
    np.testing.assert_allclose(brain.affine, head[0].affine, atol=1e-4)
    assert read_json(names[3])["reason"] is None
