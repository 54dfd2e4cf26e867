"""Calibration: scale of the residual, thresholds and healthy distributions, from ``calibrate`` scans only.

No volume is scored with statistics it helped to make: training and test scans are refused here, whoever lists
them, but for training scans that were scored out of fold (``score.cross_fit``). Early-stopping scans stand in only
where a cohort has no other validation patient, with a warning.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from normct.common.cli import parser, run
from normct.common.errors import NormctError
from normct.common.files import read_json, write_json
from normct.common.slices import read_slices
from normct.score.calibrate_z import add_calibrated
from normct.score.calibrated import CalibratedSettings, write_left_out
from normct.score.false_findings import false_findings
from normct.score.files import ATLAS_MAP, Raw, read_maps, read_raw
from normct.score.files_calibrated import read_pooled
from normct.score.scores import Settings, mean_map, slice_scores, volume_scores
from normct.score.tail_quantile import TailQuantile
from normct.score.thesis import head_score, spread_alpha

log = logging.getLogger(__name__)
FEW = 20
RANGES = {ATLAS_MAP: 50.0}
"""Top of the histogram of |map|: 2 for residuals of images in [0, 1], 50 SD for the statistical atlas."""


def refuse_leaks(raws: Iterable[Raw], folds: int = 0) -> str | None:
    """Raise unless every scan is a healthy one held out for calibration.

    Parameters
    ----------
    raws : iterable of Raw
    folds : int
        With cross-fitting, a training scan that was scored out of fold is held out as well.

    Returns
    -------
    str or None
        A warning where a cohort with a single validation patient has its early-stopping scans only.

    Raises
    ------
    NormctError
        Naming each scan and its role.
    """
    raws = list(raws)
    roles = {raw.participant_id: raw.role for raw in raws}
    if roles and set(roles.values()) == {"stop"}:
        return "there is one validation patient, whose scans stop training and calibrate too; add others"
    crossed = {raw.participant_id for raw in raws if folds and raw.role == "train" and raw.held_out}
    wrong = [f"{s} ({role})" for s, role in roles.items() if role != "calibrate" and s not in crossed]
    if wrong:
        raise NormctError(
            f"Only scans of role calibrate may set scales and thresholds, not {', '.join(wrong)}"
        )
    return None


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


def thresholds(
    maps: Iterable[Callable[[], dict[str, NDArray]]], rate: float
) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
    """Return the thresholds of |map| that a share ``rate`` of healthy brain voxels exceeds.

    Parameters
    ----------
    maps : iterable of callables
        Each reads one scan's maps; one scan is in memory at a time.
    rate : float
        Voxel-wise false-positive rate.

    Returns
    -------
    per_method : dict
        Of the residual averaged over seeds, and of the statistical atlas.
    per_seed : dict of dict
        Of each seed's own residual.
    """
    tails: dict[str, TailQuantile] = {}
    for read in maps:
        found = read()
        means = {name.partition("/seed-")[0] for name in found} - {ATLAS_MAP}
        for name, values in [
            *found.items(),
            *((method, mean_map(found, method)) for method in sorted(means)),
        ]:
            tail = tails.setdefault(name, TailQuantile(RANGES.get(name, 2.0)))
            tail.add(np.abs(values.astype(np.float32)))
    per_method: dict[str, float] = {}
    per_seed: dict[str, dict[str, float]] = {}
    for name, tail in sorted(tails.items()):
        method, _, seed = name.partition("/seed-")
        if seed:
            per_seed.setdefault(method, {})[seed] = tail.threshold(rate)
        else:
            per_method[method] = tail.threshold(rate)
    return per_method, per_seed


def calibrate(
    raws: list[Raw],
    maps: Iterable[Callable[[], dict[str, NDArray]]],
    settings: Settings,
    voxel_fpr: float,
    folds: int = 0,
) -> dict[str, Any]:
    """Return the content of ``calibration.json``.

    Parameters
    ----------
    raws : list of Raw
        Of the calibration scans; set-aside ones are skipped.
    maps : iterable of callables
        Each reads the maps of one of these scans.
    settings : Settings
        λ and how the head's probabilities are combined.
    voxel_fpr : float
        Voxel-wise false-positive rate of the thresholds.
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
    per_method, per_seed = thresholds(maps, voxel_fpr)
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
        "voxel_fpr": voxel_fpr,
        "alpha": alpha,
        "thresholds": per_method,
        "seed_thresholds": per_seed,
        "healthy": {
            method: {
                score: {seed: sorted(values) for seed, values in seeds.items()}
                for score, seeds in scores.items()
            }
            for method, scores in healthy.items()
        },
    }


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


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    arguments = parser(__doc__, "normct.score.calibrate")
    arguments.add_argument(
        "score", type=Path, help="folder with <subject>.npz in raw/, maps/, calibrated/ and pooled/"
    )
    arguments.add_argument("out", type=Path, help="calibration.json")
    arguments.add_argument("--left-out", type=Path, required=True, help="left_out.npz, stays here")
    arguments.add_argument("--subjects", nargs="*", default=[], help="participant IDs of calibration scans")
    arguments.add_argument("--patients", nargs="*", default=[], help="the patient of each")
    arguments.add_argument(
        "--settings",
        type=json.loads,
        required=True,
        help="lambda, head, voxel_fpr, calibrated; cross_fit where training scans are among them",
    )
    arguments.add_argument("--preprocess", type=Path, help="folder with <subject>/slices.npz")
    args = arguments.parse_args(argv)

    def readers(folder: str) -> list[Callable[[], dict[str, NDArray]]]:
        return [partial(read_maps, args.score / folder / f"{subject}.npz") for subject in args.subjects]

    raws = [read_raw(args.score / "raw" / f"{subject}.npz") for subject in args.subjects]
    maps, z_maps = readers("maps"), readers("calibrated")
    rate, folds = args.settings["voxel_fpr"], args.settings.get("cross_fit", 0)
    result = calibrate(raws, maps, Settings.of(args.settings), rate, folds)
    chosen = CalibratedSettings.of(args.settings)
    pooled = [
        read_pooled(args.score / "pooled" / f"{subject}.npz", chosen.pool_share) for subject in args.subjects
    ]
    others = add_calibrated(
        result, raws=raws, pooled=pooled, patients=args.patients, maps=z_maps, settings=chosen
    )
    if args.preprocess:
        records = [read_json(args.preprocess / subject / "quality.json") for subject in args.subjects]
        result["quality"] = quality_measures(records)
        for part, read in ((result, maps), (result["calibrated"], z_maps)):
            slices = (read_slices(args.preprocess / subject / "slices.npz") for subject in args.subjects)
            part["false_findings"] = false_findings(zip(slices, read, strict=True), part["thresholds"])
    if result["warning"]:
        log.warning(result["warning"])
    write_left_out(args.left_out, others)
    write_json(args.out, result)


if __name__ == "__main__":
    run(main)
