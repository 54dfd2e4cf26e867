"""Connected regions of a signed map at many thresholds, and which lesions they hit."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components, minimum_spanning_tree

from normct.common.slices import GRID, SIZE

VOXEL_ML = (GRID / SIZE) ** 2 / 1000.0
"""Volume of a pixel of the 128×128 slices at 1 mm distance."""
SMALLEST_ML = 0.1
"""Smaller regions are dropped: they are noise, and no reader would look at them."""
HIT_IOU = 0.1
"""Overlap over union from which a region counts as having found a lesion."""
_HALF = [offset for offset in product((-1, 0, 1), repeat=3) if offset > (0, 0, 0)]


@lru_cache(maxsize=1)
def _overlap() -> NDArray[np.float32]:
    """Share of each of the 128 pixels that each of the 240 covers, shape (128, 240)."""
    step = GRID / SIZE
    low, high = np.arange(SIZE) * step, (np.arange(SIZE) + 1) * step
    left = np.arange(GRID)
    shared = np.minimum(high[:, None], left + 1) - np.maximum(low[:, None], left)
    return np.asarray(np.clip(shared, 0, None) / step, np.float32)


def coverage(lesion: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return the share of each pixel of the 128×128 slices that a mask on the 1 mm grid covers.

    Parameters
    ----------
    lesion : ndarray of bool
        Shape (155, 240, 240).

    Returns
    -------
    ndarray of float32
        Shape (155, 128, 128), in [0, 1]; its sum times ``VOXEL_ML`` is the mask's volume.
    """
    found = np.zeros((len(lesion), SIZE, SIZE), np.float32)
    weights = _overlap()
    for z in np.flatnonzero(lesion.any(axis=(1, 2))):
        found[z] = weights @ lesion[z].astype(np.float32) @ weights.T
    return found


def lesions(mask: NDArray[np.bool_]) -> list[NDArray[np.float32]]:
    """Return each lesion of a scan as :func:`coverage`.

    Pieces (26 neighbours) under 0.1 mL are dropped, as they are of the map, but for the largest: a scan with
    a marked lesion has at least one.
    """
    box = ndimage.find_objects(mask.astype(np.uint8))
    if not box:
        return []
    labels, _ = ndimage.label(mask[box[0]], np.ones((3, 3, 3)))
    sizes = np.bincount(labels.ravel())[1:]
    result = []
    for number, size in enumerate(sizes, 1):
        if size / 1000.0 >= SMALLEST_ML or size == sizes.max():
            one = np.zeros_like(mask)
            one[box[0]] = labels == number
            result.append(coverage(one))
    return result


class Forest:
    """Regions (26 neighbours, each sign apart) of a map at any threshold from ``lowest`` up.

    The neighbourhood graph is reduced once to its spanning forest of strongest links, which connects the same
    voxels at every threshold, so that each further threshold costs next to nothing.

    Parameters
    ----------
    volume : ndarray
        Signed map, shape (z, y, x); 0 outside the brain.
    lowest : float
        Absolute value that a voxel must exceed to be kept at all.
    """

    def __init__(self, volume: NDArray[np.float32], lowest: float) -> None:
        inside = np.abs(volume) > lowest
        self.where = np.flatnonzero(inside)
        values = volume.ravel()[self.where]
        self.strength = np.abs(values)
        index = np.full(tuple(n + 2 for n in volume.shape), -1, np.int32)
        index[1:-1, 1:-1, 1:-1][inside] = np.arange(len(self.where))
        at = np.flatnonzero(index.ravel() >= 0)
        steps = [int(np.dot(o, (index.shape[1] * index.shape[2], index.shape[2], 1))) for o in _HALF]
        first = np.tile(np.arange(len(at), dtype=np.int32), len(steps))
        second = index.ravel()[np.concatenate([at + step for step in steps])] if len(at) else first
        keep = second >= 0
        first, second = first[keep], second[keep]
        keep = np.sign(values[first]) == np.sign(values[second])
        first, second = first[keep], second[keep]
        link = np.minimum(self.strength[first], self.strength[second]).astype(np.float64)
        n = len(self.where)
        # a shortest forest of "top minus strength" is one of strongest links; 0 would be no edge at all
        top = float(self.strength.max(initial=0.0)) + 1.0
        tree = minimum_spanning_tree(coo_matrix((top - link, (first, second)), shape=(n, n)).tocsr()).tocoo()
        self.edges = np.stack([tree.row, tree.col])
        self.link = np.minimum(self.strength[tree.row], self.strength[tree.col])

    def at(self, threshold: float) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Return the voxels above a threshold (flat indices) and the region of each, counted from 0."""
        active = np.flatnonzero(self.strength > threshold)
        place = np.full(len(self.where), -1)
        place[active] = np.arange(len(active))
        first, second = place[self.edges[:, self.link > threshold]]
        shape = (len(active), len(active))
        _, region = connected_components(coo_matrix((np.ones(len(first)), (first, second)), shape), False)
        return self.where[active], region.astype(np.intp)


def hits(
    where: NDArray[np.intp], region: NDArray[np.intp], targets: list[NDArray[np.float32]]
) -> tuple[NDArray[np.bool_], int]:
    """Return which lesions are hit, and how many regions of at least 0.1 mL there are.

    A hit is an overlap over union of at least 0.1 with one region; a region finds one lesion only, and regions
    and lesions are paired so that the most are hit.

    Parameters
    ----------
    where, region
        From :meth:`Forest.at`.
    targets : list of ndarray
        From :func:`lesions`, in the same frame as the map.
    """
    sizes = np.bincount(region)
    large = np.flatnonzero(sizes * VOXEL_ML >= SMALLEST_ML)
    found = np.zeros(len(targets), bool)
    if len(targets) and len(large):
        overlap = np.zeros((len(targets), len(large)))
        for row, target in enumerate(targets):
            shared = np.bincount(region, weights=target.ravel()[where], minlength=len(sizes))[large]
            overlap[row] = shared / (float(target.sum()) + sizes[large] - shared)
        rows, columns = linear_sum_assignment((overlap >= HIT_IOU) + 1e-6 * overlap, maximize=True)
        found[rows] = overlap[rows, columns] >= HIT_IOU
    return found, len(large)


def sweep(
    volume: NDArray[np.float32], thresholds: NDArray[np.float64], targets: list[NDArray[np.float32]]
) -> Iterator[tuple[NDArray[np.bool_], int]]:
    """Yield :func:`hits` at each threshold, in their order."""
    forest = Forest(volume, float(np.min(thresholds)))
    for threshold in thresholds:
        yield hits(*forest.at(float(threshold)), targets)
