"""Where a score stands among healthy scans, with no more certainty than their number allows."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from math import ceil, floor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from normct.common.binomial import exact_interval


def _interval(rank: int, n: int) -> tuple[int, int]:
    """Return the exact 95 % binomial interval of rank of n, in whole per cent."""
    low, high = exact_interval(rank, n)
    return floor(100 * low), ceil(100 * high)


@cache
def place(rank: int, n: int) -> tuple[float | None, int | None, int | None]:
    """Return percentile and 95 % interval of a rank among n, as :func:`standing` says; None of none."""
    if n == 0:
        return None, None, None
    digits = max(0, len(str(n + 1)) - 3)
    cut = rank * 10 ** (2 + digits) // (n + 1)
    return cut / 10**digits if digits else cut, *_interval(rank, n)


def standing(value: float, healthy: Sequence[float], own: bool = False) -> dict[str, Any]:
    """Return a value's place among healthy calibration scans.

    Parameters
    ----------
    value : float
        Score of a scan.
    healthy : sequence of float
        The same score of the calibration scans.
    own : bool
        Whether the scan is one of them; it is then left out, for no scan is ranked against itself.

    Returns
    -------
    dict
        ``rank``: number of healthy scans with a lower score (a tie counts as not lower); ``n_healthy``;
        ``percentile``: 100 · rank/(n + 1), cut (never rounded up to 100) to whole numbers below 999 scans,
        to a decimal more for each further factor of ten; None without healthy scans. ``higher_than_all``.
        ``percentile_low``, ``percentile_high``: 95 % interval of the share of healthy people with a lower score
        (Clopper and Pearson 1934), rounded outwards to whole numbers, for n scans say no more than that.
    """
    others = list(healthy)
    if own:
        others.remove(min(others, key=lambda other: abs(other - value)))
    n = len(others)
    rank = sum(other < value for other in others)
    percentile, low, high = place(rank, n)
    found = {"rank": rank, "n_healthy": n, "percentile": percentile, "higher_than_all": n > 0 and rank == n}
    return found | {"percentile_low": low, "percentile_high": high}


def level_standing(
    values: NDArray, usable: NDArray[np.bool_], healthy: NDArray[np.float32], own: NDArray[np.float32] | None
) -> dict[str, NDArray]:
    """Return the place of each slice among the same level of healthy patients, named as in :func:`standing`.

    Parameters
    ----------
    values : ndarray
        A score of a scan, shape (155,).
    usable : ndarray of bool
        Shape (155,); others are ranked among nobody.
    healthy : ndarray
        Shape (patients, 155), NaN where a patient has no slice there.
    own : ndarray, optional
        What the scan's own patient brought to it, shape (155,): it is left out.

    Returns
    -------
    dict of ndarray
        Shape (155,); numbers that :func:`standing` gives as None are NaN.
    """
    score = values.astype(np.float32)
    rank, n = (healthy < score).sum(axis=0), np.isfinite(healthy).sum(axis=0)
    if own is not None:
        rank, n = rank - (own < score), n - np.isfinite(own)
    rank, n = np.where(usable, rank, 0), np.where(usable, n, 0)
    places = np.array([place(int(r), int(k)) for r, k in zip(rank, n, strict=True)], np.float64)
    return {
        "rank": rank,
        "n_healthy": n,
        "percentile": places[:, 0],
        "percentile_low": places[:, 1],
        "percentile_high": places[:, 2],
        "higher_than_all": (n > 0) & (rank == n),
    }
