"""How well a spline fitted on all patients but one predicts that one's scores."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

KNOTS = 6
"""Of the cubic spline: a curve over the head's 155 slices, not over single ones."""
LEAST = 1e-8
"""Share of the basis's variance below which a direction counts as unseen and is left flat: where one odd slice is all
that a stretch of the spline has, least squares without it would predict anything."""


class LeftOut:
    """A cubic spline of position or brain area, fitted without one patient, for each patient in turn.

    Sums over each patient's slices are all that a fit needs, so that leaving one out is a subtraction: time grows
    with the number of patients, not with its square.

    Parameters
    ----------
    at : ndarray
        Shape (slices,): position or brain area.
    patient : ndarray of int
        Shape (slices,): patients from 0 on, two at least; each in turn is left out.
    """

    def __init__(self, at: NDArray[np.float64], patient: NDArray[np.intp]) -> None:
        self.order = np.argsort(patient, kind="stable")
        self.starts = np.flatnonzero(np.diff(patient[self.order], prepend=-1))
        positions, place = np.unique(at[self.order], return_inverse=True)
        self.place = place
        lowest, highest = (positions[f.reduceat(place, self.starts)] for f in (np.minimum, np.maximum))
        # knots span the slices that are fitted: the patient with the very first or last slice moves them
        ends = np.stack([_least_of_others(lowest), -_least_of_others(-highest)], axis=1)
        self.fits = [
            _Fit.of(positions, place, self.starts, span, np.flatnonzero((ends == span).all(axis=1)))
            for span in np.unique(ends, axis=0)
        ]

    def errors(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the squared error in each patient: of the spline, and of the other patients' mean.

        Parameters
        ----------
        values : ndarray
            Shape (slices,): scores.

        Returns
        -------
        ndarray
            Shape (patients, 2).
        """
        values = (values - values[0])[self.order]
        values = values - values.mean()  # now a constant is exactly 0
        size = np.diff(self.starts, append=len(values))
        total, square = (np.add.reduceat(v, self.starts) for v in (values, values**2))
        mean = (total.sum() - total) / (size.sum() - size)
        about_mean = square - 2 * mean * total + size * mean**2
        error = np.zeros(len(self.starts))
        for fit in self.fits:
            error[fit.left_out] = fit.error(values, square, self.place, self.starts)
        return np.stack([error, about_mean], axis=1)


def r2(errors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the share of the variance that the spline explains in patients it was not fitted on.

    Parameters
    ----------
    errors : ndarray
        Shape (..., 2): from :meth:`LeftOut.errors`, added up over patients.

    Returns
    -------
    ndarray
        Shape (...): below 0 where the spline predicts worse than the mean; NaN where nothing varies.
    """
    error, about_mean = errors[..., 0], errors[..., 1]
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(about_mean > 0, 1 - error / about_mean, np.nan))


def _least_of_others(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return for each value the least of all others."""
    first, second = np.partition(values, 1)[:2]
    return np.where(values == first, second, first)


@dataclass(frozen=True)
class _Fit:
    """Fits with the same knots: 1 and the spline's basis, and what least squares needs of them.

    Attributes
    ----------
    left_out : ndarray of int
        Patients that these fits leave out, one a fit.
    basis : ndarray
        Shape (functions, distinct positions); the first is 1.
    gram : ndarray
        Shape (patients, functions, functions): products of the basis, summed over each patient's slices.
    inverse : ndarray
        Shape (fits, functions - 1, functions - 1): pseudo-inverse of the covariance, for the basis sums to 1.
    """

    left_out: NDArray[np.intp]
    basis: NDArray[np.float64]
    gram: NDArray[np.float64]
    inverse: NDArray[np.float64]

    @classmethod
    def of(
        cls,
        positions: NDArray[np.float64],
        place: NDArray[np.intp],
        starts: NDArray[np.intp],
        span: NDArray,
        left_out: NDArray[np.intp],
    ) -> _Fit:
        """Fit with knots from ``span[0]`` to ``span[1]``; slices lie at ``positions[place]``."""
        from sklearn.preprocessing import SplineTransformer

        spline = SplineTransformer(n_knots=KNOTS, degree=3, extrapolation="constant").fit(span[:, None])
        basis = np.vstack([np.ones(len(positions)), spline.transform(positions[:, None]).T])
        parts = (basis[:, part] for part in np.split(place, starts[1:]))
        gram = np.stack([part @ part.T for part in parts])
        rest = gram.sum(axis=0) - gram[left_out]
        n, first = rest[:, :1, :1], rest[:, :1, 1:]
        covariance = rest[:, 1:, 1:] - np.swapaxes(first, 1, 2) @ first / n
        return cls(left_out, basis, gram, np.linalg.pinv(covariance, rcond=LEAST, hermitian=True))

    def error(
        self,
        values: NDArray[np.float64],
        square: NDArray[np.float64],
        place: NDArray[np.intp],
        starts: NDArray[np.intp],
    ) -> NDArray[np.float64]:
        """Return the squared error in each patient left out, shape (fits,)."""
        # one function at a time: all at once would be nine more scores of every slice
        products = np.stack([np.add.reduceat(line[place] * values, starts) for line in self.basis], axis=1)
        rest = products.sum(axis=0) - products[self.left_out]
        mean = (self.gram.sum(axis=0) - self.gram[self.left_out])[:, 0]
        n, mean = mean[:, 0], mean[:, 1:] / mean[:, :1]
        slope = np.einsum("fij,fj->fi", self.inverse, rest[:, 1:] - mean * rest[:, :1])
        intercept = rest[:, 0] / n - (mean * slope).sum(axis=1)
        weights = np.column_stack([intercept, slope])
        predicted = np.einsum("fi,fij,fj->f", weights, self.gram[self.left_out], weights)
        error = square[self.left_out] - 2 * (weights * products[self.left_out]).sum(axis=1) + predicted
        return np.asarray(np.maximum(error, 0))  # rounding
