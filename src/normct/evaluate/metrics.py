"""AUROC and average precision, once and over bootstrap draws of patients."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_CHUNK = 2048  # positives handled at once: memory stays flat in the number of slices


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

    Both metrics need, for each positive slice, only how many slices of each patient score as high or
    higher; that
    table is made once and multiplied with the draws, instead of sorting every draw anew.

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
    by_patient = [
        (np.sort(values[positive & (patient == p)]), np.sort(values[~positive & (patient == p)]))
        for p in range(patients)
    ]
    n_pos = counts @ np.array([len(pos) for pos, _ in by_patient], np.float32)
    n_neg = counts @ np.array([len(neg) for _, neg in by_patient], np.float32)
    won, precision = np.zeros(draws), np.zeros(draws)
    where = np.flatnonzero(positive)
    for start in range(0, len(where), _CHUNK):
        rows = where[start : start + _CHUNK]
        above_pos, above_neg, tied_neg = (np.zeros((len(rows), patients), np.float32) for _ in range(3))
        for p, (pos, neg) in enumerate(by_patient):
            above_pos[:, p] = len(pos) - np.searchsorted(pos, values[rows], "left")
            above_neg[:, p] = len(neg) - np.searchsorted(neg, values[rows], "left")
            tied_neg[:, p] = above_neg[:, p] - (len(neg) - np.searchsorted(neg, values[rows], "right"))
        weight = counts[:, patient[rows]].T  # (rows, draws)
        true, false, ties = (table @ counts.T for table in (above_pos, above_neg, tied_neg))
        with np.errstate(invalid="ignore"):
            # 0/0 only where the positive itself was not drawn, and then its weight is 0
            share = np.where(weight > 0, true / (true + false), 0.0)
        precision += (weight * share).sum(axis=0, dtype=np.float64)
        won += (weight * (n_neg - false + 0.5 * ties)).sum(axis=0, dtype=np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        auroc = won / (n_pos.astype(np.float64) * n_neg)
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
