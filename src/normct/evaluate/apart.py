"""How well scores tell two groups of scans apart: AUROC, interval and one p-value of all seeds together."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from normct.evaluate.data import Column, Scores
from normct.evaluate.metrics import Counts, interval, resampled

FEW = 2
"""Scans on either side below which two groups are not compared."""
PERMUTATIONS = 9999
"""Labellings drawn for a p-value; where there are no more than these, each is tried once."""
_BLOCK = 256  # labellings at once: memory stays flat in the number of scans


def of_score(columns: list[Column]) -> dict[tuple[str, str], list[int]]:
    """Return the places of a score's seeds, by method and score."""
    places: dict[tuple[str, str], list[int]] = {}
    for place, (method, score, _) in enumerate(columns):
        places.setdefault((method, score), []).append(place)
    return places


def mean_ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the rank of each scan among all, averaged over seeds; shape (scans, seeds) to (scans,).

    The mean over seeds of the AUROC rests on nothing else, whatever each seed's scale is.
    """
    from scipy.stats import rankdata

    return np.asarray(rankdata(values, axis=0).mean(axis=1), np.float64)


def permuted(ranks: NDArray[np.float64], n: int, seed: int) -> float:
    """Return the two-sided p-value of the first ``n`` ranks' sum over all ways to name ``n`` of the scans.

    With one seed and without ties it is Mann and Whitney's exact test. Scans count as independent.
    """
    from scipy.stats import permutation_test

    def apart(own: NDArray, others: NDArray, axis: int) -> NDArray:
        return own.mean(axis=axis) - others.mean(axis=axis)

    found = permutation_test(
        (ranks[:n], ranks[n:]), apart, n_resamples=PERMUTATIONS, vectorized=True, batch=_BLOCK, rng=seed
    )
    return float(found.pvalue)


def tell_apart(
    scores: Scores,
    inside: NDArray[np.bool_],
    keep: NDArray[np.bool_],
    code: NDArray[np.intp],
    counts: Counts,
    seed: int,
) -> Iterator[dict[str, Any]]:
    """Yield how well each score tells scans ``inside`` a group from the others of ``keep``.

    Parameters
    ----------
    scores : Scores
    inside, keep : ndarray of bool
        Shape (scans,).
    code : ndarray of int
        Shape (scans,): column of ``counts`` that a scan's patient has.
    counts : ndarray
        Shape (draws, patients).
    seed : int
        Of the labellings drawn.

    Yields
    ------
    dict
        A method and score: ``value``, the mean over seeds of the AUROC, its interval by bootstrap over patients, and
        the p-value of that mean.
    """
    for (method, score), places in of_score(scores.columns).items():
        found = np.stack([scores.values(i) for i in places], axis=1)
        known = keep & ~np.isnan(found).any(axis=1)
        own, others = known & inside, known & ~inside
        n, m = int(own.sum()), int(others.sum())
        row: dict[str, Any] = {"method": method, "score": score, "n_seeds": len(places)}
        row |= {"n_group": n, "n_others": m}
        if min(n, m) < FEW:
            blank = dict.fromkeys(("value", "value_low", "value_high", "p_value"), np.nan)
            yield row | blank | {"reason": f"fewer than {FEW} scored scans on one side"}
            continue
        ranks = mean_ranks(np.concatenate([found[own], found[others]]))
        row["value"] = float((ranks[:n].mean() - (n + 1) / 2) / m)
        drawn = [
            resampled(found[known, i], inside[known], code[known], counts)[0] for i in range(len(places))
        ]
        row["value_low"], row["value_high"] = interval(np.mean(drawn, axis=0))
        yield row | {"p_value": permuted(ranks, n, seed), "reason": ""}


def holm(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return p-values corrected by Holm's method, valid however the comparisons depend on each other."""
    order = np.argsort(p, kind="stable")
    corrected = np.empty(len(p))
    corrected[order] = np.maximum.accumulate((len(p) - np.arange(len(p))) * p[order])
    return np.minimum(corrected, 1.0)
