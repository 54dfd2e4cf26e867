"""AUROC and average precision, once and over bootstrap draws of patients."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

_CHUNK = 512  # steps handled at once: memory stays flat in the number of slices


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


def draw_patients(strata: NDArray, draws: int, seed: int) -> NDArray[np.float32]:
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
    counts = np.zeros((draws, len(strata)), np.float32)
    for stratum in np.unique(strata):
        members = np.flatnonzero(strata == stratum)
        counts[:, members] = rng.multinomial(
            len(members), np.full(len(members), 1 / len(members)), size=draws
        )
    return counts


def resampled(
    values: NDArray[np.float64],
    positive: NDArray[np.bool_],
    patient: NDArray[np.intp],
    counts: NDArray[np.float32],
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
    draws = counts.shape[0]
    # float32 holds whole numbers up to 2**24; a draw may hold a large patient several times
    weights = np.ascontiguousarray(counts.T, np.float32 if len(values) < 2**21 else np.float64)
    steps = -np.unique(-values[positive])  # distinct scores of positives, highest first

    def table(which: NDArray[np.bool_]) -> sparse.csr_array:
        """Shape (steps, patients): units that count from a step on; those below the last positive never do."""
        step = np.searchsorted(-steps, -values[which], "left")
        reached = step < len(steps)
        place = (step[reached], patient[which][reached])
        return sparse.csr_array((np.ones(len(place[0]), weights.dtype), place), (len(steps), len(weights)))

    gains, losses, ties = table(positive), table(~positive), table(~positive & np.isin(values, steps))
    n_pos, n_neg = (
        counts @ np.bincount(patient[which], minlength=len(weights)).astype(np.float64)
        for which in (positive, ~positive)
    )
    won, precision = np.zeros(draws), np.zeros(draws)
    true, false = np.zeros(draws), np.zeros(draws)
    for start in range(0, len(steps), _CHUNK):
        gain, loss, tie = (part[start : start + _CHUNK] @ weights for part in (gains, losses, ties))
        above_pos = true + np.cumsum(gain, axis=0, dtype=np.float64)
        above_neg = false + np.cumsum(loss, axis=0, dtype=np.float64)
        # no positive drawn at or above a step is 0/0, and then its weight is 0
        share = np.divide(above_pos, above_pos + above_neg, out=np.zeros_like(above_pos), where=above_pos > 0)
        precision += (gain * share).sum(axis=0)
        won += (gain * (n_neg - above_neg + 0.5 * tie)).sum(axis=0)
        true, false = above_pos[-1], above_neg[-1]
    with np.errstate(invalid="ignore", divide="ignore"):
        auroc = won / (n_pos * n_neg)
        aupr = precision / n_pos
    one_class = (n_pos == 0) | (n_neg == 0)
    auroc[one_class] = aupr[one_class] = np.nan
    return auroc, aupr


def prevalences(
    positive: NDArray[np.bool_], patient: NDArray[np.intp], counts: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Return the share of positives in every draw, shape (draws,); arguments as of :func:`resampled`."""
    n_pos = counts @ np.bincount(patient[positive], minlength=counts.shape[1])
    n_all = counts @ np.bincount(patient, minlength=counts.shape[1])
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(n_pos / n_all, np.float64)


def interval(sample: NDArray[np.float64]) -> tuple[float, float]:
    """Return the 95 % percentile interval of a sample; NaN when under half of the draws have a value."""
    if np.isnan(sample).mean() > 0.5:
        return float("nan"), float("nan")
    low, high = np.nanpercentile(sample, [2.5, 97.5])
    return float(low), float(high)


def mean_sd(values: list[float]) -> tuple[float, float]:
    """Return mean and SD (n - 1) over seeds or volumes, without NaN; the SD of one value is NaN, not 0."""
    known = np.array([v for v in values if not np.isnan(v)], float)
    mean = float(known.mean()) if len(known) else float("nan")
    return mean, float(known.std(ddof=1)) if len(known) > 1 else float("nan")
