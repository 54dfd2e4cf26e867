"""How many findings a healthy scan gets: connected regions of the calibration scans' maps above a threshold.

Counted over a ladder of thresholds and smallest sizes, so that a page can say it for whatever it shows, with
a frozen bundle too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from normct.common.slices import GRID, SIZE, SliceStore
from normct.score.scores import mean_map

FACTORS = (0.5, 0.75, 1.0, 1.25, 1.5, 2.0)
SIZES_ML = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
VOXEL_ML = (GRID / SIZE) ** 2 / 1000.0
"""Volume of a pixel of the 128×128 slices at 1 mm distance."""


def region_volumes(volume: NDArray[np.float32], threshold: float) -> NDArray[np.float64]:
    """Return the volumes in mL of the regions (26 neighbours) above the threshold, each sign apart.

    Parameters
    ----------
    volume : ndarray
        Signed map, shape (z, y, x) on the 128×128 slices; 0 outside the brain.
    threshold : float
        Absolute value a voxel must exceed.
    """
    found = []
    for sign in (1.0, -1.0):
        labels, _ = ndimage.label(volume * sign > threshold, np.ones((3, 3, 3)))
        found.append(np.bincount(labels.ravel())[1:])
    return np.asarray(np.concatenate(found) * VOXEL_ML, np.float64)


def _box(mask: NDArray[np.bool_]) -> tuple[slice, ...]:
    boxes = ndimage.find_objects(mask.astype(np.uint8))
    return boxes[0] if boxes else (slice(0, 0),) * 3


def false_findings(
    scans: Iterable[tuple[SliceStore, Callable[[], dict[str, NDArray]]]], thresholds: dict[str, float]
) -> dict[str, Any]:
    """Return ``false_findings`` of ``calibration.json``.

    Parameters
    ----------
    scans : iterable of (SliceStore, callable)
        Slices of healthy calibration scans, and what reads their maps; set-aside ones are skipped.
    thresholds : dict
        Method to calibrated threshold, of the residual averaged over seeds.

    Returns
    -------
    dict
        ``factors`` (of the threshold), ``sizes_ml`` (smallest regions counted), ``n_scans``, and ``mean`` and
        ``largest``: method to one list a factor of counts a scan, one a size, over the scans.
    """
    counts: dict[str, list[NDArray[np.int64]]] = {}
    seen = 0
    for store, read in scans:
        if store.set_aside:
            continue
        seen += 1
        maps, box = read(), _box(store.mask)
        for method, threshold in thresholds.items():
            values = maps[method] if method in maps else mean_map(maps, method)
            volume = np.zeros(store.mask.shape, np.float32)
            volume[store.mask] = values
            table = [
                [int((sizes >= smallest).sum()) for smallest in SIZES_ML]
                for sizes in (region_volumes(volume[box], threshold * factor) for factor in FACTORS)
            ]
            counts.setdefault(method, []).append(np.array(table))
    return {
        "factors": list(FACTORS),
        "sizes_ml": list(SIZES_ML),
        "n_scans": seen,
        "mean": {m: np.mean(c, axis=0).round(2).tolist() for m, c in counts.items()},
        "largest": {m: np.max(c, axis=0).tolist() for m, c in counts.items()},
    }
