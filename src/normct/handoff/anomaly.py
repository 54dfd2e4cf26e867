"""From the residual of brain pixels at 128×128 to an anomaly map on the original scan's own grid."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from normct.common.geometry import to_native
from normct.common.slices import GRID, SIZE, SliceStore
from normct.common.volumes import Volume, moved

SLAB = 16
"""Slices that are sampled and filled in together."""
COARSEST_MM = 1.0
"""Voxels of half of it or less are filled in between samples no further apart than this."""


@lru_cache(maxsize=1)
def _interpolation() -> NDArray[np.float32]:
    """Linear interpolation from 128 to 240 pixels, pixel areas (not centres) aligned; shape (240, 128)."""
    position = np.clip((np.arange(GRID) + 0.5) * SIZE / GRID - 0.5, 0, SIZE - 1)
    low = np.minimum(position.astype(int), SIZE - 2)
    weights = np.zeros((GRID, SIZE), np.float32)
    weights[np.arange(GRID), low] = 1 - (position - low)
    weights[np.arange(GRID), low + 1] = position - low
    return weights


def read_residual(path: str | Path, method: str, any_network: bool = False) -> NDArray[np.float32]:
    """Return a method's signed map, averaged over its seeds.

    Parameters
    ----------
    path : str or Path
        ``score/maps/<sub>.npz``, keys ``<method>/seed-<n>``, or ``score/calibrated/<sub>.npz``,
        keys ``<method>``.
    method : str
        Name in the registry.
    any_network : bool
        For a method that restores no image (``fused``, ``statistical_atlas``): the mean of all networks.

    Returns
    -------
    ndarray
        Shape (brain pixels,), in the order of ``SliceStore.mask``.

    Raises
    ------
    KeyError
        If the file holds no map of the method.
    """
    with np.load(path, allow_pickle=False) as content:
        names = sorted(n for n in content.files if n == method or n.startswith(f"{method}/seed-"))
        if any_network and not any(n.startswith(f"{method}/") for n in names):
            names = sorted(n for n in content.files if "/seed-" in n)
        if not names:
            raise KeyError(f"no anomaly map of the method {method}")
        # one network after the other: there may be dozens
        total = np.zeros_like(content[names[0]], np.float32)
        for name in names:
            total += content[name]
        return total / np.float32(len(names))


def atlas_map(store: SliceStore, residual: NDArray[np.float32]) -> NDArray[np.float32]:
    """Spread the residual of brain pixels over the 1 mm atlas grid.

    The inverse of the preprocess resize. Values are interpolated among brain pixels only, so that the
    background's zeros do not thin out what lies at the brain's rim (a subdural does).

    Parameters
    ----------
    store : SliceStore
        Slices of the scan.
    residual : ndarray
        Shape (brain pixels,): values at ``store.mask``.

    Returns
    -------
    ndarray
        Shape (155, 240, 240), [z, y, x]; 0 outside ``store.brain``.
    """
    if residual.shape != (int(store.mask.sum()),):
        raise ValueError("the anomaly map and the slices disagree about the number of brain pixels")
    small = np.zeros(store.mask.shape, np.float32)
    small[store.mask] = residual
    up = _interpolation()
    filled = np.flatnonzero(store.mask.any(axis=(1, 2)))
    result = np.zeros(store.brain.shape, np.float32)
    for z in filled:  # slice by slice: a tenth of the memory
        weight = up @ store.mask[z].astype(np.float32) @ up.T
        near = store.brain[z] & (weight > 1e-3)
        result[z][near] = (up @ small[z] @ up.T)[near] / weight[near]
    return result


def native_map(
    values: NDArray[np.float32],
    atlas_affine: NDArray[np.float64],
    shape: Sequence[int],
    affine: NDArray[np.float64],
    transform: NDArray[np.float64],
    *,
    inside: NDArray[np.bool_] | None = None,
    step: float = 1 / 16,
) -> Volume:
    """Carry a map [z, y, x] of the atlas grid onto the grid of the original scan, linearly.

    Voxels under half a millimetre are filled in between every second (third ...) one: the map, made of pixels of
    1.9 mm, holds nothing finer, and a scan of thin slices has a hundred million voxels.

    Parameters
    ----------
    values : ndarray
        Shape (155, 240, 240).
    atlas_affine : ndarray
        Shape (4, 4) of the atlas image.
    shape, affine
        The original scan's grid.
    transform : ndarray
        Shape (4, 4), atlas point to native point (:func:`normct.common.geometry.read_transform`).
    inside : ndarray, optional
        Boolean, same shape: the part to carry, and at least one voxel around it; all that is not 0.
    step : float
        Values are rounded to multiples of it, so that noise does not bloat the file.

    Returns
    -------
    Volume
        float32 on exactly the given grid, first axis fastest (as the file has it).
    """
    result = np.zeros(tuple(shape), np.float32, order="F")
    marked = values != 0 if inside is None else inside
    where = native_box(marked, atlas_affine, shape, affine, transform)
    size = np.array([s.stop - s.start for s in where])
    if size.min() > 0:
        zooms = np.linalg.norm(affine[:3, :3], axis=0)
        every = np.minimum(np.maximum(1, (COARSEST_MM / zooms + 1e-6).astype(int)), np.maximum(1, size - 1))
        coarse = moved(affine, where) @ np.diag([*every, 1])
        counts = tuple(int(n) for n in -(-(size - 1) // every) + 1)
        source = Volume(values.transpose(2, 1, 0), atlas_affine)
        low, high = _reach(marked, np.linalg.inv(coarse) @ transform @ atlas_affine)
        # slab by slab, each in a box of its own: it stays in the cache, and a third of a round head's box is empty
        for first in range(0, max(counts[2] - 1, 1), SLAB):
            # the next slab's first slice too: what lies between is filled in
            last = min(first + SLAB, counts[2] - 1)
            met = (low[:, 2] <= last) & (high[:, 2] > first)
            if not met.any():
                continue
            part = np.zeros((*counts[:2], last + 1 - first), np.float32, order="F")
            start, stop = low[met].min(axis=0), high[met].max(axis=0)
            start[2], stop[2] = first, last + 1
            box = _slices(start, stop, counts)
            here = (*box[:2], slice(None))
            part[here] = to_native(source, Volume(part[here], moved(coarse, box)), transform).data
            ahead = first * int(every[2])
            wanted = (*size[:2], min(size[2] - ahead, (last - first) * every[2] + 1))
            for axis in range(3):
                part = _refine(part, int(every[axis]), int(wanted[axis]), axis)
            part /= np.float32(step)  # in place: copies cost more than the sums
            np.rint(part, out=part)
            np.multiply(part, np.float32(step), out=result[where][..., ahead : ahead + part.shape[2]])
    return Volume(result, affine)


def _refine(part: NDArray[np.float32], every: int, size: int, axis: int) -> NDArray[np.float32]:
    """Fill in linearly between samples that are ``every`` voxels apart along an axis, up to ``size``."""
    if every == 1:
        return part
    shape = list(part.shape)
    shape[axis] = (part.shape[axis] - 1) * every + 1
    fine = np.empty(shape, np.float32, order="F")
    ahead, onto = np.moveaxis(part, axis, 0), np.moveaxis(fine, axis, 0)
    onto[::every] = ahead
    for place in range(1, every):
        share = np.float32(place / every)
        np.multiply(ahead[:-1], 1 - share, out=onto[place::every])
        onto[place::every] += ahead[1:] * share
    return np.moveaxis(onto[:size], 0, axis)


def native_box(
    inside: NDArray[np.bool_],
    atlas_affine: NDArray[np.float64],
    shape: Sequence[int],
    affine: NDArray[np.float64],
    transform: NDArray[np.float64],
) -> tuple[slice, ...]:
    """Return the part of the native grid that the atlas's marked voxels can reach: the rest costs nothing."""
    low, high = _reach(inside, np.linalg.inv(affine) @ transform @ atlas_affine)
    if not len(low):
        return (slice(0, 0),) * 3
    return _slices(low.min(axis=0), high.max(axis=0), shape)


def _reach(
    inside: NDArray[np.bool_], to_index: NDArray[np.float64]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return how far each slice [z] of marked voxels, and one voxel around, reaches on another grid.

    Returns
    -------
    low, high : ndarray
        Shape (slices that are not empty, 3): first index and one past the last, beyond the grid too.
    """
    lows, highs = [], []
    for z in np.flatnonzero(inside.any(axis=(1, 2))):
        y, x = (np.flatnonzero(inside[z].any(axis=axis))[[0, -1]] + (-1, 1) for axis in (1, 0))
        corners = np.array([[a, b, c, 1] for a in x for b in y for c in (z - 1, z + 1)], float)
        index = (to_index @ corners.T)[:3]
        lows.append(np.floor(index.min(axis=1)).astype(int))
        highs.append(np.ceil(index.max(axis=1)).astype(int) + 1)
    return np.array(lows).reshape(-1, 3), np.array(highs).reshape(-1, 3)


def _slices(low: NDArray[np.intp], high: NDArray[np.intp], shape: Sequence[int]) -> tuple[slice, ...]:
    """Return the part of a box that lies on a grid of this shape."""
    low = np.clip(low, 0, shape)
    high = np.clip(high, low, shape)
    return tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
