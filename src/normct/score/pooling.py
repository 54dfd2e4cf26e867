"""From a z map to one number a slice and channel, and from slices to a scan."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from normct.common.slices import DEPTH

CHANNELS = ("hyper", "hypo")
"""Denser and less dense than usual, pooled apart: a bleed and an infarct are not averaged away."""


def top_mean(values: NDArray, share: float) -> float:
    """Return the mean of the largest ``share`` of values (at least one), 0 for none."""
    if values.size == 0:
        return 0.0
    k = max(1, int(np.ceil(share * values.size - 1e-9)))
    return float(np.partition(values, values.size - k)[values.size - k :].mean(dtype=np.float64))


def pool(z: NDArray[np.float32], slices: NDArray, share: float) -> NDArray[np.float32]:
    """Return the mean of the top ``share`` of +z and of -z in each slice.

    Parameters
    ----------
    z : ndarray
        Packed z map, shape (brain pixels,).
    slices : ndarray of int
        Slice of each brain pixel, ascending.
    share : float
        Share of a slice's brain pixels.

    Returns
    -------
    ndarray of float32
        Shape (2, 155) in the order of ``CHANNELS``; 0 without brain.
    """
    edges = np.searchsorted(slices, np.arange(DEPTH + 1))
    parts = [z[a:b] for a, b in pairwise(edges)]
    return np.array([[top_mean(sign * part, share) for part in parts] for sign in (1, -1)], np.float32)
