"""AUROC and average precision, once and over bootstrap draws of patients."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

_CHUNK = 512  # steps handled at once: memory stays flat in the number of slices
_DRAWS = 256  # draws handled at once: memory stays nearly flat in the number of patients

Counts = NDArray[np.uint16]
"""How often each patient was drawn, shape (draws, patients); two bytes hold it, for it is about one."""


def point(values: NDArray[np.float64], positive: NDArray[np.bool_]) -> tuple[float, float]:
    """Return AUROC and AUPR (average precision, no interpolation); positive = abnormal = higher.

    Raises
    ------
    ValueError
        With one class only: there is no such number, and 0.5 is not one.
    """
    from sklearn.metrics import average_precision_score, roc_auc_score

    if positive.all() or not positive.any():
        raise ValueError("both classes are needed")
    return float(roc_auc_score(positive, values)), float(average_precision_score(positive, values))


def draw_patients(strata: NDArray, draws: int, seed: int) -> Counts:
    """Draw patients with replacement within strata.

    Parameters
    ----------
    strata : ndarray
        Shape (patients,): stratum of each patient.
    draws : int
    seed : int

    Returns
    -------
    ndarray
        Shape (draws, patients): how often each patient was drawn; sums to the stratum's size in each stratum.
    """
    rng = np.random.default_rng(seed)
    counts = np.zeros((draws, len(strata)), np.uint16)
    for stratum in np.unique(strata):
        members = np.flatnonzero(strata == stratum)
        even = np.full(len(members), 1 / len(members))
        for start in range(
            0, draws, _DRAWS
        ):  # the same numbers as all at once, which take four times the room
            some = min(_DRAWS, draws - start)
            counts[start : start + some, members] = rng.multinomial(len(members), even, size=some)
    return counts


def blocks(counts: NDArray) -> Iterator[tuple[slice, NDArray]]:
    """Yield some draws at a time, and which: whatever is made of a block is small."""
    for start in range(0, len(counts), _DRAWS):
        which = slice(start, start + _DRAWS)
        yield which, counts[which]


def of_draws(
    counts: NDArray, function: Callable[[NDArray[np.float64]], NDArray[np.float64]]
) -> NDArray[np.float64]:
    """Return what ``function`` makes of each draw, shape (draws,), some of them at a time."""
    return np.concatenate([np.zeros(0), *(function(b.astype(np.float64)) for _, b in blocks(counts))])


def totals(counts: NDArray, of_patient: NDArray) -> NDArray[np.float64]:
    """Return each draw's sum of a patient's numbers, shape (draws, ...)."""
    result = np.zeros((len(counts), *of_patient.shape[1:]))
    for which, block in blocks(counts):
        result[which] = block.astype(np.float64) @ of_patient.astype(np.float64)
    return result


def resampled(
    values: NDArray[np.float64],
    positive: NDArray[np.bool_],
    patient: NDArray[np.intp],
    counts: NDArray,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return AUROC and AUPR of every draw, exactly, ties included.

    Both metrics need, at each score that a positive has, only how many units of each patient score as high or
    higher: that table is made once and multiplied with the draws, instead of sorting every draw anew. It is
    sparse, so time grows linearly with units and patients, and memory with neither but for the table itself.

    Parameters
    ----------
    values, positive
        Shape (slices,).
    patient : ndarray of int
        Shape (slices,): column of ``counts`` that a slice belongs to.
    counts : ndarray
        Shape (draws, patients), from :func:`draw_patients`.

    Returns
    -------
    auroc, aupr : ndarray
        Shape (draws,); NaN for a draw without one of the classes.
    """
    draws, patients = counts.shape
    # float32 holds whole numbers up to 2**24; a draw may hold a large patient several times
    kind = np.float32 if len(values) < 2**21 else np.float64
    steps = -np.unique(-values[positive])  # distinct scores of positives, highest first

    def table(which: NDArray[np.bool_]) -> list[sparse.csr_array]:
        """Shape (steps, patients), in chunks: units that count from a step on; those below the last never do."""
        step = np.searchsorted(-steps, -values[which], "left")
        reached = step < len(steps)
        place = (step[reached], patient[which][reached])
        whole = sparse.csr_array((np.ones(len(place[0]), kind), place), (len(steps), patients))
        return [whole[start : start + _CHUNK] for start in range(0, len(steps), _CHUNK)]

    parts = [table(positive), table(~positive), table(~positive & np.isin(values, steps))]
    n_pos, n_neg = (
        totals(counts, np.bincount(patient[which], minlength=patients)) for which in (positive, ~positive)
    )
    won, precision = np.zeros(draws), np.zeros(draws)
    for which, block in blocks(counts):
        weights = np.ascontiguousarray(block.T, kind)
        true, false = np.zeros(len(block)), np.zeros(len(block))
        for chunk in zip(*parts, strict=True):
            gain, loss, tie = (part @ weights for part in chunk)
            above_pos = true + np.cumsum(gain, axis=0, dtype=np.float64)
            above_neg = false + np.cumsum(loss, axis=0, dtype=np.float64)
            # no positive drawn at or above a step is 0/0, and then its weight is 0
            share = np.divide(
                above_pos, above_pos + above_neg, out=np.zeros_like(above_pos), where=above_pos > 0
            )
            precision[which] += (gain * share).sum(axis=0)
            won[which] += (gain * (n_neg[which] - above_neg + 0.5 * tie)).sum(axis=0)
            true, false = above_pos[-1], above_neg[-1]
    with np.errstate(invalid="ignore", divide="ignore"):
        auroc = won / (n_pos * n_neg)
        aupr = precision / n_pos
    one_class = (n_pos == 0) | (n_neg == 0)
    auroc[one_class] = aupr[one_class] = np.nan
    return auroc, aupr


def prevalences(
    positive: NDArray[np.bool_], patient: NDArray[np.intp], counts: NDArray
) -> NDArray[np.float64]:
    """Return the share of positives in every draw, shape (draws,); arguments as of :func:`resampled`."""
    n_pos = totals(counts, np.bincount(patient[positive], minlength=counts.shape[1]))
    n_all = totals(counts, np.bincount(patient, minlength=counts.shape[1]))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(n_pos / n_all, np.float64)


def interval(sample: NDArray[np.float64]) -> tuple[float, float]:
    """Return the 95 % percentile interval of a sample; NaN without draws, or when more than half have no value."""
    if not len(sample) or np.isnan(sample).mean() > 0.5:
        return float("nan"), float("nan")
    low, high = np.nanpercentile(sample, [2.5, 97.5])
    return float(low), float(high)


def mean_sd(values: list[float]) -> tuple[float, float]:
    """Return mean and SD (n - 1) over seeds or volumes, without NaN; the SD of one value is NaN, not 0."""
    known = np.array([v for v in values if not np.isnan(v)], float)
    mean = float(known.mean()) if len(known) else float("nan")
    return mean, float(known.std(ddof=1)) if len(known) > 1 else float("nan")
