"""From a z map to one number a slice and channel, and from slices to a scan."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from normct.common.slices import DEPTH

CHANNELS = ("hyper", "hypo")
"""Denser and less dense than usual, pooled apart: a bleed and an infarct are not averaged away."""


def _count(share: float, size: int) -> int:
    return max(1, int(np.ceil(share * size - 1e-9)))


def top_mean(values: NDArray, share: float) -> float:
    """Return the mean of the largest ``share`` of values (at least one), 0 for none."""
    if values.size == 0:
        return 0.0
    k = _count(share, values.size)
    return float(np.partition(values, values.size - k)[values.size - k :].mean(dtype=np.float64))


def pool(z: NDArray[np.float32], slices: NDArray, shares: Sequence[float]) -> NDArray[np.float32]:
    """Return the mean of the top ``share`` of +z and of -z in each slice, for each share.

    Parameters
    ----------
    z : ndarray
        Packed z map, shape (brain pixels,).
    slices : ndarray of int
        Slice of each brain pixel, ascending.
    shares : sequence of float
        Shares of a slice's brain pixels, at least one pixel each.

    Returns
    -------
    ndarray of float32
        Shape (shares, 2, 155), channels in the order of ``CHANNELS``; 0 without brain.
    """
    result = np.zeros((len(shares), len(CHANNELS), DEPTH), np.float32)
    edges = np.searchsorted(slices, np.arange(DEPTH + 1))
    for place, (start, stop) in enumerate(pairwise(edges)):
        size = stop - start
        if size == 0:
            continue
        counts = np.array([_count(share, size) for share in shares])
        for channel, sign in enumerate((1, -1)):
            highest = np.partition(sign * z[start:stop], size - counts.max())[size - counts.max() :]
            sums = np.cumsum(np.sort(highest)[::-1], dtype=np.float64)
            result[:, channel, place] = sums[counts - 1] / counts
    return result
