"""Search over rigid poses: mutual information of two brains, from many starts, on a few thousand points.

A head that lies chin down sits in another basin of the metric than the atlas, and an optimiser started from
one pose ends there silently. So the search starts from a grid of angles, climbs from each of the best, and
keeps the runner-up of another basin: how far it lies behind says how sure the pose is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, optimize
from scipy.spatial.transform import Rotation

from normct.common.volumes import Volume

WINDOW = (0.0, 80.0)
"""HU that tell brain tissues apart; bone left in a mask must not stretch the histogram."""
BINS = 32
RADIUS_MM = 60.0
"""Lever that turns radians into the mm a rotation moves cortex by, so that one step size fits all."""
COARSE_MM, FINE_MM = 8.0, 5.0


@dataclass(frozen=True)
class Pose:
    """A rigid pose and its mutual information.

    Attributes
    ----------
    matrix : ndarray
        Shape (4, 4), RAS+ mm, point of the atlas to point of the scan.
    mi : float
        Mutual information in nats; the higher the better.
    """

    matrix: NDArray[np.float64]
    mi: float


def block_mean(volume: Volume, factor: int) -> Volume:
    """Mean over blocks of ``factor`` voxels along each axis (edges repeated); the affine follows."""
    data = volume.data.astype(np.float32)
    for axis, size in enumerate(data.shape):
        last = np.minimum(np.arange(0, size, factor)[:, None] + np.arange(factor), size - 1)
        data = (
            sum((data.take(last[:, i], axis) for i in range(1, factor)), data.take(last[:, 0], axis)) / factor
        )
    affine = volume.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ np.full(3, (factor - 1) / 2)
    affine[:3, :3] *= factor
    return Volume(data, affine)


def tissue(brain: Volume, mask: Volume) -> Volume:
    """Brain clipped to :data:`WINDOW`, 0 outside the mask; on their common grid."""
    inside = mask.data > 0
    return Volume(np.where(inside, np.clip(brain.data, *WINDOW), 0).astype(np.float32), brain.affine)


def centre_of_mass(mask: Volume) -> NDArray[np.float64]:
    """World coordinate of the mask's centre of mass, shape (3,)."""
    index = np.array([np.average(np.arange(n), weights=w) for n, w in _profiles(mask.data)])
    return np.asarray(mask.affine[:3, :3] @ index + mask.affine[:3, 3])


def _profiles(data: NDArray) -> list[tuple[int, NDArray]]:
    inside = data > 0
    return [(inside.shape[a], inside.sum(axis=tuple({0, 1, 2} - {a}))) for a in range(3)]


class MutualInformation:
    """Mutual information of two images over fixed points of the first (Mattes et al. 2003, IEEE TMI).

    Parameters
    ----------
    fixed, moving : Volume
        Tissue images, background 0.
    domain : Volume
        Mask on any grid: points are taken inside it and a rim around, so that the brain's outline counts.
    spacing_mm : float
        Distance of the points, and of the images' smoothing (full width at half maximum).
    """

    def __init__(self, fixed: Volume, moving: Volume, domain: Volume, spacing_mm: float) -> None:
        smooth = [_smooth(v, spacing_mm) for v in (fixed, moving)]
        self.moving, self.to_index = smooth[1], np.linalg.inv(moving.affine)
        self.points = _points(domain, spacing_mm)
        index = np.linalg.inv(fixed.affine) @ self.points
        self.fixed_bin = np.rint(self._scaled(_sample(smooth[0], index))).astype(np.int64)

    @staticmethod
    def _scaled(values: NDArray) -> NDArray:
        return np.clip((values - WINDOW[0]) / (WINDOW[1] - WINDOW[0]), 0, 1) * (BINS - 1)

    def __call__(self, matrix: NDArray[np.float64]) -> float:
        """Return the mutual information in nats at a pose (fixed point to moving point)."""
        values = self._scaled(_sample(self.moving, (self.to_index @ matrix) @ self.points))
        low = np.minimum(values.astype(np.int64), BINS - 2)
        share = values - low  # a first-order Parzen window: the metric has no steps
        cell = self.fixed_bin * BINS + low
        counts = np.bincount(cell, 1 - share, BINS * BINS) + np.bincount(cell + 1, share, BINS * BINS)
        joint = counts.reshape(BINS, BINS) / values.size
        outer = joint.sum(1)[:, None] * joint.sum(0)
        used = joint > 0
        return float((joint[used] * np.log(joint[used] / outer[used])).sum())


def _smooth(volume: Volume, fwhm_mm: float) -> NDArray[np.float32]:
    return ndimage.gaussian_filter(volume.data, fwhm_mm / 2.355 / volume.zooms, truncate=2.5)


def _sample(image: NDArray, index: NDArray) -> NDArray:
    return ndimage.map_coordinates(image, index[:3], order=1, cval=0.0, prefilter=False)


def _points(domain: Volume, spacing_mm: float, rim_mm: float = 8.0) -> NDArray[np.float64]:
    """Homogeneous world points, shape (4, n), on a lattice inside ``domain`` and a rim around it."""
    distance = ndimage.distance_transform_edt(np.pad(domain.data, 6) == 0, sampling=domain.zooms)
    index = np.argwhere(distance <= rim_mm) - 6
    step = np.maximum(1, np.rint(spacing_mm / domain.zooms)).astype(int)
    index = index[(index % step == 0).all(axis=1)]
    return np.asarray(domain.affine @ np.c_[index, np.ones(len(index))].T)


def rigid(parameters: NDArray, centre: NDArray, shift: NDArray) -> NDArray[np.float64]:
    """Return the (4, 4) matrix of pitch, roll, yaw (in :data:`RADIUS_MM` × radians) and translation (mm).

    The rotation is about ``centre`` (fixed world), which goes to ``centre + shift + translation``.
    """
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", np.asarray(parameters[:3]) / RADIUS_MM).as_matrix()
    matrix[:3, 3] = centre + shift + parameters[3:] - matrix[:3, :3] @ centre
    return matrix


def distance(a: NDArray, b: NDArray, centre: NDArray) -> tuple[float, float]:
    """Angle in degrees between two poses, and the distance in mm of where they carry ``centre``."""
    angle = np.degrees(Rotation.from_matrix(a[:3, :3].T @ b[:3, :3]).magnitude())
    point = np.append(centre, 1.0)
    return float(angle), float(np.linalg.norm((a @ point - b @ point)[:3]))


def peak(
    metric: MutualInformation, matrix: NDArray[np.float64], centre: NDArray, turn_deg: float = 10.0
) -> float:
    """Smallest share of mutual information lost by turning a pose about an axis through ``centre``.

    A right pose is a sharp peak; at a wrong one, turning some way costs little or gains.
    """
    here = metric(matrix)
    there = (matrix @ np.append(centre, 1.0))[:3]
    losses = []
    for axis in np.vstack([np.eye(3), -np.eye(3)]):
        turned = matrix.copy()
        turned[:3, :3] = matrix[:3, :3] @ Rotation.from_rotvec(np.radians(turn_deg) * axis).as_matrix()
        turned[:3, 3] = there - turned[:3, :3] @ centre
        losses.append(1 - metric(turned) / here)
    return float(min(losses))


def climb(
    metric: MutualInformation, start: NDArray, centre: NDArray, shift: NDArray, tolerance: float
) -> NDArray:
    """Maximise the metric from ``start`` (Powell 1964): no gradient, no random numbers."""
    result = optimize.minimize(
        lambda p: -metric(rigid(p, centre, shift)),
        start,
        method="Powell",
        options={"xtol": tolerance, "ftol": 1e-4, "maxfev": 600},
    )
    return np.asarray(result.x)


def search(
    atlas: Volume,
    atlas_mask: Volume,
    brain: Volume,
    brain_mask: Volume,
    fine: MutualInformation,
    *,
    pitch_starts: Sequence[float],
    side_starts: Sequence[float],
    other_basin: tuple[float, float] = (10.0, 10.0),
) -> tuple[Pose, Pose | None]:
    """Find the rigid pose of the brain against the atlas.

    Parameters
    ----------
    atlas, brain : Volume
        Tissue images (:func:`tissue`), about 2 mm.
    atlas_mask, brain_mask : Volume
        Their masks, on the same grids.
    fine : MutualInformation
        The metric that ranks the ends, of the same images at :data:`FINE_MM`.
    pitch_starts, side_starts : sequence of float
        Starting angles in degrees. For every pitch, the best of all pairs of roll and yaw from
        ``side_starts`` (0 is added) at matched centres of mass becomes a start.
    other_basin : tuple of float
        Degrees and mm by which two ends must differ to count as different basins.

    Returns
    -------
    best, runner_up : Pose
        The highest mutual information, and the highest among ends of another basin; None when every start
        met.
    """
    centre = centre_of_mass(atlas_mask)
    shift = centre_of_mass(brain_mask) - centre
    coarse = MutualInformation(atlas, brain, atlas_mask, COARSE_MM)
    sides = sorted({0.0, *map(float, side_starts)})
    scale = RADIUS_MM * np.pi / 180
    poses = []
    for pitch in pitch_starts:
        grid = [np.array([pitch * scale, r * scale, y * scale, 0, 0, 0]) for r in sides for y in sides]
        start = max(grid, key=lambda p: coarse(rigid(p, centre, shift)))
        matrix = rigid(climb(coarse, start, centre, shift, 0.5), centre, shift)
        poses.append(Pose(matrix, fine(matrix)))
    poses.sort(key=lambda p: -p.mi)
    best = poses[0]
    others = [
        p
        for p in poses[1:]
        if any(
            d > limit for d, limit in zip(distance(best.matrix, p.matrix, centre), other_basin, strict=True)
        )
    ]
    return best, (others[0] if others else None)
