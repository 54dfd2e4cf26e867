"""Slices for the browser: orientation for any file, packing without loss."""

import base64
import itertools
import zlib

import numpy as np
import pytest
from head_case import native_grid

from normct.common.volumes import Volume
from normct.handoff.packing import pack, pack_expected, pack_view
from normct.handoff.viewer import cut, frame, oriented

CODES = ["".join(c) for p in itertools.permutations(("RL", "AP", "SI")) for c in itertools.product(*p)]


@pytest.mark.parametrize("codes", CODES)
def test_patients_right_is_image_left_whatever_the_file(codes):
    shape = (20, 24, 28)
    affine = native_grid(shape, (2.0, 2.0, 2.0), codes)
    world = np.einsum("ab,bijk->aijk", affine[:3, :3], np.indices(shape)) + affine[:3, 3][:, None, None, None]
    x, y, z = (oriented(axis, affine) for axis in world)
    assert (np.diff(x, axis=2) < 0).all()  # columns run to the patient's left
    assert (np.diff(y, axis=1) < 0).all()  # rows run to the back
    assert (np.diff(z, axis=0) > 0).all()  # slices run to the vertex


@pytest.mark.parametrize("codes", ["LPS", "LPI", "SRA", "AIR"])
def test_finding_jumps_to_its_own_slice(codes):
    shape = (30, 40, 50)
    affine = native_grid(shape, (2.0, 2.0, 2.0), codes)
    data = np.full(shape, -1000, np.float32)
    data[5:25, 5:35, 5:45] = 40
    voxel = [10, 20, 30]
    data[10, 20, 30] = 3000
    ct = Volume(data, affine)
    view = frame(ct, data > 0, 256, 200)
    shown = cut(data, affine, view)
    z, row, column = view.place(voxel)
    assert np.abs(np.array(np.unravel_index(shown[z].argmax(), shown[z].shape)) - (row, column)).max() <= 1
    ring = view.ring(voxel, [voxel, voxel])
    assert (ring["go"], ring["from"], ring["to"]) == (z, z, z)
    assert shown[z].max() > 1000 and shown[z].max() == shown.max()
    assert view.number(int(view.slices[z])) == voxel[view.axis] + 1


def unpack(text: str, dtype, shape):
    return np.frombuffer(zlib.decompress(base64.b64decode(text)), dtype).reshape(shape)


def test_packing_is_lossless_in_hu():
    rng = np.random.default_rng(0)
    hu = rng.integers(-1024, 3071, (3, 8, 9)).astype(np.float32)
    difference = rng.integers(-127, 127, (3, 8, 9)).astype(np.float32)
    data = pack(hu, difference, 1.0)
    low, high = unpack(data["ct"], np.uint8, (2, -1)).astype(np.uint16)
    delta = (low | high << 8).reshape(hu.shape)
    back = np.cumsum(delta, axis=-1, dtype=np.uint16).view(np.int16)
    np.testing.assert_array_equal(back, hu)
    np.testing.assert_array_equal(unpack(data["map"], np.int8, hu.shape), difference)


def test_healthy_reconstruction_keeps_half_a_hu_and_knows_the_brain():
    rng = np.random.default_rng(0)
    expected = rng.uniform(-15, 95, (2, 7, 9)).astype(np.float32)
    brain = rng.random(expected.shape) > 0.3
    text, code = pack_expected(expected, brain, [0.0, 80.0])
    back = np.cumsum(unpack(text, np.uint8, expected.shape), axis=-1, dtype=np.uint8)
    np.testing.assert_array_equal(back > 0, brain)
    hu = code["low"] + (back.astype(float) - 1) * code["step"]
    assert np.abs(hu - expected)[brain].max() <= code["step"] / 2 + 1e-3 < 0.5


def test_page_stays_small_for_a_thin_slice_scan():
    """A noisy scan of 260 slices: every other one is shown, coarser in-plane until they fit."""
    noise = np.random.default_rng(0).normal(30, 10, (256, 256, 1)).astype(np.int16)
    data = np.broadcast_to(noise, (256, 256, 260))
    ct = Volume(data, native_grid((256, 256, 260), (0.9, 0.9, 0.6)))
    size = {"pixels": 256, "max_slices": 130, "max_mb": 4}
    still = Volume(np.broadcast_to(np.float32(0), data.shape), ct.affine)
    brain = np.broadcast_to(np.uint8(1), data.shape)
    packed = pack_view(ct, brain, still, ct, 1.0, span=[0, 80], **size)
    assert len(packed["frame"].slices) == 130
    assert packed["frame"].width < 256
    assert sum(len(text) for text in packed["data"].values()) <= 4e6


def test_crop_follows_the_brain_not_the_head_holder():
    shape, zooms = (250, 250, 10), (1.0, 1.0, 5.0)
    data, brain = np.full(shape, -1000, np.float32), np.zeros(shape, np.uint8)
    data[:, 240:] = 500  # a table across the field of view
    brain[80:180, 60:200, 3:8] = 1
    view = frame(Volume(data, native_grid(shape, zooms)), brain, 256, 200)
    assert (view.columns, view.rows) == (slice(48, 212), slice(28, 232))
    assert (view.width, view.height, view.depth) == (164, 204, 10)
