"""The calibrated scores' part of the calibration: position statistics and healthy scores."""

from __future__ import annotations

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


def add_calibrated(
    result: dict[str, Any],
    *,
    raws: list[Raw],
    pooled: list[dict[Key, NDArray[np.float32]]],
    patients: list[str],
    settings: CalibratedSettings,
) -> dict[str, Positions]:
    """Add the calibrated scores' part to the content of ``calibration.json``.

    Parameters
    ----------
    result : dict
        From :func:`calibrate`; changed in place.
    raws, pooled, patients : sequences
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
    result["calibrated"] = {
        "settings": settings.as_dict(),
        "n_scans": len(scans),
        "positions": positions_record(positions_of(list(scans.values()), settings)),
    }
    if not scans:
        alone = "no calibrated scores: they need two calibration patients or more"
        result["warning"] = "; ".join(filter(None, [result["warning"], alone]))
    return others
