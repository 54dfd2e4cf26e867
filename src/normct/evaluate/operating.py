"""Operating points of a whole scan: sensitivity at a specificity set on healthy calibration scans.

Intervals are Clopper and Pearson's with the patients as their number, the thresholds taken as they are: a bootstrap
over patients has no width where all are flagged or none, which is where operating points tend to lie.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from normct.common.binomial import exact_interval
from normct.evaluate.data import Scores

_COLUMNS = [
    *("method", "score", "seed", "target_specificity", "threshold", "n_calibrate"),
    *("sensitivity", "sensitivity_low", "sensitivity_high", "n_abnormal", "n_abnormal_patients"),
    *("specificity", "specificity_low", "specificity_high", "n_healthy", "n_healthy_patients"),
    *("flags_per_100_healthy", "reason"),
]


def threshold_at(healthy: NDArray[np.float64], specificity: float) -> float:
    """Return the smallest observed healthy score that at least ``specificity`` of the healthy do not exceed.

    A scan is flagged when its score is *above* the threshold.
    """
    return float(np.quantile(healthy, specificity, method="inverted_cdf"))


def share_interval(share: float, patients: int) -> tuple[float, float]:
    """Return the 95 % interval of a share of scans, or of its mean over seeds, with the patients as their number."""
    return exact_interval(share * patients, patients)


def operating_points(
    volumes: Scores, healthy_scores: dict[str, dict[str, dict[str, list[float]]]], specificities: list[float]
) -> pd.DataFrame:
    """Return sensitivity and reached specificity on the test scans, a row a method, score, seed and target.

    Parameters
    ----------
    volumes : Scores
        Scan scores of the test scans.
    healthy_scores : dict
        Scan scores of the healthy calibration scans, the only source of thresholds: method → score → seed →
        list.
    specificities : list of float
        Targets, such as 0.90 and 0.95.
    """
    rows = []
    units = volumes.units
    group = units["group"].to_numpy(str) if len(units) else np.zeros(0, str)
    patient = units["patient"].to_numpy(str) if len(units) else np.zeros(0, str)
    for index, column in enumerate(volumes.columns):
        values = volumes.values(index)
        known = ~np.isnan(values)
        abnormal, healthy = values[known & (group == "abnormal")], values[known & (group == "healthy")]
        method, score, seed = column
        source = np.array(healthy_scores.get(method, {}).get(score, {}).get(seed, []), float)
        for target in specificities:
            row: dict[str, Any] = dict(zip(("method", "score", "seed"), column, strict=True))
            row |= {"target_specificity": target, "n_calibrate": len(source), "n_abnormal": len(abnormal)}
            row |= {"n_healthy": len(healthy), "reason": ""}
            row |= {
                f"n_{name}_patients": len(np.unique(patient[known & (group == name)]))
                for name in ("abnormal", "healthy")
            }
            if len(source) == 0:
                row["reason"] = "no healthy calibration scan with this score"
                rows.append(row)
                continue
            limit = threshold_at(source, target)
            row["threshold"] = limit
            notes = []
            if len(source) * (1 - target) < 1 - 1e-9:
                notes.append(
                    f"{len(source)} calibration scans cannot resolve this target: the highest one is used"
                )
            if len(abnormal):
                share = float((abnormal > limit).mean())
                low, high = share_interval(share, row["n_abnormal_patients"])
                row |= {"sensitivity": share, "sensitivity_low": low, "sensitivity_high": high}
            else:
                notes.append("no abnormal test scan")
            if len(healthy):
                flagged = float((healthy > limit).mean())
                low, high = share_interval(1 - flagged, row["n_healthy_patients"])
                row |= {"specificity": 1 - flagged, "specificity_low": low, "specificity_high": high}
                row["flags_per_100_healthy"] = 100 * flagged
            else:
                notes.append("no healthy test scan")
            row["reason"] = "; ".join(notes)
            rows.append(row)
    return pd.DataFrame(rows, columns=_COLUMNS)
