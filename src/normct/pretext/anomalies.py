"""Artificial anomalies in healthy scans: what may help to choose a setting, or to train, in place of true lesions.

Two recipes, neither of which knows an anatomy or a disease: a *density shift* within a shape grown through smooth
noise, and a *patch*, a box blended with what lies elsewhere in the same or another scan (foreign patch interpolation:
Tan et al., MELBA 2022, arXiv 2011.04197). They are no model of pathology. What was chosen or trained with them is
outlier-exposed, and is to be reported apart.

Works on whole scans in NumPy; every draw comes from the generator that is handed in.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]

SPACING_MM = (1.0, 1.875, 1.875)
"""Of the stored slices (z, y, x)."""
VOXEL_ML = float(np.prod(SPACING_MM)) / 1000
VOLUME_ML = (0.3, 40.0)
"""Evenly in the logarithm: brains hold more small things than large ones."""
SHIFT = (0.05, 0.45)
"""Size of a density shift in stored units, evenly in the logarithm: 4 to 36 HU of a window of 80."""
BLEND = (0.6, 1.0)
"""How much of a patch comes from elsewhere, evenly."""
EDGE_MM = (1.0, 5.0)
"""Depth over which an anomaly fades in from its border, evenly."""
GRAIN = (0.4, 0.9)
"""SD of the smoothing that makes the noise, in radii of the ball of the anomaly's volume, evenly."""
STRETCH = 1.5
"""Noise and boxes are up to this much longer or shorter along each axis."""
KINDS = ("denser", "less_dense", "patch")
TRIES = 50


@dataclass(frozen=True)
class Anomaly:
    """A healthy scan with one anomaly.

    Attributes
    ----------
    image : ndarray of float16
        Shape (155, 128, 128), as stored slices are; the scan's own values outside ``mask``.
    mask : ndarray of bool
        Shape (155, 128, 128): where the anomaly is, inside the brain.
    kind : str
        One of :data:`KINDS`.
    strength : float
        Shift in stored units, or share of a patch that comes from elsewhere.
    """

    image: NDArray[np.float16]
    mask: Mask
    kind: str
    strength: float

    @property
    def volume_ml(self) -> float:
        """Return the volume of the mask in mL."""
        return float(self.mask.sum()) * VOXEL_ML


def add_anomaly(
    image: NDArray[np.float16],
    brain: Mask,
    kind: str,
    rng: np.random.Generator,
    donor: tuple[NDArray[np.float16], Mask] | None = None,
) -> Anomaly:
    """Return a healthy scan with one anomaly at a random place of its brain.

    Parameters
    ----------
    image, brain : ndarray
        Stored slices, values in [0, 1], and the brain; shape (155, 128, 128).
    kind : str
        ``denser``, ``less_dense`` or ``patch``.
    rng : Generator
    donor : tuple of ndarray, optional
        Slices and brain of the scan that a patch comes from; the scan itself without.

    Raises
    ------
    ValueError
        For another kind, or a brain that has no room for the smallest anomaly.
    """
    if kind not in KINDS:
        raise ValueError(f"no such anomaly: {kind}; there are {', '.join(KINDS)}")
    for _ in range(TRIES):
        count = round(_log_uniform(rng, VOLUME_ML) / VOXEL_ML)
        if kind == "patch":
            found, allowed = _moved(*(donor or (image, brain)), brain, rng)
            mask = _box(allowed, count, rng)
            strength = float(rng.uniform(*BLEND))
            change = strength * (found - image.astype(np.float32))
        else:
            mask = _grown(brain, count, rng)
            strength = _log_uniform(rng, SHIFT) * (1 if kind == "denser" else -1)
            change = np.full(brain.shape, strength, np.float32)
        if mask.sum() == count:
            break
    else:
        raise ValueError("the brain has no room for an anomaly")
    changed = np.clip(image + _weight(mask, float(rng.uniform(*EDGE_MM))) * change, 0, 1)
    return Anomaly(np.where(mask, changed, image).astype(np.float16), mask, kind, strength)


def _log_uniform(rng: np.random.Generator, limits: tuple[float, float]) -> float:
    return float(np.exp(rng.uniform(*np.log(limits))))


def _stretched(rng: np.random.Generator) -> NDArray[np.float64]:
    """Return a factor along each axis, the product of which is 1."""
    factors = rng.uniform(-np.log(STRETCH), np.log(STRETCH), 3)
    return np.asarray(np.exp(factors - factors.mean()))


def _around(shape: tuple[int, ...], centre: NDArray, reach_mm: float) -> tuple[slice, ...]:
    """Return the box within ``reach_mm`` of a voxel, cut to the volume."""
    reach = np.ceil(reach_mm / np.array(SPACING_MM)).astype(int) + 1
    return tuple(
        slice(max(int(c - r), 0), min(int(c + r) + 1, size))
        for c, r, size in zip(centre, reach, shape, strict=True)
    )


def _somewhere(allowed: Mask, rng: np.random.Generator) -> NDArray:
    """Return a random voxel of a mask."""
    return np.array(np.unravel_index(int(rng.choice(np.flatnonzero(allowed))), allowed.shape))


def _grown(allowed: Mask, count: int, rng: np.random.Generator) -> Mask:
    """Return ``count`` connected voxels, grown from a peak of smooth noise to the highest neighbour each time."""
    result = np.zeros(allowed.shape, bool)
    radius = (3 * count * VOXEL_ML * 1000 / (4 * np.pi)) ** (1 / 3)
    centre = _somewhere(allowed, rng)
    sigma_mm = rng.uniform(*GRAIN) * radius * _stretched(rng)
    at = _around(allowed.shape, centre, 5 * radius)
    inside = allowed[at]
    noise = rng.standard_normal(inside.shape, dtype=np.float32)
    noise = ndimage.gaussian_filter(noise, sigma_mm / np.array(SPACING_MM), mode="nearest", truncate=3.0)
    # uphill first: a start in a valley would grow along its floor
    start = centre - [s.start for s in at]
    near = _around(inside.shape, start, radius)
    peak = np.argmax(np.where(inside[near], noise[near], -np.inf))
    first = np.array(np.unravel_index(int(peak), inside[near].shape)) + [s.start for s in near]
    result[at] = _flood(noise, inside, tuple(int(i) for i in first), count)
    return result


def _flood(values: Floats, allowed: Mask, start: tuple[int, ...], count: int) -> Mask:
    """Return the first ``count`` voxels of a flood that always takes the highest neighbour; fewer without room."""
    taken, seen = np.zeros(allowed.shape, bool), ~allowed
    waiting = [(-float(values[start]), start)]
    seen[start] = True
    for _ in range(count):
        if not waiting:
            break
        _, voxel = heapq.heappop(waiting)
        taken[voxel] = True
        for axis in range(3):
            for step in (-1, 1):
                there = (*voxel[:axis], voxel[axis] + step, *voxel[axis + 1 :])
                if 0 <= there[axis] < allowed.shape[axis] and not seen[there]:
                    seen[there] = True
                    heapq.heappush(waiting, (-float(values[there]), there))
    return taken


def _box(allowed: Mask, count: int, rng: np.random.Generator) -> Mask:
    """Return the ``count`` voxels of a box around a random voxel, what is not allowed cut off; fewer without room."""
    result = np.zeros(allowed.shape, bool)
    if not allowed.any():
        return result
    half = (count * VOXEL_ML * 1000) ** (1 / 3) / 2
    centre, stretch = _somewhere(allowed, rng), _stretched(rng)
    at = _around(allowed.shape, centre, 2 * STRETCH**2 * half)
    distance = np.zeros([s.stop - s.start for s in at], np.float32)
    for axis, grid in enumerate(np.ogrid[at]):
        distance = np.maximum(distance, np.abs(grid - centre[axis]) * SPACING_MM[axis] / stretch[axis])
    distance[~allowed[at]] = np.inf
    # equal distances are many in a box: those that come first are taken
    order = np.argsort(distance, axis=None, kind="stable")[:count]
    chosen = np.zeros(distance.size, bool)
    chosen[order[np.isfinite(distance.ravel()[order])]] = True
    result[at] = chosen.reshape(distance.shape)
    return result


def _moved(
    donor: NDArray[np.float16], donor_brain: Mask, brain: Mask, rng: np.random.Generator
) -> tuple[Floats, Mask]:
    """Return a scan moved so that one random voxel of its brain lies on one of ours, and where both are brain."""
    ours, theirs = _somewhere(brain, rng), _somewhere(donor_brain, rng)
    moved, moved_brain = np.zeros(brain.shape, np.float32), np.zeros(brain.shape, bool)
    to, of = [], []
    for shift, size in zip(ours - theirs, brain.shape, strict=True):
        to.append(slice(max(int(shift), 0), size + min(int(shift), 0)))
        of.append(slice(max(-int(shift), 0), size - max(int(shift), 0)))
    moved[tuple(to)], moved_brain[tuple(to)] = donor[tuple(of)], donor_brain[tuple(of)]
    return moved, moved_brain & brain


def _weight(mask: Mask, edge_mm: float) -> Floats:
    """Return 1 deep in a mask, 0 outside, and the depth over ``edge_mm`` between; the brain's rim is a border too."""
    weight = np.zeros(mask.shape, np.float32)
    box = ndimage.find_objects(mask.astype(np.uint8))[0]
    depth = ndimage.distance_transform_edt(np.pad(mask[box], 1), sampling=SPACING_MM)[1:-1, 1:-1, 1:-1]
    weight[box] = np.minimum(depth / edge_mm, 1)
    return weight
