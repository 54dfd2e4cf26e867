"""Synthetic heads of the hand-off's tests: poses, grids, and a template with a ball for a lesion."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from PIL import Image
from scipy import ndimage
from scipy.spatial.transform import Rotation

from normct.common.anatomy import ATLAS_SHAPE, ct_atlas
from normct.common.geometry import resample
from normct.common.slices import SIZE
from normct.common.volumes import Volume


def rigid(
    pitch: float = 12.0, yaw: float = 5.0, shift: tuple[float, float, float] = (4.0, -6.0, 9.0)
) -> np.ndarray:
    """Atlas point to native point, degrees and mm."""
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", [pitch, 3.0, yaw], degrees=True).as_matrix()
    matrix[:3, 3] = shift
    return matrix


def native_grid(
    shape: tuple[int, int, int], zooms: tuple[float, float, float], flips: str = "LPS"
) -> np.ndarray:
    """Affine of a scan whose centre lies near the head's; ``flips`` are the directions of i, j, k."""
    linear = np.zeros((3, 3))
    for column, (letter, zoom) in enumerate(zip(flips, zooms, strict=True)):
        row = next(r for r, pair in enumerate(("LR", "PA", "IS")) if letter in pair)
        linear[row, column] = zoom if letter in "RAS" else -zoom
    affine = np.eye(4)
    affine[:3, :3] = linear
    affine[:3, 3] = np.array([0, -15, 15]) - linear @ (np.array(shape) - 1) / 2
    return affine


def small(data: np.ndarray) -> np.ndarray:
    """240×240 to 128×128, as preprocessing does it; [z, y, x]."""
    planes = [
        Image.fromarray(p.astype(np.float32)).resize((SIZE, SIZE), Image.Resampling.BILINEAR) for p in data
    ]
    return np.stack([np.asarray(p) for p in planes])


@lru_cache(maxsize=1)
def template():
    """HU of the atlas brain with CSF, skull and scalp around it; its mask."""
    image, mask = ct_atlas()
    distance = ndimage.distance_transform_edt(mask.data == 0)
    around = np.where(distance < 3, 8, np.where(distance < 9, 1000, np.where(distance < 15, 40, -1000)))
    return Volume(np.where(mask.data > 0, image.data, around).astype(np.float32), image.affine), mask


@lru_cache(maxsize=4)
def ball_mask(ball) -> np.ndarray:
    """Voxels of the atlas grid within the ball (atlas mm: x, y, z, radius) and the brain."""
    image, mask = template()
    world = np.indices(ATLAS_SHAPE).reshape(3, -1).T @ image.affine[:3, :3].T + image.affine[:3, 3]
    near = ((world - ball[:3]) ** 2).sum(axis=1) <= ball[3] ** 2
    return near.reshape(ATLAS_SHAPE) & (mask.data > 0)


@lru_cache(maxsize=4)
def with_ball(ball, delta) -> np.ndarray:
    """HU of the template with a ball that is denser by ``delta``."""
    return template()[0].data + np.float32(delta) * ball_mask(ball)


def head(shape, affine, points, ball, delta, seed=0):
    """HU of a head on a native grid, with a ball (atlas mm); the ball on the atlas grid."""
    image, mask = template()
    inside = ball_mask(ball)
    native = resample(
        Volume(with_ball(ball, delta), image.affine), shape, affine, np.linalg.inv(points), fill=-1000
    ).data
    native += np.random.default_rng(seed).normal(0, 4, shape).astype(np.float32)
    return np.clip(np.rint(native), -1024, 3071).astype(np.int16), mask, inside
