"""Trivial baselines: raw measures of one scan without a network, directions fixed beforehand.

Every measure is stored so that larger means more abnormal.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from normct.common.slices import SliceStore

ACQUISITION = ("slice_thickness_mm", "noise_hu", "pitch_deg", "mi")
"""Measures of ``quality.json`` that describe how a scan was made, not whom it shows."""

ACQUISITION_FLOOR = (0.25, 0.25, 2.0, 0.01)
"""Smallest SD of each (mm, HU, degrees, nats): a cohort from one protocol has none of its own."""


def slice_means(store: SliceStore, window: tuple[float, float]) -> NDArray[np.float64]:
    """Return the mean over the brain of each slice in HU of ``window``, shape (155,); NaN without brain."""
    pixels = store.mask.sum(axis=(1, 2))
    total = store.image.astype(np.float64).sum(axis=(1, 2), where=store.mask)
    mean = np.divide(total, pixels, out=np.full(len(pixels), np.nan), where=pixels > 0)
    return window[0] + mean * (window[1] - window[0])


def atlas_z(store: SliceStore, atlas: Mapping[str, NDArray]) -> NDArray[np.float32]:
    """Return the signed statistical-atlas map (x - μ)/σ, shape (155, 128, 128), 0 outside the brain."""
    z = (store.image.astype(np.float32) - atlas["mean"]) / atlas["sd"]
    return np.where(store.mask, z, np.float32(0))


def slice_measures(
    store: SliceStore, atlas: Mapping[str, NDArray], z_map: NDArray[np.float32], window: tuple[float, float]
) -> dict[str, NDArray[np.float64]]:
    """Return the baselines of each slice, named as in the registry.

    Parameters
    ----------
    store : SliceStore
        Slices of a scan that was not set aside.
    atlas : mapping
        ``statistical_atlas.npz``.
    z_map : ndarray
        From :func:`atlas_z`.
    window : tuple of float
        HU of the stored values 0 and 1.

    Returns
    -------
    dict of ndarray
        Shape (155,): ``brain_area`` (240×240 pixels), ``slice_position`` (minus the distance to the slice of
        largest mean area), ``mean_hu`` (HU from the healthy mean at that position), ``statistical_atlas``
        (mean |z|). A slice without brain departs from nothing: its last two are 0.
    """
    pixels = store.mask.sum(axis=(1, 2))
    distance = np.abs(slice_means(store, window) - atlas["hu_mean"])
    return {
        "brain_area": store.brain.sum(axis=(1, 2)).astype(np.float64),
        "slice_position": -np.abs(np.arange(len(pixels)) - float(atlas["peak_z"])),
        "mean_hu": np.where(pixels > 0, np.nan_to_num(distance), 0.0),
        "statistical_atlas": np.abs(z_map).sum(axis=(1, 2), dtype=np.float64) / np.maximum(pixels, 1),
    }


def acquisition_distance(measures: Mapping[str, Any], atlas: Mapping[str, NDArray]) -> float:
    """Return the mean |measure - healthy mean| / SD over the acquisition measures taken; NaN when none was.

    Parameters
    ----------
    measures : mapping
        ``measures`` of ``quality.json``.
    atlas : mapping
        ``acquisition_mean``, ``acquisition_sd`` of ``statistical_atlas.npz``, ordered as ``ACQUISITION``.
    """
    distances = [
        abs(float(measures[name]) - mean) / sd
        for name, mean, sd in zip(
            ACQUISITION, atlas["acquisition_mean"], atlas["acquisition_sd"], strict=True
        )
        if measures.get(name) is not None and np.isfinite(mean)
    ]
    return float(np.mean(distances)) if distances else float("nan")
