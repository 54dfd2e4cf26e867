"""Skull stripping by CT morphology: what is soft, deep and walled in by bone is brain. Needs only scipy.

The topology (which soft tissue is intracranial, where the foramen magnum and the orbits leak) is decided on
2 mm blocks, where noise is averaged and distances are cheap; the border is drawn at 1 mm, by density. The
steps are those of threshold-and-open methods for head CT, with enclosure by bone in place of a seed.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from normct.common.volumes import Volume, box_of

BONE_HU = 160.0  # above fresh clotted blood (about 90), below bone thinned by a thick slice
SOFT_MARGIN_HU = (30.0, 15.0)  # below and above the configured range: noise and partial volume at the border
WALLS = 4  # of five directions: an open vertex, a burr hole or a craniectomy leaves one without bone
CORE_MM = 6.0  # half the width of the widest gap that opening must close (orbital fissures, C1 to occiput)
CANAL_MM = 10.0  # half the width of the spinal canal at the foramen magnum, with its ligaments

Mask = NDArray[np.bool_]


def _blocks(data: NDArray, reduce: np.ufunc) -> NDArray:
    """Reduce 2×2×2 blocks by ``np.add`` or ``np.maximum``; an odd last layer is repeated."""
    for axis in range(3):
        size = data.shape[axis]
        even = data.take(range(0, size, 2), axis)
        odd = data.take([min(i + 1, size - 1) for i in range(0, size, 2)], axis)
        data = reduce(even, odd)
    return data


def _neighbours(mask: Mask) -> Iterator[tuple[tuple[slice, ...], tuple[slice, ...]]]:
    """Yield, for each of six directions, where a voxel is and where its neighbour is."""
    for axis in range(mask.ndim):
        low, high = [slice(None)] * mask.ndim, [slice(None)] * mask.ndim
        low[axis], high[axis] = slice(None, -1), slice(1, None)
        yield tuple(low), tuple(high)
        yield tuple(high), tuple(low)


def dilate(mask: Mask, steps: int) -> Mask:
    """Dilate by ``steps`` voxels, six neighbours; scipy's, at a fifth of its cost on a large array."""
    for _ in range(steps):
        grown = mask.copy()
        for here, there in _neighbours(mask):
            grown[here] |= mask[there]
        mask = grown
    return mask


def erode(mask: Mask, steps: int) -> Mask:
    """Erode by ``steps`` voxels, six neighbours; the array's border is no border of the mask."""
    return np.asarray(~dilate(~mask, steps))


def _enclosed(bone: Mask) -> NDArray[np.uint8]:
    """Count, of the directions left, right, back, front and up, those in which a voxel sees bone."""
    walls = np.zeros(bone.shape, np.uint8)
    for axis in range(3):
        walls += np.flip(np.maximum.accumulate(np.flip(bone, axis), axis), axis)
        if axis < 2:
            walls += np.maximum.accumulate(bone, axis)
    return walls


def _largest(mask: Mask) -> Mask:
    labels, count = ndimage.label(mask)
    if count < 2:
        return mask
    return labels == int(np.argmax(np.bincount(labels.ravel())[1:])) + 1


def _distance(mask: Mask, sampling: float) -> NDArray[np.float32]:
    """Distance in mm to the nearest voxel outside ``mask``; the border of the array is not outside."""
    return ndimage.distance_transform_edt(mask, sampling=sampling).astype(np.float32)


def _opened(mask: Mask, radius: float, sampling: float, keep: float = 2.0) -> Mask:
    """Erode by ``radius`` mm, keep the largest part, grow it back (and ``keep`` mm more) within ``mask``."""
    result = np.zeros_like(mask)
    if not mask.any():
        return result
    part = box_of(mask, 1)  # distances are dear, and those beyond are not asked for
    core = np.zeros_like(mask)
    core[part] = _largest(_distance(mask[part], sampling) > radius)
    if core.any():
        near = box_of(core, int((radius + keep) / sampling) + 1)
        result[near] = mask[near] & (_distance(~core[near], sampling) <= radius + keep)
    return result


def _filled(mask: Mask) -> Mask:
    """Fill holes: background that no path of six neighbours leads out of (a third of scipy's time)."""
    labels, count = ndimage.label(~mask)
    open_air = np.zeros(count + 1, bool)
    for axis in range(3):
        for end in (0, -1):
            open_air[labels.take(end, axis)] = True
    open_air[0] = False  # the mask itself
    return ~open_air[labels]


def _coarse(data: NDArray[np.float32], hu_range: tuple[float, float], sampling: float) -> Mask:
    """Intracranial soft tissue on 2 mm blocks."""
    mean = _blocks(data, np.add) / 8
    bone = _blocks(data, np.maximum) > BONE_HU
    soft = (mean > hu_range[0] - SOFT_MARGIN_HU[0]) & (mean < hu_range[1] + SOFT_MARGIN_HU[1])
    # sutures and thin bone leave pinholes: a closed wall keeps scalp and brain apart
    wall = erode(dilate(np.pad(bone, 2), 2), 2)[2:-2, 2:-2, 2:-2]
    inside = soft & ~bone & (_enclosed(wall) >= WALLS)
    brain = _opened(inside, CORE_MM, sampling)
    # the canal below the foramen magnum is enclosed too; only a wider ball tells it from the posterior fossa
    trunk = _opened(brain, CANAL_MM, sampling, keep=4.0)
    return trunk if trunk.any() else brain


def extract(head: Volume, hu_range: tuple[float, float]) -> Mask:
    """Return the intracranial mask of a head CT.

    Parameters
    ----------
    head : Volume
        HU, isotropic, axes nearest to RAS+.
    hu_range : tuple of float
        Brain tissue in HU. Blood denser than this, calcifications and other enclosed holes are filled.

    Returns
    -------
    ndarray of bool
        The shape of ``head``; all False when nothing soft is walled in by bone.
    """
    shape, spacing = head.data.shape, float(head.zooms.mean())
    if min(shape) < 8:
        return np.zeros(shape, bool)
    data = head.data.astype(np.float32)
    coarse = _coarse(data, hu_range, 2 * spacing)
    if not coarse.any():
        return np.zeros(shape, bool)
    found = box_of(coarse)
    box = tuple(
        slice(max(0, 2 * s.start - 8), min(n, 2 * s.stop + 8)) for s, n in zip(found, shape, strict=True)
    )
    grown = dilate(coarse, 2)
    near = grown.repeat(2, 0).repeat(2, 1).repeat(2, 2)[: shape[0], : shape[1], : shape[2]][box]
    smooth = ndimage.gaussian_filter(data[box], 0.7 / spacing)
    # bone's neighbours are judged by their own density too, or smoothing would cost blood at the inner table
    hard = np.minimum(smooth, data[box]) > hu_range[1]
    soft = near & (smooth > hu_range[0] - SOFT_MARGIN_HU[0]) & ~hard
    mask = np.zeros(shape, bool)
    mask[box] = _tidy(soft, hard, spacing)
    return mask


def _tidy(soft: Mask, hard: Mask, spacing: float) -> Mask:
    """Detach slivers, close sulci and calcifications, fill holes, round the border, and take bone off it."""

    def voxels(mm: float) -> int:
        return max(1, round(mm / spacing))

    thin, wide = voxels(2.0), voxels(3.0)
    brain = dilate(_largest(erode(soft, thin)), thin) & soft
    closed = erode(dilate(brain, wide), wide)
    rounded = ndimage.gaussian_filter(_filled(closed).astype(np.float32), 1.0 / spacing) > 0.5
    # closing also bridges into the skull's inner table; calcifications and blood lie deeper or are less dense
    rim = rounded & ~erode(rounded, wide)
    clean = rounded & ~(rim & hard)
    clean = _largest(dilate(erode(clean, voxels(1.0)), voxels(1.0)))
    # thin blood and cortex at the inner table, which opening and rounding cost
    return clean | (dilate(clean, voxels(1.0)) & soft)
