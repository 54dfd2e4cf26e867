"""Position-conditional standardisation: what a pooled value usually is at that slice of a healthy scan."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from normct.score.smoothing import smooth_positions

PRIOR_SCANS = 2.0
"""Weight of the spread over all positions against that of a slice's neighbourhood, in scans."""


def position_statistics(
    scans: Iterable[tuple[NDArray[np.float32], NDArray[np.bool_]]], position_mm: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and SD of each channel at each slice, shrunk over neighbouring slices.

    Parameters
    ----------
    scans : iterable of (pooled, usable)
        Pooled values of healthy calibration scans, shape (channels, 155), and which slices count, (155,).
    position_mm : float
        SD in mm of the neighbourhood of a slice.

    Returns
    -------
    mean, sd : ndarray
        Shape (channels, 155). Far from any healthy slice they are the overall ones.
    """
    stacked = [(np.where(usable, pooled.astype(np.float64), 0.0).T, usable) for pooled, usable in scans]
    if not stacked:
        raise ValueError("no healthy scan to standardise against")
    count = np.stack([usable for _, usable in stacked]).sum(axis=0, dtype=np.float64)
    total = np.stack([values for values, _ in stacked]).sum(axis=0)
    squares = np.stack([values**2 for values, _ in stacked]).sum(axis=0)
    every = max(float(count.sum()), 1.0)
    overall = total.sum(axis=0) / every
    spread = np.maximum(squares.sum(axis=0) / every - overall**2, 1e-12)
    near = smooth_positions(count, position_mm)[:, None]
    sums, square_sums = smooth_positions(total, position_mm), smooth_positions(squares, position_mm)
    # a hundredth of a slice: nothing where healthy slices are near, all where none is
    mean = (sums + 0.01 * overall) / (near + 0.01)
    around = np.maximum(square_sums - 2 * mean * sums + near * mean**2, 0.0)
    centred = float(near.sum()) or 1.0
    pooled_variance = np.maximum(around.sum(axis=0) / centred, 1e-3 * spread)
    variance = (around + PRIOR_SCANS * pooled_variance) / (near + PRIOR_SCANS)
    # a new scan strays from a mean of n by more than these do from theirs
    variance *= 1.0 + 1.0 / len(stacked)
    return mean.T, np.sqrt(variance).T


def channel_scores(
    pooled: NDArray[np.float32],
    usable: NDArray[np.bool_],
    mean: NDArray[np.float64],
    sd: NDArray[np.float64],
    smooth_mm: float,
) -> NDArray[np.float64]:
    """Return each channel in healthy SDs at its position, smoothed over neighbouring usable slices.

    Parameters
    ----------
    pooled : ndarray
        Shape (channels, 155).
    usable : ndarray of bool
        Shape (155,); others are 0 and enter no neighbour.
    mean, sd : ndarray
        From :func:`position_statistics` without the scan's own patient.
    smooth_mm : float
        SD in mm along z.
    """
    z = np.where(usable, (pooled - mean) / sd, 0.0).T
    weight = smooth_positions(usable.astype(np.float64), smooth_mm)[:, None]
    smoothed = smooth_positions(z, smooth_mm) / np.maximum(weight, 1e-12)
    return np.where(usable, smoothed.T, 0.0)
