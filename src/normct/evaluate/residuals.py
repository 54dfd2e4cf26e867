"""Residual maps of a scan, unpacked and carried to the 1 mm grid."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from normct.common.slices import GRID, SIZE, SliceStore

ATLAS_KEY = "statistical_atlas"


def split_key(key: str) -> tuple[str, str]:
    """Return method and seed of a map's key; ``n/a`` for the statistical atlas."""
    method, _, seed = key.partition("/seed-")
    return method, seed or "n/a"


def read_maps(path: str | Path, store: SliceStore) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Yield each map of ``R/score/maps/<sub>.npz`` one at a time.

    Yields
    ------
    key : str
        ``<method>/seed-<n>`` or ``statistical_atlas``.
    residual : ndarray
        Shape (155, 128, 128), signed; 0 outside the brain mask.
    """
    with np.load(path, allow_pickle=False) as content:
        for key in sorted(content.files):
            residual = np.zeros(store.mask.shape, np.float32)
            residual[store.mask] = content[key].astype(np.float32)
            yield key, residual


@lru_cache(maxsize=1)
def _weights() -> NDArray[np.float32]:
    """Linear interpolation 128 → 240 with pixel centres aligned, shape (240, 128)."""
    at: NDArray[np.float64] = np.clip((np.arange(GRID) + 0.5) * SIZE / GRID - 0.5, 0, SIZE - 1)
    low = np.minimum(np.floor(at).astype(int), SIZE - 2)
    weights = np.zeros((GRID, SIZE), np.float32)
    weights[np.arange(GRID), low] = 1 - (at - low)
    weights[np.arange(GRID), low + 1] = at - low
    return weights


def enlarge(slices: NDArray[np.float32]) -> NDArray[np.float32]:
    """Carry slices of shape (n, 128, 128) to the 1 mm grid, (n, 240, 240), bilinearly."""
    weights = _weights()
    return np.asarray(weights @ slices @ weights.T, np.float32)
