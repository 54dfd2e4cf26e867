"""The evaluation's tables as the model card reads them, with the columns that the evaluation writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from normct.evaluate import confound, froc, operating, strata

FUSED = {"method": "fused", "score": "fused", "members": "single", "n_seeds": 2, "note": ""}
_SUMMARY = (
    *("method", "score", "members", "n_seeds", "note", "auroc_mean", "auroc_low", "auroc_high"),
    *("n_pos", "n_neg"),
)
COLUMNS = {
    "detection_summary": ["protocol", *_SUMMARY],
    "pathology": ["pathology", "n_patients", *_SUMMARY],
    "strata": strata._COLUMNS,
    "subgroups": strata._COLUMNS,
    "operating_points": operating._COLUMNS,
    "froc": list(froc._COLUMNS),
    "confound": confound._COLUMNS,
}


def area(value: float | None, low: float | None = None, high: float | None = None) -> dict[str, Any]:
    """An AUROC, with or without its interval."""
    return {"auroc_mean": value, "auroc_low": low, "auroc_high": high}


def stratum(kind: str, name: str, protocol: str, patients: int, *figures: float | None, **more: Any) -> dict:
    """A row of ``strata.csv`` or ``subgroups.csv``."""
    own = {"kind": kind, "stratum": name, "protocol": protocol, "n_patients": patients}
    return FUSED | own | area(*figures) | more


def compared(check: str, detail: str, value: float, p: float, **more: Any) -> dict:
    """A row of ``confound.csv``."""
    own = {
        "check": check,
        "detail": detail,
        "value": value,
        "value_low": value - 0.1,
        "value_high": value + 0.1,
    }
    return FUSED | own | {"p_value": p, "n_group": 7, "n_others": 33} | more


def tables() -> dict[str, list[dict[str, Any]]]:
    """Every table that the card reads, of a cohort with a few gaps."""
    icb = FUSED | {"pathology": "icb", "n_patients": 12} | area(0.913, 0.85, 0.96)
    found = {"map": "calibrated", "n_scans": 14, "n_healthy": 40, "method": "fused"}
    point = {"target_specificity": 0.9, "n_calibrate": 24, "n_abnormal": 20, "n_healthy": 40}
    point |= {"method": "fused", "score": "fused", "reason": ""}
    point |= {"n_healthy_patients": 30}
    return {
        "detection_summary": [
            FUSED | {"protocol": "slice_healthy", "n_pos": 900, "n_neg": 6035} | area(0.84, 0.8, 0.88),
            FUSED | {"protocol": "volume", "n_pos": 20, "n_neg": 40} | area(0.82, 0.75, 0.89),
        ],
        "pathology": [
            icb,
            FUSED | {"pathology": "aneurysm", "n_patients": 3} | area(0.61),
            FUSED | {"pathology": "bleed", "n_patients": 11} | area(0.83, 0.7, 0.9),
            FUSED | {"pathology": "tumor", "n_patients": 10} | area(0.73, 0.49, 0.89),
            icb | {"members": "ensemble", "auroc_mean": 0.99},
            icb | {"method": "vae_kl", "score": "thesis", "auroc_mean": 0.98},
        ],
        "strata": [
            stratum("pathology", "icb", "volume", 14, 0.95, 0.9, 1.0, sensitivity=0.75),
            stratum("pathology", "aneurysm", "volume", 3, 0.41, sensitivity=0.0),
            stratum("pathology", "bleed", "volume", 11, 0.66, 0.55, 0.8, sensitivity=0.5),
            stratum("pathology", "ischemia", "volume", 0, None, note="nothing of this kind in the cohort"),
            stratum("subtype", "bleed: subdural", "slice_healthy", 11, 0.69, 0.6, 0.8),
            stratum("subtype", "bleed: subdural", "volume", 11, 0.72, 0.6, 0.8, sensitivity=0.25),
            stratum("lesion_volume", "under 1 mL", "slice_healthy", 13, 0.6, 0.45, 0.73),
            stratum("lesion_volume", "under 1 mL", "volume", 13, 0.56, 0.55, 0.72, sensitivity=0.11),
            stratum("third", "base", "slice_healthy", 15, 0.82, 0.72, 0.92),
        ],
        "operating_points": [
            point | {"seed": "0", "sensitivity": 0.6, "specificity": 0.875},
            point | {"seed": "1", "sensitivity": 0.7, "specificity": 0.925},
            point | {"seed": "all", "sensitivity": 1.0, "specificity": 1.0},
            point | {"seed": "0", "target_specificity": 0.99, "reason": "24 calibration scans cannot resolve it"}
            | {"sensitivity": 0.5, "specificity": 0.95},
        ],
        "froc": [
            found | {"subset": "focal", "false_per_scan": "1", "false_per_healthy_scan": 0.95, "n_lesions": 16}
            | {"sensitivity": 0.5, "sensitivity_low": 0.4, "sensitivity_high": 0.6},
            found | {"subset": "focal", "false_per_scan": "calibrated", "false_per_healthy_scan": 20.775}
            | {"sensitivity": 0.75, "n_lesions": 16},
            found | {"subset": "icb", "false_per_scan": "calibrated", "n_lesions": 12, "sensitivity": 0.75},
            found | {"subset": "focal", "false_per_scan": "2", "map": "residual", "sensitivity": 0.123},
        ],
        "subgroups": [
            stratum("scanner", "St. Mary's CT 1", "volume", 7, 0.81, 0.6, 0.9, n_healthy_patients=5),
            stratum("scanner", "St. Mary's CT 2", "volume", 8, 0.82, 0.6, 0.9, n_healthy_patients=35),
            stratum("age", "under 50 years", "volume", 7, 0.5, 0.4, 0.6),
        ],
        "confound": [
            compared("scanner", "St. Mary's CT 1 against the others", 0.45, 0.6),
            compared("scanner", "St. Mary's CT 2 against the others", 0.28, 0.041, p_holm=0.39),
            compared("transfer", "healthy test against calibration scans", 0.29, 0.03),
            compared("scanner", "General CT against the others", 0.75, 0.02),
            compared("slice_thickness", "above 4 mm against the others", 0.71, 0.03),
            compared("slice_thickness", "above 4 mm against the others", 0.01, 0.001, method="vae_kl"),
            compared("acquisition", "abnormal against healthy", 0.52, 0.8, method="acquisition", score="trivial"),
        ],
    }  # fmt: skip


def write(folder: Path, chosen: dict[str, list[dict[str, Any]]] | None = None) -> Path:
    """Write tables (all by default) with the evaluation's columns."""
    for name, rows in (tables() if chosen is None else chosen).items():
        pd.DataFrame(rows, columns=COLUMNS[name]).to_csv(folder / f"{name}.csv", index=False)
    return folder
