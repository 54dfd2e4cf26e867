"""The calibrated scores' part of the calibration: thresholds of |z|, position statistics, healthy scores."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from normct.score.calibrated import (
    CalibratedSettings,
    Healthy,
    Positions,
    calibrated_scores,
    left_out,
    positions_of,
    positions_record,
)
from normct.score.files import Raw
from normct.score.files_calibrated import Key
from normct.score.tail_quantile import TailQuantile

Z_RANGE = 50.0
"""Top of the histogram of |z|, in SD."""


def z_thresholds(
    maps: Iterable[Callable[[], dict[str, NDArray]]], rate: float
) -> tuple[dict[str, float], dict[str, float]]:
    """Return of each z map the |z| that a share ``rate`` of healthy brain voxels exceeds, and the SD of z.

    Parameters
    ----------
    maps : iterable of callables
        Each reads one calibration scan's z maps, made without its own patient.
    rate : float
        Voxel-wise false-positive rate.
    """
    tails: dict[str, TailQuantile] = {}
    moments: dict[str, NDArray[np.float64]] = {}
    for read in maps:
        for name, packed in read().items():
            values = packed.astype(np.float32)
            tails.setdefault(name, TailQuantile(Z_RANGE)).add(np.abs(values))
            sums = [values.size, values.sum(dtype=np.float64), np.square(values).sum(dtype=np.float64)]
            moments[name] = moments.get(name, np.zeros(3)) + sums
    spread = {name: float(np.sqrt(max(q / n - (s / n) ** 2, 0.0))) for name, (n, s, q) in moments.items()}
    return {name: tail.threshold(rate) for name, tail in sorted(tails.items())}, spread


def add_calibrated(
    result: dict[str, Any],
    *,
    raws: list[Raw],
    pooled: list[dict[Key, NDArray[np.float32]]],
    patients: list[str],
    maps: Iterable[Callable[[], dict[str, NDArray]]],
    settings: CalibratedSettings,
) -> dict[str, Positions]:
    """Add the calibrated scores' part to the content of ``calibration.json``.

    Parameters
    ----------
    result : dict
        From :func:`calibrate`; changed in place.
    raws, pooled, patients, maps : sequences
        Of the calibration scans, in one order. A scan without pooled values was set aside.
    settings : CalibratedSettings

    Returns
    -------
    dict
        Position statistics that each calibration scan is itself scored with, made without its own patient.
    """
    scans: dict[str, Healthy] = {
        raw.participant_id: (patient, values, raw.arrays["usable"])
        for raw, values, patient in zip(raws, pooled, patients, strict=True)
        if values
    }
    others = left_out(scans, settings)
    for subject, (_, values, usable) in scans.items():
        for row in calibrated_scores(values, usable, others[subject], settings)[1]:
            by_score = result["healthy"].setdefault(row.method, {}).setdefault(row.score, {})
            by_score.setdefault(row.seed, []).append(row.value)
    for scores in result["healthy"].values():
        for seeds in scores.values():
            for values_of_seed in seeds.values():
                values_of_seed.sort()
    limits, spread = z_thresholds(maps, result["voxel_fpr"])
    result["calibrated"] = {
        "settings": settings.as_dict(),
        "n_scans": len(scans),
        "thresholds": limits,
        "spread": spread,
        "positions": positions_record(positions_of(list(scans.values()), settings)),
    }
    if not scans:
        alone = "no calibrated scores: they need two calibration patients or more"
        result["warning"] = "; ".join(filter(None, [result["warning"], alone]))
    return others
