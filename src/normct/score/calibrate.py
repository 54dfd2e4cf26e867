"""Calibration: scale of the residual and healthy distributions, from ``calibrate`` scans only; no map is read.

No volume is scored with statistics it helped to make: training and test scans are refused here, whoever lists
them, but for training scans that were scored out of fold (``score.cross_fit``). Early-stopping scans stand in only
where a cohort has no other validation patient, with a warning.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from normct.common.cli import parser, run
from normct.common.errors import NormctError
from normct.common.files import read_json, write_json
from normct.score.calibrate_z import add_calibrated
from normct.score.calibrated import CalibratedSettings, Positions, calibrated_scores, write_left_out
from normct.score.files import Raw, read_raw
from normct.score.files_calibrated import Key, read_pooled
from normct.score.leaks import refuse_leaks
from normct.score.scores import Settings, SliceScore, slice_scores, volume_scores
from normct.score.slice_reference import Levels, by_patient, own_slices, write_healthy_slices
from normct.score.thesis import head_score, spread_alpha

log = logging.getLogger(__name__)
FEW = 20


def alphas(raws: list[Raw], settings: Settings) -> dict[str, dict[str, float]]:
    """Return α of each method and seed, over the usable slices of the calibration scans."""
    result: dict[str, dict[str, float]] = {}
    for method, seed in raws[0].networks():
        key = f"{method}/{seed}"
        l2 = np.concatenate([raw.arrays[f"{key}/residual_l2"][raw.arrays["usable"]] for raw in raws])
        s_c = None
        if f"{key}/log_p" in raws[0].arrays:
            parts = [raw.arrays[f"{key}/log_p"][raw.arrays["usable"]] for raw in raws]
            s_c = head_score(np.concatenate(parts), settings.combine, settings.anomaly)
        result.setdefault(method, {})[seed] = spread_alpha(l2, s_c)
    return result


def calibrate(raws: list[Raw], settings: Settings, folds: int = 0) -> dict[str, Any]:
    """Return the content of ``calibration.json`` but for what comes from maps and calibrated scores.

    Parameters
    ----------
    raws : list of Raw
        Of the calibration scans; set-aside ones are skipped.
    settings : Settings
        λ and how the head's probabilities are combined.
    folds : int
        ``score.cross_fit``; 0 without.

    Raises
    ------
    NormctError
        For a scan of another role, or when no scan is left.
    """
    shared = refuse_leaks(raws, folds)
    raws = [raw for raw in raws if not raw.set_aside]
    if not raws:
        raise NormctError(
            "No healthy calibration scan passed quality control, so nothing can be scaled; "
            "add healthy scans to the split val, or see preprocess/quality.html for why they were set aside"
        )
    alpha = alphas(raws, settings)
    healthy: dict[str, dict[str, dict[str, list[float]]]] = {}
    for raw in raws:
        for row in volume_scores(raw, slice_scores(raw, alpha, settings)):
            by_score = healthy.setdefault(row.method, {}).setdefault(row.score, {})
            by_score.setdefault(row.seed, []).append(row.value)
    few = (
        f"{len(raws)} healthy calibration scans: percentiles and thresholds are coarse; {FEW} or more wanted"
    )
    warnings = [few] * (len(raws) < FEW) + [shared] * bool(shared)
    crossed = {"folds": folds, "scans": sum(raw.role == "train" for raw in raws)}
    return {
        "n_healthy": len(raws),
        **({"cross_fit": crossed} if folds else {}),
        "roles": sorted({raw.role for raw in raws}),
        "warning": "; ".join(filter(None, warnings)) or None,
        "settings": settings.as_dict(),
        "alpha": alpha,
        "healthy": {
            method: {
                score: {seed: sorted(values) for seed, values in seeds.items()}
                for score, seeds in scores.items()
            }
            for method, scores in healthy.items()
        },
    }


def with_voxels(result: dict[str, Any], voxels: dict[str, Any]) -> dict[str, Any]:
    """Return a calibration with the thresholds of ``voxel_thresholds.json``: a bundle has one file of them all.

    Parameters
    ----------
    result : dict
        Of :func:`calibrate` and :func:`normct.score.calibrate_z.add_calibrated`.
    voxels : dict
        Of :func:`normct.score.voxel_thresholds.voxel_thresholds`.
    """
    return result | voxels | {"calibrated": result["calibrated"] | voxels["calibrated"]}


def quality_measures(records: Iterable[dict[str, Any]]) -> dict[str, list[float]]:
    """Return each quality measure of the accepted scans, sorted by itself: no row of it is one scan.

    Parameters
    ----------
    records : iterable of dict
        Content of ``quality.json``.
    """
    found: dict[str, list[float]] = {}
    for record in records:
        if record["verdict"] != "fail":
            for name, value in record["measures"].items():
                if isinstance(value, int | float):
                    found.setdefault(name, []).append(float(value))
    return {name: sorted(values) for name, values in sorted(found.items())}


def healthy_slices(
    raws: list[Raw],
    pooled: list[dict[Key, NDArray[np.float32]]],
    patients: list[str],
    others: Mapping[str, Positions],
    alpha: Mapping[str, Mapping[str, float]],
    settings: tuple[Settings, CalibratedSettings],
) -> dict[str, Levels]:
    """Return each calibration patient's slice scores by level, calibrated ones without the patient itself.

    Parameters
    ----------
    raws, pooled, patients : sequences
        Of the calibration scans, in one order.
    others : mapping
        From :func:`normct.score.calibrate_z.add_calibrated`.
    alpha : mapping
        Of the calibration.
    settings : tuple
    """
    plain, chosen = settings

    def scores(raw: Raw, values: dict[Key, NDArray[np.float32]]) -> list[SliceScore]:
        made = slice_scores(raw, alpha, plain)
        positions = others.get(raw.participant_id, {})
        return made + calibrated_scores(values, raw.arrays["usable"], positions, chosen)[0]

    scans = zip(raws, pooled, patients, strict=True)
    return by_patient(
        ((p, raw.arrays["usable"], scores(raw, values)) for raw, values, p in scans if not raw.set_aside),
        chosen.position_mm,
    )


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    arguments = parser(__doc__, "normct.score.calibrate")
    arguments.add_argument("score", type=Path, help="folder with <subject>.npz in raw/ and pooled/")
    arguments.add_argument("out", type=Path, help="calibration.json")
    arguments.add_argument("--voxels", type=Path, required=True, help="voxel_thresholds.json")
    arguments.add_argument("--left-out", type=Path, required=True, help="left_out.npz, stays here")
    arguments.add_argument("--healthy-slices", type=Path, required=True, help="healthy_slices.npz")
    arguments.add_argument("--subjects", nargs="*", default=[], help="participant IDs of calibration scans")
    arguments.add_argument("--patients", nargs="*", default=[], help="the patient of each")
    arguments.add_argument(
        "--settings",
        type=json.loads,
        required=True,
        help="lambda, head, calibrated; cross_fit where training scans are among them",
    )
    arguments.add_argument("--preprocess", type=Path, help="folder with <subject>/quality.json")
    args = arguments.parse_args(argv)
    raws = [read_raw(args.score / "raw" / f"{subject}.npz") for subject in args.subjects]
    plain, chosen = Settings.of(args.settings), CalibratedSettings.of(args.settings)
    result = calibrate(raws, plain, args.settings.get("cross_fit", 0))
    pooled = [
        read_pooled(args.score / "pooled" / f"{subject}.npz", chosen.pool_share) for subject in args.subjects
    ]
    others = add_calibrated(result, raws=raws, pooled=pooled, patients=args.patients, settings=chosen)
    if args.preprocess:
        records = [read_json(args.preprocess / subject / "quality.json") for subject in args.subjects]
        result["quality"] = quality_measures(records)
    if result["warning"]:
        log.warning(result["warning"])
    levels = healthy_slices(raws, pooled, args.patients, others, result["alpha"], (plain, chosen))
    # a cross-fitted training scan has no scores of its own
    scored = [raw.participant_id for raw in raws if raw.role != "train"]
    of = {s: p for s, p in zip(args.subjects, args.patients, strict=True) if s in scored}
    write_healthy_slices(args.healthy_slices, levels)
    write_left_out(args.left_out, others, own_slices(of, levels))
    write_json(args.out, with_voxels(result, read_json(args.voxels)))


if __name__ == "__main__":
    run(main)
