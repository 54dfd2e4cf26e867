"""Combination: from the raw measures of one scan to its table of slice scores and its volume scores."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from normct.common.cli import parser, run
from normct.common.errors import NormctError
from normct.common.files import atomic, read_json, write_json
from normct.score.calibrated import (
    CalibratedSettings,
    calibrated_scores,
    positions_from_record,
    read_left_out,
)
from normct.score.files import Raw, read_raw
from normct.score.files_calibrated import read_pooled
from normct.score.percentile import standing
from normct.score.scores import (
    Settings,
    SliceScore,
    VolumeScore,
    slice_scores,
    volume_scores,
)
from normct.score.slice_reference import (
    NO_REFERENCE,
    Levels,
    read_healthy_slices,
    read_own_slices,
    standings,
)
from normct.score.uncertainty import uncertainties, uncertainty_columns

log = logging.getLogger(__name__)
ROW = ("group", "pathology", "split", "role", "patient")
NUMBERS = {
    "z": "int16",
    "value": "float64",
    "rank": "int32",
    "n_healthy": "int32",
    "percentile": "float64",
    "percentile_low": "float64",
    "percentile_high": "float64",
    "higher_than_all": "bool",
    "uncertainty": "float64",
    "brain_pixels": "int32",
    "lesion_pixels": "int32",
    "usable": "bool",
}
COLUMNS = (
    "participant_id",
    "z",
    "method",
    "score",
    "seed",
    "value",
    "rank",
    "n_healthy",
    "percentile",
    "percentile_low",
    "percentile_high",
    "higher_than_all",
    "uncertainty",
    "uncertainty_of",
    "brain_pixels",
    "lesion_pixels",
    "usable",
    *ROW,
)


def slice_table(
    raw: Raw, row: dict[str, str], scores: list[SliceScore], healthy: Levels, own: Levels
) -> pd.DataFrame:
    """Return one row a slice, method, score and seed.

    Parameters
    ----------
    raw : Raw
        Raw measures of the scan.
    row : dict
        ``group, pathology, split, role, patient`` of the scan, ``n/a`` for what is missing.
    scores : list of SliceScore
    healthy, own : dict
        Scores of the healthy patients by level, and of the scan's own patient where it is one of them.

    Returns
    -------
    DataFrame
        Columns ``COLUMNS``, all 155 slices, blank ones with ``usable`` False; no rows for a scan set aside.
    """
    depth, repeats = len(raw.arrays["z"]), len(scores)
    data: dict[str, Any] = {
        "participant_id": raw.participant_id,
        "method": np.repeat([s.method for s in scores], depth) if scores else [],
        "score": np.repeat([s.score for s in scores], depth) if scores else [],
        "seed": np.repeat([s.seed for s in scores], depth) if scores else [],
        "value": np.concatenate([s.per_slice for s in scores]) if scores else [],
    }
    if scores:
        usable = raw.arrays["usable"]
        data |= standings(scores, usable, healthy, own) | uncertainty_columns(raw, scores)
    data |= {
        name: np.tile(raw.arrays[name], repeats) for name in ("z", "brain_pixels", "lesion_pixels", "usable")
    }
    table = pd.DataFrame(data | {name: row[name] for name in ROW}, columns=list(COLUMNS))
    return table.astype({name: NUMBERS.get(name, "str") for name in COLUMNS})


def volume_record(
    raw: Raw, verdict: str, calibration: dict[str, Any], scores: list[VolumeScore], ranked: bool = True
) -> dict[str, Any]:
    """Return the content of ``<subject>.json``: volume scores, each with place among healthy scans and spread.

    Without ``ranked`` it says why slices have no place among healthy ones.
    """
    volumes, unsure = [], uncertainties(raw, scores)
    for v in scores:
        healthy = calibration["healthy"].get(v.method, {}).get(v.score, {}).get(v.seed, [])
        own = raw.role in calibration["roles"] and bool(healthy)
        entry = {"method": v.method, "score": v.score, "seed": v.seed, "value": v.value}
        spread, of = unsure.get((v.method, v.score, v.seed), (None, None))
        entry |= {"uncertainty": spread, "uncertainty_of": of}
        volumes.append(entry | standing(v.value, healthy, own) | dict(v.channels))
    return {
        "participant_id": raw.participant_id,
        "verdict": verdict,
        "volumes": volumes,
        "thresholds": calibration["thresholds"],
        "seed_thresholds": calibration["seed_thresholds"],
        "calibrated_thresholds": calibration["calibrated"]["thresholds"],
        "slice_percentiles": None if ranked else NO_REFERENCE,
        "warning": calibration["warning"],
    }


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    arguments = parser(__doc__, "normct.score.combine")
    arguments.add_argument("raw", type=Path, help="raw/<subject>.npz")
    arguments.add_argument("quality", type=Path, help="quality.json")
    arguments.add_argument("calibration", type=Path, help="calibration.json")
    arguments.add_argument("--row", type=json.loads, required=True, help=", ".join(ROW))
    arguments.add_argument("--settings", type=json.loads, required=True, help="lambda, head, calibrated")
    arguments.add_argument("--table", type=Path, required=True, help="<subject>.parquet")
    arguments.add_argument("--volumes", type=Path, required=True, help="<subject>.json")
    arguments.add_argument("--pooled", type=Path, required=True, help="pooled/<subject>.npz")
    arguments.add_argument("--left-out", type=Path, help="left_out.npz, where calibration scans are scored")
    arguments.add_argument(
        "--healthy-slices", type=Path, help="healthy_slices.npz; an older bundle has none, and says so"
    )
    args = arguments.parse_args(argv)
    raw, calibration = read_raw(args.raw), read_json(args.calibration)
    settings, chosen = Settings.of(args.settings), CalibratedSettings.of(args.settings)
    if (calibration["settings"], calibration["calibrated"]["settings"]) != (
        settings.as_dict(),
        chosen.as_dict(),
    ):
        raise NormctError(
            "calibration.json was made with other score settings; make it anew before combining"
        )
    slices = slice_scores(raw, calibration["alpha"], settings)
    volumes = volume_scores(raw, slices)
    own = read_left_out(args.left_out, raw.participant_id) if args.left_out else None
    positions = own or positions_from_record(calibration["calibrated"]["positions"])
    pooled = read_pooled(args.pooled, chosen.pool_share)
    more = calibrated_scores(pooled, raw.arrays["usable"], positions, chosen)
    slices += more[0]
    healthy: Levels = {}
    if args.healthy_slices:
        healthy = read_healthy_slices(args.healthy_slices, [(s.method, s.score, s.seed) for s in slices])
    else:
        log.warning(NO_REFERENCE)
    own_levels = read_own_slices(args.left_out, raw.participant_id) if args.left_out else {}
    table = slice_table(raw, args.row, slices, healthy, own_levels)
    with atomic(args.table) as part:
        table.to_parquet(part, index=False, compression="zstd")
    verdict = read_json(args.quality)["verdict"]
    record = volume_record(raw, verdict, calibration, volumes + more[1], bool(args.healthy_slices))
    write_json(args.volumes, record)
    log.info("%s: %d rows", raw.participant_id, len(table))


if __name__ == "__main__":
    run(main)
