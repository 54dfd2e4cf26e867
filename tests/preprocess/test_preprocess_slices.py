"""Slices: geometry, values, masks, lesion, and the files they go into."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.spatial.transform import Rotation

from factories import ellipsoid
from normct.common.anatomy import ATLAS_SHAPE
from normct.common.files import write_json
from normct.common.geometry import write_transform
from normct.common.slices import read_slices
from normct.common.volumes import Volume, read_volume, write_volume
from normct.preprocess import nifti_slices, slices

AFFINE = np.array([[1.0, 0, 0, -120], [0, 1, 0, -138], [0, 0, 1, -70], [0, 0, 0, 1]])
SETTINGS = {"normalisation": "window", "window": [0, 80], "min_brain_pixels": 10}
INK = (150, 90, 60)  # x, y, z on the atlas grid: right, back, low


def scan() -> tuple[Volume, Volume, Volume]:
    """Brain at 35 HU with a hyperdense cube off centre, its mask, and a lesion mask on a 1×1×3 grid."""
    mask = ellipsoid(ATLAS_SHAPE, (120, 120, 75), (65, 82, 60))
    hu = np.where(mask, 35, -1024).astype(np.int16)
    cube = tuple(slice(c - 4, c + 5) for c in INK)
    hu[cube] = 70
    lesion = np.zeros((240, 240, 52), np.uint8)
    lesion[INK[0] - 4 : INK[0] + 5, INK[1] - 4 : INK[1] + 5, 19:22] = 1
    thick = AFFINE @ np.diag([1.0, 1, 3, 1])
    return Volume(hu, AFFINE), Volume(mask.astype(np.uint8), AFFINE), Volume(lesion, thick)


def make(points=None, interpolation="linear", **changed):
    brain, mask, lesion = scan()
    return slices.make_slices(
        "sub-a", brain, mask, lesion, np.eye(4) if points is None else points,
        affine=AFFINE, interpolation=interpolation, settings=SETTINGS | changed,
    )  # fmt: skip


def test_off_centre_marker_lands_at_its_z_y_x():
    store = make()
    z, y, x = (round(float(v)) for v in np.argwhere(store.lesion).mean(axis=0))
    assert (x, y, z) == INK
    bright = np.argwhere(store.image > 0.8).mean(axis=0)
    small = [(c + 0.5) * 128 / 240 - 0.5 for c in INK[:2]]
    np.testing.assert_allclose(bright, [INK[2], small[1], small[0]], atol=0.3)


def test_known_motion_is_undone():
    """A transform that maps atlas points to native ones brings a moved brain back."""
    motion = np.eye(4)
    motion[:3, :3] = Rotation.from_euler("xyz", [12, -5, 8], degrees=True).as_matrix()
    motion[:3, 3] = [4, -7, 9]
    brain, mask, lesion = (Volume(v.data, motion @ v.affine) for v in scan())
    moved = slices.make_slices(
        "sub-a", brain, mask, lesion, motion, affine=AFFINE, interpolation="linear", settings=SETTINGS
    )
    still = make()
    np.testing.assert_array_equal(moved.brain, still.brain)
    np.testing.assert_array_equal(moved.lesion, still.lesion)
    np.testing.assert_allclose(moved.image.astype(float), still.image, atol=2e-3)


@pytest.mark.parametrize("interpolation", ["linear", "nearestNeighbor"])
def test_rim_holds_brain_only(interpolation):
    turn = np.eye(4)
    turn[:3, :3] = Rotation.from_euler("z", 17, degrees=True).as_matrix()
    store = make(turn, interpolation)
    inside = store.image[store.mask].astype(float)
    assert inside.min() == pytest.approx(35 / 80, abs=2e-3)
    assert (store.image[~store.mask] == 0).all()


def test_window_maps_hu_to_unit_and_clips():
    hu = np.array([[[-20.0, 0, 20, 80, 300]]], np.float32)
    inside = np.array([[[True, True, True, True, True]]])
    np.testing.assert_allclose(slices.normalise(hu, inside, "window", (0, 80)), [[[0, 0, 0.25, 1, 1]]])
    assert slices.normalise(hu, ~inside, "window", (0, 80)).max() == 0


def test_min_max_over_the_volume_or_the_slice():
    hu = np.array([[[10.0, 30, 999]], [[20, 50, 999]], [[5, 5, 5]]], np.float32)
    inside = np.array([[[True, True, False]], [[True, True, False]], [[False] * 3]])
    np.testing.assert_allclose(
        slices.normalise(hu, inside, "volume", (0, 80)), [[[0, 0.5, 0]], [[0.25, 1, 0]], [[0, 0, 0]]]
    )
    np.testing.assert_allclose(
        slices.normalise(hu, inside, "slice", (0, 80)), [[[0, 1, 0]], [[0, 1, 0]], [[0, 0, 0]]]
    )


def test_shrinking_is_antialiased_and_keeps_the_mean():
    rng = np.random.default_rng(0)
    image = rng.random((1, 240, 240), np.float32)
    small, mask = slices.shrink(image, np.ones(image.shape, bool))
    assert mask.all()
    assert small.mean() == pytest.approx(image.mean(), abs=5e-3)
    assert small.std() < 0.75 * image.std()


def test_pixels_are_counted_on_the_240_grid_and_few_are_unusable():
    store = make()
    table = store.table()
    assert len(table) == 155
    _, mask, _ = scan()
    np.testing.assert_array_equal(table["brain_pixels"], mask.data.sum(axis=(0, 1)))
    assert table["lesion_pixels"].sum() == 81 * 9
    np.testing.assert_array_equal(table["usable"], table["brain_pixels"] >= 10)
    assert not make(min_brain_pixels=10**6).usable.any()


def test_lesion_outside_the_brain_mask_is_not_forgiven():
    brain, mask, lesion = scan()
    blind = Volume(np.where(np.arange(240)[:, None, None] < 140, mask.data, 0).astype(np.uint8), AFFINE)
    store = slices.make_slices(
        "sub-a", brain, blind, lesion, np.eye(4), affine=AFFINE, interpolation="linear", settings=SETTINGS
    )
    assert store.lesion.sum() == 81 * 9


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    brain, mask, lesion = scan()
    for name, volume in (("brain", brain), ("mask", mask), ("lesion", lesion), ("atlas", mask)):
        write_volume(tmp_path / f"{name}.nii.gz", volume)
    write_transform(tmp_path / "t.mat", np.eye(4))
    write_json(tmp_path / "import.json", {"has_lesion_mask": True})
    write_json(tmp_path / "quality.json", {"participant_id": "sub-a", "verdict": "pass"})
    names = ("brain.nii.gz", "mask.nii.gz", "t.mat", "atlas.nii.gz", "lesion.nii.gz", "import.json",
             "quality.json", "slices.npz", "slices.tsv")  # fmt: skip
    return [str(tmp_path / name) for name in names]


def test_command_line_writes_store_and_table_the_same_twice(files: list[str], tmp_path: Path):
    arguments = [*files, "--settings", json.dumps(SETTINGS), "--interpolation", "linear"]
    slices.main(arguments)
    store, first = read_slices(files[-2]), Path(files[-1]).read_bytes()
    assert store.has_lesion_mask
    assert store.lesion.sum() == 81 * 9
    assert list(pd.read_csv(files[-1], sep="\t").columns) == [
        "participant_id", "z", "brain_pixels", "lesion_pixels", "usable"
    ]  # fmt: skip
    slices.main(arguments)
    assert Path(files[-1]).read_bytes() == first
    nifti_slices.main([files[-2], files[3], str(tmp_path / "nifti")])
    written = sorted((tmp_path / "nifti").iterdir())
    assert len(written) == 155
    one = read_volume(written[INK[2]])
    np.testing.assert_array_equal(one.data[:, :, 0].T, store.image[INK[2]].astype(np.float32))
    peak = np.argwhere(one.data > 0.8).mean(axis=0)
    np.testing.assert_allclose(
        one.affine[:3, :3] @ peak + one.affine[:3, 3], AFFINE[:3, :3] @ INK + AFFINE[:3, 3], atol=0.6
    )


def test_failed_scan_gives_an_empty_store_and_no_files(files: list[str], tmp_path: Path):
    write_json(files[6], {"participant_id": "sub-a", "verdict": "fail"})
    slices.main([*files, "--settings", json.dumps(SETTINGS)])
    assert read_slices(files[-2]).set_aside
    assert pd.read_csv(files[-1], sep="\t").empty
    nifti_slices.main([files[-2], files[3], str(tmp_path / "nifti")])
    assert list((tmp_path / "nifti").iterdir()) == []
