"""Smooth random fields and separable resampling, the phantom's arithmetic."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]


def spline_matrix(count: int, spacing: float) -> Array:
    """Return the uniform cubic B-spline basis, shape (count, controls), for samples 0 … count − 1.

    Parameters
    ----------
    count : int
        Number of samples.
    spacing : float
        Samples between two control points.
    """
    controls = int(np.ceil((count - 1) / spacing)) + 3
    distance = np.abs(np.arange(count)[:, None] / spacing + 1 - np.arange(controls)[None])
    near = 2 / 3 - distance**2 + distance**3 / 2
    far = np.clip(2 - distance, 0, None) ** 3 / 6
    return np.where(distance < 1, near, far).astype(np.float32)


def linear_matrix(count: int, positions: NDArray[np.floating]) -> Array:
    """Return linear weights, shape (positions, count); positions outside take the end's value."""
    clipped = np.clip(positions, 0, count - 1)
    return np.clip(1 - np.abs(clipped[:, None] - np.arange(count)[None]), 0, None).astype(np.float32)


def gaussian_matrix(count: int, sigma: float) -> Array:
    """Return a Gaussian blur as a matrix, shape (count, count), rows summing to 1; sigma in samples."""
    distance = np.arange(count)[:, None] - np.arange(count)[None]
    weights = np.exp(-0.5 * (distance / max(sigma, 1e-3)) ** 2)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


def separable(data: Array, matrices: Sequence[Array]) -> Array:
    """Apply one matrix to each of three axes, shape (a, b, c) to (a', b', c')."""
    result: Array = np.asarray(data, np.float32)
    for matrix in matrices:
        # the first axis is contracted and comes back as the last: after three turns the order is the old one
        result = np.tensordot(result, matrix, axes=(0, 1))
    return np.ascontiguousarray(result)


def upsample(data: Array, factor: float, shape: tuple[int, ...]) -> Array:
    """Interpolate linearly; sample i of the result lies at i / factor of ``data``."""
    sizes = zip(data.shape, shape, strict=True)
    return separable(data, [linear_matrix(n, np.arange(m) / factor) for n, m in sizes])


def noise(rng: np.random.Generator, shape: tuple[int, ...], spacing: float) -> Array:
    """Return a smooth random field of mean 0 and SD 1; ``spacing`` in samples sets its scale."""
    basis = [spline_matrix(n, spacing) for n in shape]
    field = separable(rng.standard_normal([b.shape[1] for b in basis]).astype(np.float32), basis)
    return (field - field.mean()) / max(float(field.std()), 1e-6)


def smoothstep(values: Array, low: float, high: float) -> Array:
    """Rise smoothly from 0 at ``low`` to 1 at ``high``."""
    t = np.clip((values - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)
