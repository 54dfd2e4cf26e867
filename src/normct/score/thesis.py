"""The thesis's scores (Venkatakrishnan 2020, section 6.2) as functions of arrays."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def head_score(log_p: NDArray, combine: str = "mean", anomaly: str = "1-p") -> NDArray[np.float64]:
    """Return s_c, the head's anomaly score of each slice.

    Parameters
    ----------
    log_p : ndarray
        Shape (slices, transforms, 3): natural log of the probabilities that the head gives the true rotation,
        vertical and horizontal shift.
    combine : {"mean", "product"}
        p of a transform from its three parts.
    anomaly : {"1-p", "p"}
        "1-p" as the thesis's text means it ("inverse" relationship); "p" is its formula read literally.

    Returns
    -------
    ndarray of float64
        Shape (slices,): mean over transforms.
    """
    log_p = np.asarray(log_p, np.float64)
    # -expm1 keeps the digits that 1 - p loses where the head is nearly certain
    missing = -np.expm1(log_p).mean(axis=-1) if combine == "mean" else -np.expm1(log_p.sum(axis=-1))
    return (missing if anomaly == "1-p" else 1.0 - missing).mean(axis=-1)


def thesis_score(s_c: NDArray, residual_l2: NDArray, alpha: float, weight: float) -> NDArray[np.float64]:
    """Return (1 - λ) s_c + λ s_r with s_r = α‖x - x̂‖ (eq. 6.2).

    Parameters
    ----------
    s_c : ndarray
        Head scores, shape (slices,).
    residual_l2 : ndarray
        ‖x - x̂‖ over all 128×128 pixels of the untransformed slice, shape (slices,).
    alpha : float
        Scale of the residual, from healthy calibration scans.
    weight : float
        λ, between 0 and 1.
    """
    return (1.0 - weight) * np.asarray(s_c, np.float64) + weight * alpha * np.asarray(residual_l2, np.float64)


def spread_alpha(residual_l2: NDArray, s_c: NDArray | None) -> float:
    """Return the α that gives s_c and α‖x - x̂‖ the same spread on healthy slices.

    Parameters
    ----------
    residual_l2, s_c : ndarray
        Usable slices of healthy calibration scans, shape (slices,). ``s_c`` is None for a method without a
        head: α is then 1/SD, so that the score counts healthy standard deviations and seeds can be averaged.
    """
    spread = float(np.std(residual_l2))
    if spread == 0.0:
        return 1.0
    target = 1.0 if s_c is None else float(np.std(s_c))
    return (target or 1.0) / spread  # a head that says the same of every slice gives no scale
