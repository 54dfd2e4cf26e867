"""FROC: lesions found against false findings in healthy scans, as the threshold of a map is lowered.

A lesion is found when one connected region of the map overlaps it with at least 0.1 of their union; a region
finds one lesion only; regions under 0.1 mL are dropped. Atrophy has no focus and is left out. False findings
are the regions in healthy test scans. Thresholds are multiples of the calibrated one; the one of a stated rate
of false findings is set on these healthy test scans, lesions having no say.

Writes ``froc.csv`` (sensitivity at stated rates) and ``froc_curve.csv``.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import ndimage

from normct.common.cli import run
from normct.common.files import read_json
from normct.common.slices import read_slices
from normct.evaluate import protocols as pr
from normct.evaluate.arguments import command_line
from normct.evaluate.data import accepted_test, ordered, ordered_pathologies, read_cohort
from normct.evaluate.dice_tables import DIFFUSE
from normct.evaluate.metrics import draw_patients, interval, of_draws
from normct.evaluate.regions import lesions, sweep
from normct.evaluate.residuals import read_maps, split_key
from normct.evaluate.tables import write_tables

log = logging.getLogger(__name__)
RATES = (0.5, 1.0, 2.0, 4.0)
"""False findings a healthy scan at which sensitivity is reported."""
FACTORS = np.geomspace(0.75, 8.0, 65)
"""Thresholds tried, as multiples of the calibrated one, 3.8 % apart."""
CALIBRATED = "calibrated"
Column = tuple[str, str]
"""Method and kind of map: ``residual`` or ``calibrated``."""


@dataclass(frozen=True)
class Found:
    """What one scan's map shows: hits of shape (lesions, thresholds), findings of shape (thresholds,)."""

    hits: NDArray[np.bool_]
    findings: NDArray[np.int64]


def method_thresholds(calibration: dict[str, Any]) -> dict[Column, float]:
    """Return the calibrated threshold of each method's residual (mean over seeds) and z map."""
    found = {(m, "residual"): float(v) for m, v in calibration["thresholds"].items()}
    return found | {(m, CALIBRATED): float(v) for m, v in calibration["calibrated"]["thresholds"].items()}


def scan_found(
    scan: dict[str, Any], maps: dict[str, Path], preprocess: Path, thresholds: dict[Column, float]
) -> dict[Column, Found]:
    """Return what every map of a scan shows; a method's residual is the mean over its seeds.

    The statistical atlas has no residual: its plain map, |z| against healthy training voxels, stands among them.
    """
    store = read_slices(preprocess / scan["participant_id"] / "slices.npz")
    if store.set_aside:
        return {}
    targets: list[NDArray[np.float32]] = []
    if scan["group"] == "abnormal":
        targets = lesions(store.lesion & store.usable[:, None, None])
        if not targets:
            return {}
    # a lesion may reach beyond what was taken for brain, and counts in full
    looked_at = np.logical_or.reduce([store.mask, *(target > 0 for target in targets)])
    box = ndimage.find_objects(looked_at.astype(np.uint8))[0]
    targets = [np.ascontiguousarray(target[box]) for target in targets]
    result = {}
    for kind, folder in maps.items():
        sums: dict[str, NDArray[np.float32]] = {}
        members: dict[str, int] = defaultdict(int)
        for key, values in read_maps(folder / f"{scan['participant_id']}.npz", store):
            method = split_key(key)[0]
            sums[method] = sums[method] + values[box] if method in sums else values[box]
            members[method] += 1
        for method, total in sums.items():
            if (method, kind) not in thresholds:
                continue
            ladder = thresholds[method, kind] * np.append(FACTORS, 1.0)
            usable = np.asarray(total / members[method] * store.usable[box[0], None, None], np.float32)
            found, counts = zip(*sweep(usable, ladder, targets), strict=True)
            result[method, kind] = Found(np.stack(found, axis=1), np.array(counts))
    return result


def lowest_allowed(rate: NDArray[np.float64], target: float) -> NDArray[np.intp]:
    """Return the lowest threshold from which every stricter one keeps to ``target`` false findings a scan.

    Regions merge as a threshold falls, so that their number may fall again; that far side is not used.

    Parameters
    ----------
    rate : ndarray
        Shape (draws, thresholds), thresholds rising.

    Returns
    -------
    ndarray of int
        Shape (draws,); the number of thresholds where none keeps to it.
    """
    kept = np.logical_and.accumulate(rate[:, ::-1] <= target, axis=1)
    return np.asarray(rate.shape[1] - kept.sum(axis=1), np.intp)


def _subsets(scan: dict[str, Any]) -> list[str]:
    named = ["focal", scan["pathology"]]
    return (
        [*named, f"{scan['pathology']}: {scan['subtype']}"] if scan["subtype"] not in {"", "n/a"} else named
    )


def _at(
    tables: tuple[NDArray, NDArray, NDArray, NDArray], counts: NDArray, target: float | None
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.intp]]:
    """Return sensitivity, false findings a scan and place of the threshold, of each draw of patients."""
    found, size, false, healthy = tables
    with np.errstate(invalid="ignore", divide="ignore"):
        rate = (counts @ false) / (counts @ healthy)[:, None]
        sensitivity = (counts @ found) / (counts @ size)[:, None]
    last = len(FACTORS)
    place = np.full(len(counts), last) if target is None else lowest_allowed(rate[:, :last], target)
    missing = (place == last) if target is not None else np.zeros(len(counts), bool)
    rows = np.arange(len(counts))
    picked = np.where(missing, np.nan, sensitivity[rows, place])
    return picked, np.where(missing, np.nan, rate[rows, place]), place


def _sensitivity(
    tables: tuple[NDArray, NDArray, NDArray, NDArray], counts: NDArray, target: float | None
) -> NDArray[np.float64]:
    return _at(tables, counts, target)[0]


def _sums(
    column: Column,
    members: list[dict[str, Any]],
    healthy: list[dict[str, Any]],
    found: dict[str, dict[Column, Found]],
    patient: dict[str, int],
    n: int,
) -> tuple[NDArray, NDArray, NDArray, NDArray]:
    """Return hits, lesions, false findings and healthy scans of each patient; hits and findings a threshold."""
    hit, size = np.zeros((n, len(FACTORS) + 1)), np.zeros(n)
    false, seen = np.zeros_like(hit), np.zeros(n)
    for scan in members:
        shown = found[scan["participant_id"]][column].hits
        hit[patient[scan["participant_id"]]] += shown.sum(axis=0)
        size[patient[scan["participant_id"]]] += len(shown)
    for scan in healthy:
        false[patient[scan["participant_id"]]] += found[scan["participant_id"]][column].findings
        seen[patient[scan["participant_id"]]] += 1
    return hit, size, false, seen


def _curve(
    column: Column, parts: tuple[NDArray, NDArray, NDArray, NDArray], threshold: float
) -> list[dict[str, Any]]:
    """Return sensitivity and false findings a healthy scan at each threshold tried."""
    hit, size, false, seen = (part.sum(axis=0) for part in parts)
    return [
        dict(
            zip(
                _CURVE,
                (*column, threshold * factor, false[i] / seen if seen else np.nan, hit[i] / size),
                strict=True,
            )
        )
        for i, factor in enumerate(FACTORS)
    ]


_COLUMNS = [
    *("subset", "method", "map", "false_per_scan", "threshold_value", "false_per_healthy_scan"),
    *("sensitivity", "sensitivity_low", "sensitivity_high", "n_lesions", "n_scans", "n_healthy", "reason"),
]
_CURVE = ["method", "map", "threshold_value", "false_per_healthy_scan", "sensitivity"]


def evaluate(
    scans: pd.DataFrame,
    found: dict[str, dict[Column, Found]],
    thresholds: dict[Column, float],
    settings: dict[str, Any],
) -> dict[str, pd.DataFrame]:
    """Return the tables by file name.

    Parameters
    ----------
    scans : DataFrame
        Accepted test scans; those without an entry in ``found`` had nothing to find.
    found : dict
        Scan to what each of its maps shows.
    thresholds : dict
        Calibrated threshold of each map.
    settings : dict
        ``bootstrap`` (draws) and ``seed``.
    """
    strata = pr.make_strata(scans)
    counts = draw_patients(strata.stratum, settings["bootstrap"], settings["seed"])
    once = np.ones((1, len(strata.patients)))
    patient = dict(zip(scans["participant_id"], strata.code(scans), strict=True))
    records: list[Any] = [s for s in scans.to_dict("records") if found.get(s["participant_id"])]
    healthy = [scan for scan in records if scan["group"] == "healthy"]
    by_subset: dict[str, list[dict[str, Any]]] = {}
    for scan in records:
        for name in _subsets(scan) if scan["group"] == "abnormal" else []:
            by_subset.setdefault(name, []).append(scan)
    names = [n for n in ("focal",) if n in by_subset]
    names += ordered_pathologies(n for n in by_subset if n not in names)
    columns = [(m, k) for m, k, _ in ordered((m, k, "") for s in found.values() for m, k in s)]
    rows: list[dict[str, Any]] = []
    curve: list[dict[str, Any]] = []
    for subset in names:
        members = by_subset[subset]
        carriers = np.array([patient[scan["participant_id"]] for scan in members])
        blocked = pr.judge_intervals(strata, carriers)
        for column in columns:
            parts = _sums(column, members, healthy, found, patient, len(strata.patients))
            for target in (*RATES, None):
                row: dict[str, Any] = dict(zip(("subset", "method", "map"), (subset, *column), strict=True))
                row |= {"false_per_scan": CALIBRATED if target is None else f"{target:g}"}
                row |= {"n_lesions": int(parts[1].sum()), "n_scans": len(members), "n_healthy": len(healthy)}
                if not healthy and target is not None:
                    rows.append(row | {"reason": "no healthy test scan"})
                    continue
                value, rate, place = _at(parts, once, target)
                if np.isnan(value[0]):
                    rows.append(row | {"reason": "more false findings at every threshold tried"})
                    continue
                limit = thresholds[column] * np.append(FACTORS, 1.0)[place[0]]
                low, high = np.nan, np.nan
                if blocked.allowed:
                    low, high = interval(of_draws(counts, partial(_sensitivity, parts, target=target)))
                row |= {"sensitivity": value[0], "sensitivity_low": low, "sensitivity_high": high}
                row |= {"threshold_value": limit, "false_per_healthy_scan": rate[0], "reason": blocked.note}
                rows.append(row)
            if subset == "focal":
                curve += _curve(column, parts, thresholds[column])
    return {"froc": pd.DataFrame(rows, columns=_COLUMNS), "froc_curve": pd.DataFrame(curve, columns=_CURVE)}


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    words = ("collected", "preprocess", "maps", "z-maps", "calibration")
    p = command_line(__doc__, "normct.evaluate.froc", *words, settings="bootstrap, seed")
    p.add_argument("--threads", type=int, default=1)
    args = p.parse_args(argv)
    scans = accepted_test(read_cohort(args.collected))
    focal = (scans["group"] == "abnormal") & scans["has_lesion_mask"] & ~scans["pathology"].isin(DIFFUSE)
    wanted = scans[focal | (scans["group"] == "healthy")].to_dict("records")
    thresholds = method_thresholds(read_json(args.calibration))
    maps = {"residual": args.maps, CALIBRATED: args.z_maps}
    with ThreadPoolExecutor(args.threads) as pool:
        parts = pool.map(lambda scan: scan_found(scan, maps, args.preprocess, thresholds), wanted)
        found = {scan["participant_id"]: part for scan, part in zip(wanted, parts, strict=True)}
    tables = evaluate(scans, found, thresholds, args.settings)
    write_tables(args.out, tables)
    log.info("%d scans looked at, %d rows", len(wanted), len(tables["froc"]))


if __name__ == "__main__":
    run(main)
