"""The healthy reference of the calibrated score: what residual is usual at each voxel, and how far it strays.

Two layers, both from healthy scans that trained nothing (section 8 of the method):

- a **rim model**: mean and variance of the smoothed residual as functions of the scan's own distance from the
  rim of the brain and of the slice. Bone partial volume and misregistration live there, so a rim voxel must
  depart further to count, and no voxel is cut away;
- **voxelwise** mean and variance, shrunk towards the rim model by ``prior_scans`` pseudo-scans; the prior
  of the variance also follows a spatially smoothed ratio of seen to expected variance.

Everything is kept as sums over scans, so that leaving a patient out is a subtraction.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from normct.common.slices import DEPTH, SIZE
from normct.score.smoothing import MaskedSmoother, gaussian, rim_distance, smooth_positions

RIM_MM = (2.0, 4.0, 6.0, 10.0, 16.0)
"""Edges of the bins of rim distance; a pixel is 1.875 mm, so the first bin is the outermost pixel."""
BINS = len(RIM_MM) + 1
SHAPE = (DEPTH, SIZE, SIZE)
VARIANCE_SMOOTH_MM = (8.0, 8.0)
"""Neighbourhood (axial, in-plane) over which the ratio of seen to expected variance is averaged."""
TINY = 1e-12


@dataclass(frozen=True)
class ReferenceSettings:
    """How residuals become z: ``score.calibrated`` of the config, the part that makes maps.

    Attributes
    ----------
    smooth_mm : tuple of float
        Axial and in-plane SD of the smoothing.
    prior_scans : float
        Weight of the rim model against a voxel's own scans.
    band_mm : float
        SD along z over which the rim model is pooled.
    use_stop : bool
        Whether early-stopping scans add to the variance (never to the mean).
    """

    smooth_mm: tuple[float, float]
    prior_scans: float
    band_mm: float
    use_stop: bool

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> ReferenceSettings:
        """Take them from ``score.calibrated``."""
        smooth = config["smooth_mm"]
        return cls(
            (float(smooth["axial"]), float(smooth["in_plane"])),
            float(config["prior_scans"]),
            float(config["band_mm"]),
            bool(config["use_stop"]),
        )


class Frame:
    """Geometry of one scan that every map of it shares: mask, slice and rim bin of each brain pixel.

    Attributes
    ----------
    mask : ndarray of bool
        Shape (155, 128, 128).
    z, bin : ndarray of int
        Slice and rim bin of each brain pixel, in the order of ``mask``.
    smooth : MaskedSmoother
    """

    def __init__(self, mask: NDArray[np.bool_], settings: ReferenceSettings) -> None:
        self.mask = mask
        self.z = np.nonzero(mask)[0].astype(np.int16)
        self.bin = np.searchsorted(RIM_MM, rim_distance(mask), side="right").astype(np.uint8)
        self.smooth = MaskedSmoother(mask, settings.smooth_mm)
        self._cell = self.z.astype(np.int64) * BINS + self.bin

    def table(self, values: NDArray | None = None) -> NDArray[np.float64]:
        """Return the sum of packed values (their number without) by slice and rim bin, shape (155, bins)."""
        weights = None if values is None else values.astype(np.float64)
        return np.bincount(self._cell, weights, DEPTH * BINS).reshape(DEPTH, BINS).astype(np.float64)

    def look_up(self, table: NDArray) -> NDArray[np.float32]:
        """Return a (155, bins) table's value at each brain pixel, packed."""
        return table.astype(np.float32).ravel()[self._cell]


@dataclass
class Sums:
    """Sums of the smoothed residual over scans, of one map.

    Attributes
    ----------
    count, total, squares : ndarray
        Voxelwise over calibration scans, shape (155, 128, 128); a voxel outside a scan's brain adds nothing.
    stop_count, stop_total, stop_squares : ndarray
        The same over early-stopping scans: they chose an epoch, so they inform the variance only.
    cells : ndarray
        Shape (3, 155, rim bins): number, sum and sum of squares of calibration voxels.
    stop_cells : ndarray
        The same over early-stopping voxels.
    """

    count: NDArray[np.float32]
    total: NDArray[np.float32]
    squares: NDArray[np.float32]
    stop_count: NDArray[np.float32]
    stop_total: NDArray[np.float32]
    stop_squares: NDArray[np.float32]
    cells: NDArray[np.float64]
    stop_cells: NDArray[np.float64]

    @classmethod
    def empty(cls) -> Sums:
        """Return sums over no scan."""
        a, b, c, d, e, f = (np.zeros(SHAPE, np.float32) for _ in range(6))
        return cls(a, b, c, d, e, f, np.zeros((3, DEPTH, BINS)), np.zeros((3, DEPTH, BINS)))

    def add(self, frame: Frame, smoothed: NDArray[np.float32], stop: bool = False, sign: int = 1) -> None:
        """Add a scan's smoothed map; ``sign`` -1 takes it out again."""
        name = "stop_" if stop else ""
        squares = smoothed.astype(np.float32) ** 2
        getattr(self, f"{name}count")[frame.mask] += sign
        getattr(self, f"{name}total")[frame.mask] += sign * smoothed
        getattr(self, f"{name}squares")[frame.mask] += sign * squares
        cells = np.stack([frame.table(), frame.table(smoothed), frame.table(squares)])
        setattr(self, f"{name}cells", getattr(self, f"{name}cells") + sign * cells)


@dataclass(frozen=True)
class Statistics:
    """What turns a smoothed residual into z; see :func:`statistics`.

    Attributes
    ----------
    mean, spread, follow : ndarray
        Voxelwise, shape (155, 128, 128): the scans' part of the mean, the root of their part of the variance,
        and the share of the rim model's variance that is added.
    weight : ndarray
        Calibration scans with brain in that voxel.
    rim_mean, rim_variance : ndarray
        Shape (155, rim bins).
    """

    mean: NDArray
    spread: NDArray
    follow: NDArray
    weight: NDArray
    rim_mean: NDArray
    rim_variance: NDArray

    def z(self, frame: Frame, smoothed: NDArray[np.float32], prior: float) -> NDArray[np.float32]:
        """Return the z of a smoothed map, packed; + is denser than usual there, in SD of healthy scans."""
        n, mask = self.weight[frame.mask].astype(np.float32), frame.mask
        expected = self.mean[mask].astype(np.float32) + prior / (n + prior) * frame.look_up(self.rim_mean)
        variance = self.spread[mask].astype(np.float32) ** 2
        variance += self.follow[mask].astype(np.float32) * frame.look_up(self.rim_variance)
        # the mean itself is uncertain: a new scan strays from it by more than the scans stray from theirs
        variance *= 1.0 + 1.0 / (n + prior)
        return np.asarray((smoothed - expected) / np.sqrt(np.maximum(variance, TINY)), np.float32)


def rim_model(sums: Sums, band_mm: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and variance of the residual by slice and rim bin, pooled over neighbouring slices.

    Cells without a voxel take the values of near slices through the Gaussian's tail, else the overall ones.
    """
    near, summed = smooth_positions(sums.cells[0], band_mm), smooth_positions(sums.cells[1], band_mm)
    mean = (summed + sums.cells[1].sum() / max(sums.cells[0].sum(), TINY)) / (near + 1.0)
    count, total, squares = (smooth_positions((sums.cells + sums.stop_cells)[k], band_mm) for k in range(3))
    # about the calibration scans' mean, so that early-stopping scans move no mean
    around = squares - 2 * mean * total + count * mean**2
    overall = float(around.sum() / max(count.sum(), TINY))
    variance = (around + overall) / (count + 1.0)
    return mean, np.maximum(variance, TINY)


def statistics(sums: Sums, settings: ReferenceSettings) -> Statistics:
    """Return shrunken mean and variance from sums over scans.

    With n scans at a voxel, sum S, squared deviations W of f degrees of freedom, prior weight k, rim model a
    and s² at a scan's own rim distance, and ratio r of seen to expected variance nearby:
    mean (S + k a)/(n + k), variance (W + k r s²)/(f + k) · (1 + 1/(n + k)).

    Parameters
    ----------
    sums : Sums
        Without the patient to be scored.
    settings : ReferenceSettings
    """
    prior = settings.prior_scans
    rim_mean, rim_variance = rim_model(sums, settings.band_mm)
    n, seen = sums.count, sums.count > 0.5
    own_mean = np.divide(sums.total, n, out=np.zeros(SHAPE, np.float32), where=seen)
    within = np.where(seen, np.maximum(sums.squares - n * own_mean**2, 0), 0)
    freedom = np.where(seen, n - 1, 0)
    # deviations of stop scans from a mean of n others have variance (1 + 1/n) s²
    usual = np.divide(n, n + 1, out=np.zeros(SHAPE, np.float32), where=seen)
    around = sums.stop_squares - 2 * own_mean * sums.stop_total + sums.stop_count * own_mean**2
    within += usual * np.maximum(around, 0)
    freedom += np.where(seen, sums.stop_count, 0)
    follow = _ratio(n + sums.stop_count, within, freedom, rim_variance)
    return Statistics(
        mean=sums.total / (n + prior),
        spread=np.sqrt(within / (freedom + prior)).astype(np.float32),
        follow=(prior * follow / (freedom + prior)).astype(np.float32),
        weight=n,
        rim_mean=rim_mean,
        rim_variance=rim_variance,
    )


def _ratio(
    presence: NDArray[np.float32], within: NDArray, freedom: NDArray, rim_variance: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Return seen over expected variance, averaged over the neighbourhood, 1 where nothing is known."""
    typical = presence > presence.max() / 2
    if not typical.any() or freedom.max() <= 0:
        return np.ones(SHAPE, np.float32)
    bins = np.full(SHAPE, 0, np.uint8)
    bins[typical] = np.searchsorted(RIM_MM, rim_distance(typical), side="right")
    expected = rim_variance.astype(np.float32)[np.arange(DEPTH)[:, None, None], bins]
    relative = np.where(freedom > 0, within / expected, 0).astype(np.float32)
    seen = gaussian(relative, VARIANCE_SMOOTH_MM) + 0.05
    return np.asarray(seen / (gaussian(freedom.astype(np.float32), VARIANCE_SMOOTH_MM) + 0.05), np.float32)


def collect(scans: Iterable[tuple[Frame, NDArray[np.float32], bool]]) -> Sums:
    """Return sums over (frame, smoothed map, is an early-stopping scan)."""
    sums = Sums.empty()
    for frame, smoothed, stop in scans:
        sums.add(frame, smoothed, stop)
    return sums
