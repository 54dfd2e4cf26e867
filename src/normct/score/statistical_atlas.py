"""Statistical atlas: mean and spread of every brain voxel over the healthy training scans.

The network-free rival of every method, and the healthy reference of the trivial baselines. Scans are read one
after the other, so memory does not grow with their number.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from normct.common.cli import parser, run
from normct.common.errors import NormctError
from normct.common.files import atomic, read_json
from normct.common.slices import DEPTH, SIZE, SliceStore, read_slices
from normct.score.held_out import LEARNT_FROM
from normct.score.trained_on import describe
from normct.score.trivial import ACQUISITION, ACQUISITION_FLOOR, slice_means

log = logging.getLogger(__name__)


def hu_window(normalisation: str, window: Iterable[float]) -> tuple[float, float]:
    """Return the HU of the stored values 0 and 1; after min-max normalisation no HU is left: (0, 1)."""
    low, high = window
    return (float(low), float(high)) if normalisation == "window" else (0.0, 1.0)


def voxel_statistics(
    total: NDArray[np.float64], squares: NDArray[np.float64], count: NDArray, prior: float, sd_floor: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return mean and predictive SD of each voxel from its sums over scans.

    The variance is shrunk to the pooled one by ``prior`` pseudo-scans, so that a voxel seen twice in near
    agreement does not claim certainty, and widened by 1 + 1/n for the mean's own uncertainty. A voxel without
    healthy brain takes the brain's overall mean and spread.

    Parameters
    ----------
    total, squares : ndarray
        Sum and sum of squares over scans, of one shape.
    count : ndarray
        Scans with brain in that voxel.
    prior : float
        Weight of the pooled variance, in scans.
    sd_floor : float
        Smallest SD, in stored units (window mapped to [0, 1]).
    """
    n = np.maximum(count, 1).astype(np.float64)
    mean = total / n
    within = np.maximum(squares - n * mean**2, 0.0)
    freedom = np.maximum(count.astype(np.float64) - 1.0, 0.0)
    seen = count > 0
    overall = float(total.sum() / max(count.sum(), 1))
    spread = float(squares.sum() / max(count.sum(), 1)) - overall**2
    # with a single scan nothing varies at a voxel: the brain's overall spread is the only one there is
    pooled = within[seen].sum() / freedom.sum() if freedom.sum() > 0 else spread
    variance = (within + prior * pooled) / np.maximum(freedom + prior, 1e-9) * (1.0 + 1.0 / n)
    sd = np.sqrt(np.where(seen, variance, max(spread, pooled)))
    return np.where(seen, mean, overall).astype(np.float32), np.maximum(sd, sd_floor).astype(np.float32)


def build(
    scans: Iterable[tuple[SliceStore, dict[str, Any]]],
    window: tuple[float, float],
    prior: float,
    sd_floor: float,
) -> dict[str, NDArray]:
    """Return the arrays of ``statistical_atlas.npz``.

    Parameters
    ----------
    scans : iterable of (SliceStore, dict)
        Slices and ``measures`` of ``quality.json`` of the training scans; set-aside ones are skipped.
    window, prior, sd_floor
        See :func:`hu_window` and :func:`voxel_statistics`.

    Returns
    -------
    dict of ndarray
        ``mean``, ``sd`` float32 (155, 128, 128) in stored units; ``count`` uint16; ``area`` (155,) mean brain
        pixels on the 240×240 grid, ``peak_z``; ``hu_mean``, ``hu_sd`` (155,); ``acquisition_mean``,
        ``acquisition_sd`` in the order of ``trivial.ACQUISITION`` (NaN where never measured); ``scans``,
        ``slices``.
    """
    shape = (DEPTH, SIZE, SIZE)
    total, squares = np.zeros(shape), np.zeros(shape)
    count, area = np.zeros(shape, np.uint16), np.zeros(DEPTH)
    hu, acquisition, slices = [], [], 0
    for store, measures in scans:
        if store.set_aside:
            continue
        image = np.where(store.mask, store.image, 0).astype(np.float64)
        total += image
        squares += image**2
        count += store.mask
        area += store.brain.sum(axis=(1, 2))
        hu.append(np.where(store.usable, slice_means(store, window), np.nan))
        taken = [measures.get(name) for name in ACQUISITION]
        acquisition.append([np.nan if value is None else float(value) for value in taken])
        slices += int(store.usable.sum())
    if not hu:
        raise NormctError(
            "No healthy training scan passed quality control; see preprocess/quality.html for why"
        )
    mean, sd = voxel_statistics(total, squares, count, prior, sd_floor)
    hu_mean, hu_sd = _moments(np.array(hu))
    known = np.flatnonzero(np.isfinite(hu_mean))
    taken_mean, taken_sd = _moments(np.array(acquisition))
    return {
        "mean": mean,
        "sd": sd,
        "count": count,
        "area": area / len(hu),
        "peak_z": np.array(int(area.argmax())),
        # beyond the healthy brains' extent the nearest position is the only reference
        "hu_mean": np.interp(np.arange(DEPTH), known, hu_mean[known]),
        "hu_sd": np.interp(np.arange(DEPTH), known, hu_sd[known]),
        "acquisition_mean": taken_mean,
        "acquisition_sd": np.fmax(taken_sd, np.array(ACQUISITION_FLOOR)),
        "scans": np.array(len(hu)),
        "slices": np.array(slices),
    }


def _moments(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and SD over axis 0, NaN skipped; NaN where all are."""
    known = np.isfinite(values)
    n = known.sum(axis=0)
    empty = np.full(values.shape[1], np.nan)
    mean = np.divide(np.where(known, values, 0).sum(axis=0), n, out=empty.copy(), where=n > 0)
    squares = np.where(known, (values - mean) ** 2, 0).sum(axis=0)
    return mean, np.sqrt(np.divide(squares, n, out=empty.copy(), where=n > 0))


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    arguments = parser(__doc__, "normct.score.statistical_atlas")
    arguments.add_argument("preprocess", type=Path, help="folder with <subject>/slices.npz and quality.json")
    arguments.add_argument("out", type=Path, help="statistical_atlas.npz")
    arguments.add_argument("--subjects", nargs="+", required=True, help="participant IDs of role train")
    arguments.add_argument(
        "--settings",
        type=json.loads,
        required=True,
        help="prior_scans, sd_floor, normalisation, window; name_subjects: say whose scans, never in a bundle",
    )
    arguments.add_argument("--cohort", type=Path, help="folder with <subject>/import.json")
    arguments.add_argument(
        "--people", type=json.loads, default={}, help="ages and scanners of the training scans"
    )
    args = arguments.parse_args(argv)
    scans = (
        (read_slices(folder / "slices.npz"), read_json(folder / "quality.json")["measures"])
        for folder in (args.preprocess / subject for subject in args.subjects)
    )
    window = hu_window(args.settings["normalisation"], args.settings["window"])
    atlas = build(scans, window, args.settings["prior_scans"], args.settings["sd_floor"])
    passed = {
        subject: record["measures"]
        for subject in args.subjects
        if (record := read_json(args.preprocess / subject / "quality.json"))["verdict"] != "fail"
    }
    made = [read_json(args.cohort / s / "import.json")["acquisition"] for s in passed] if args.cohort else []
    seen = describe(made, list(passed.values()), args.people)
    atlas["trained_on"] = np.array(json.dumps(seen, sort_keys=True))
    if args.settings.get("name_subjects"):
        atlas[LEARNT_FROM] = np.array(args.subjects)
    with atomic(args.out) as part, part.open("wb") as handle:
        np.savez_compressed(handle, **cast(dict[str, Any], atlas))
    log.info("statistical atlas of %d scans, %d usable slices", atlas["scans"], atlas["slices"])


if __name__ == "__main__":
    run(main)
