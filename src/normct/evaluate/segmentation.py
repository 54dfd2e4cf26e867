"""Dice of the thresholded residual, per lesion-bearing slice and per volume, on the 1 mm grid.

Two thresholds on the residual's magnitude: ``calibrated``, set on healthy calibration scans at a stated
false-positive rate, and ``oracle``, the one threshold that would have been best on these very test scans
(the ceiling, written ⌈Dice⌉; Baur et al. 2021), which no one has in practice. Counts over a fixed ladder of
thresholds are added up slice by slice, so memory does not grow with the number of scans.

Writes ``segmentation.csv`` (per seed), ``segmentation_summary.csv`` (over seeds, with intervals over patients) and
``segmentation_volumes.csv``.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from normct.common.cli import run
from normct.common.files import read_json
from normct.common.slices import read_slices
from normct.evaluate import protocols as pr
from normct.evaluate.arguments import command_line
from normct.evaluate.data import accepted_test, ordered, read_cohort
from normct.evaluate.dice_tables import LADDER, Tally, spans, subsets, tabulate
from normct.evaluate.metrics import draw_patients
from normct.evaluate.residuals import ATLAS_KEY, enlarge, read_maps, split_key
from normct.evaluate.tables import write_tables

log = logging.getLogger(__name__)

Thresholds = dict[tuple[str, str, str], float | None]
"""Calibrated threshold of a method, kind of map (``residual``, ``calibrated``) and seed."""


def dice(hit: Any, flagged: Any, lesion: Any) -> Any:
    """Return 2 |A ∩ B| / (|A| + |B|) from counts of pixels; the lesion is never empty here."""
    return 2.0 * hit / (flagged + lesion)


def counts_over(magnitude: NDArray[np.float32], edges: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return how many values reach each edge (at or above), for sorted ``edges``; shape (edges,)."""
    steps = np.bincount(np.searchsorted(edges, magnitude, side="right"), minlength=len(edges) + 1)
    return steps[::-1].cumsum()[::-1][1:]


@dataclass
class Case:
    """One scan under one map: Dice at each threshold of the ladder and at the calibrated one (last entry).

    Attributes
    ----------
    slices : ndarray
        Shape (lesion-bearing slices, ladder + 1).
    volume : ndarray
        Shape (ladder + 1,).
    """

    participant_id: str
    pathology: str
    method: str
    map: str
    seed: str
    threshold: float | None
    slices: NDArray[np.float64]
    volume: NDArray[np.float64]


def measure(
    residual: NDArray[np.float32],
    brain: NDArray[np.bool_],
    lesion: NDArray[np.bool_],
    usable: NDArray[np.bool_],
    threshold: float | None,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return Dice per lesion-bearing slice and per volume, at every threshold.

    Parameters
    ----------
    residual : ndarray
        Shape (155, 128, 128), signed.
    brain, lesion : ndarray of bool
        Shape (155, 240, 240).
    usable : ndarray of bool
        Shape (155,).
    threshold : float or None
        The calibrated one; NaN is returned in its place when there is none.
    """
    edges = LADDER if threshold is None else np.append(LADDER, threshold)
    order = np.argsort(edges, kind="stable")
    back = np.argsort(order, kind="stable")
    per_slice = []
    hits, flags, extent = np.zeros(len(edges)), np.zeros(len(edges)), 0
    for z in np.flatnonzero(usable):
        magnitude = np.abs(enlarge(residual[z][None])[0])
        marked = lesion[z]
        hit = counts_over(magnitude[marked & brain[z]], edges[order])[back].astype(float)
        flagged = counts_over(magnitude[brain[z]], edges[order])[back].astype(float)
        size = int(marked.sum())
        hits, flags, extent = hits + hit, flags + flagged, extent + size
        if size:
            per_slice.append(dice(hit, flagged, size))
    slices = np.array(per_slice).reshape(-1, len(edges))
    volume = dice(hits, flags, extent) if extent else np.full(len(edges), np.nan)
    if threshold is None:
        slices = np.concatenate([slices, np.full((len(slices), 1), np.nan)], axis=1)
        volume = np.append(volume, np.nan)
    return slices, volume


def case_key(kind: str, key: str) -> tuple[str, str, str]:
    """Return method, kind and seed of a map; z maps are averaged over seeds already."""
    method, seed = split_key(key)
    return method, kind, "all" if kind == "calibrated" and method != ATLAS_KEY else seed


def scan_cases(
    scan: dict[str, Any], maps: dict[str, Path], preprocess: str | Path, thresholds: Thresholds
) -> list[Case]:
    """Return the cases of one abnormal scan; none when its lesion lies outside usable slices."""
    sub = scan["participant_id"]
    store = read_slices(Path(preprocess) / sub / "slices.npz")
    if store.set_aside or not store.lesion[store.usable].any():
        return []
    cases = []
    for kind, folder in maps.items():
        for key, values in read_maps(folder / f"{sub}.npz", store):
            column = case_key(kind, key)
            limit = thresholds.get(column)
            slices, volume = measure(values, store.brain, store.lesion, store.usable, limit)
            cases.append(Case(sub, scan["pathology"], *column, limit, slices, volume))
    return cases


def evaluate(
    scans: pd.DataFrame,
    maps: dict[str, Path],
    preprocess: str | Path,
    *,
    thresholds: Thresholds,
    voxel_fpr: float,
    settings: dict[str, Any],
    threads: int = 1,
) -> dict[str, pd.DataFrame]:
    """Return the tables by file name.

    Parameters
    ----------
    scans : DataFrame
        Accepted test scans.
    maps : dict of Path
        Folders of ``residual`` and ``calibrated`` maps, ``R/score/maps`` and ``R/score/calibrated``.
    preprocess : path
        Folder ``R/preprocess``.
    thresholds : dict
        Calibrated threshold by method, kind of map and seed.
    voxel_fpr : float
    settings : dict
        ``bootstrap`` (draws) and ``seed``.
    threads : int
        Scans measured side by side.
    """
    marked = scans[(scans["group"] == "abnormal") & scans["has_lesion_mask"]].to_dict("records")
    tallies: dict[tuple[str, str, str, str, str], Tally] = defaultdict(Tally)
    volumes = []
    with ThreadPoolExecutor(threads) as pool:
        # results come back in the order of the scans, so sums do not depend on which thread was first
        for cases in pool.map(lambda scan: scan_cases(scan, maps, preprocess, thresholds), marked):
            for case in cases:
                for subset in subsets(case.pathology):
                    column = (case.method, case.map, case.seed)
                    tallies[subset, *column, "slice"].add(case.slices)
                    tallies[subset, *column, "volume"].add(case.volume[None])
                volumes.append(
                    {
                        "participant_id": case.participant_id,
                        "pathology": case.pathology,
                        "method": case.method,
                        "map": case.map,
                        "seed": case.seed,
                        "lesion_slices": len(case.slices),
                        "dice_slices": case.slices[:, -1].mean(),
                        "dice_volume": case.volume[-1],
                    }
                )
    columns = ordered((v["method"], v["map"], v["seed"]) for v in volumes)
    place = {column: i for i, column in enumerate(columns)}
    volumes.sort(key=lambda v: (v["participant_id"], place[v["method"], v["map"], v["seed"]]))
    names = ["participant_id", "pathology", "method", "map", "seed", "lesion_slices"]
    names += ["dice_slices", "dice_volume"]
    of_scans = pd.DataFrame(volumes, columns=names)
    strata = pr.make_strata(scans)
    counts = draw_patients(strata.stratum, settings["bootstrap"], settings["seed"])
    patient = dict(zip(scans["participant_id"], strata.code(scans).tolist(), strict=True))
    found = spans(of_scans, patient, strata, counts)
    table, short = tabulate(dict(tallies), thresholds, voxel_fpr, found)
    return {"segmentation": table, "segmentation_summary": short, "segmentation_volumes": of_scans}


def map_thresholds(calibration: dict[str, Any]) -> Thresholds:
    """Return the thresholds of |residual| and |z| by method, kind of map and seed."""
    found: Thresholds = {
        (method, "residual", seed): float(value)
        for method, seeds in calibration["seed_thresholds"].items()
        for seed, value in seeds.items()
    }
    if ATLAS_KEY in calibration["thresholds"]:
        found[ATLAS_KEY, "residual", "n/a"] = float(calibration["thresholds"][ATLAS_KEY])
    for key, value in calibration["calibrated"]["thresholds"].items():
        found[case_key("calibrated", key)] = float(value)
    return found


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    words = ("collected", "preprocess", "maps", "z-maps", "calibration")
    p = command_line(__doc__, "normct.evaluate.segmentation", *words, settings="bootstrap, seed")
    p.add_argument("--threads", type=int, default=1)
    args = p.parse_args(argv)
    calibration = read_json(args.calibration)
    scans = accepted_test(read_cohort(args.collected))
    tables = evaluate(
        scans,
        {"residual": args.maps, "calibrated": args.z_maps},
        args.preprocess,
        thresholds=map_thresholds(calibration),
        voxel_fpr=calibration["voxel_fpr"],
        settings=args.settings,
        threads=args.threads,
    )
    write_tables(args.out, tables)
    log.info("%d scans with a marked lesion", tables["segmentation_volumes"]["participant_id"].nunique())


if __name__ == "__main__":
    run(main)
