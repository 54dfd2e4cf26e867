"""Where a score stands among healthy scans, with no more certainty than their number allows."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, floor
from typing import Any

from normct.common.binomial import exact_interval


def _interval(rank: int, n: int) -> tuple[int | None, int | None]:
    """Return the exact 95 % binomial interval of rank of n, in whole per cent; None of none."""
    if n == 0:
        return None, None
    low, high = exact_interval(rank, n)
    return floor(100 * low), ceil(100 * high)


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
    digits = max(0, len(str(n + 1)) - 3)
    cut = rank * 10 ** (2 + digits) // (n + 1)
    percentile = (cut / 10**digits if digits else cut) if n else None
    low, high = _interval(rank, n)
    place = {"rank": rank, "n_healthy": n, "percentile": percentile, "higher_than_all": n > 0 and rank == n}
    return place | {"percentile_low": low, "percentile_high": high}
