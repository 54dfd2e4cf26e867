"""Voxel thresholds: the |residual| and |z| that few healthy voxels reach, and what healthy scans still show above them.

They need the maps of the calibration scans and ``score.voxel_fpr``, no slice score: λ, the head and pooling change
nothing here, so nothing that only thresholds maps is made again for them.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from normct.common.cli import parser, run
from normct.common.files import write_json
from normct.common.slices import read_slices
from normct.score.false_findings import false_findings
from normct.score.files import ATLAS_MAP, read_maps, read_raw
from normct.score.leaks import refuse_leaks
from normct.score.scores import mean_map
from normct.score.tail_quantile import TailQuantile

log = logging.getLogger(__name__)
Maps = Callable[[], dict[str, NDArray]]
"""Reads one scan's maps, so that one scan is in memory at a time."""

RANGES = {ATLAS_MAP: 50.0}
"""Top of the histogram of |map|: 2 for residuals of images in [0, 1], 50 SD for the statistical atlas."""
Z_RANGE = 50.0
"""Top of the histogram of |z|, in SD."""


def thresholds(maps: Iterable[Maps], rate: float) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
    """Return the thresholds of |map| that a share ``rate`` of healthy brain voxels exceeds.

    Parameters
    ----------
    maps : iterable of callables
        Each reads one calibration scan's maps.
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


def z_thresholds(maps: Iterable[Maps], rate: float) -> tuple[dict[str, float], dict[str, float]]:
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


def voxel_thresholds(
    score: Path, preprocess: Path, subjects: Sequence[str], rate: float, folds: int = 0
) -> dict[str, Any]:
    """Return the content of ``voxel_thresholds.json``, named as in ``calibration.json``.

    Parameters
    ----------
    score : Path
        Folder with ``<subject>.npz`` in ``raw/``, ``maps/`` and ``calibrated/``.
    preprocess : Path
        Folder with ``<subject>/slices.npz``.
    subjects : sequence of str
        Calibration scans.
    rate : float
        Voxel-wise false-positive rate.
    folds : int
        ``score.cross_fit``; 0 without.

    Raises
    ------
    NormctError
        For a scan of another role.
    """
    refuse_leaks((read_raw(score / "raw" / f"{subject}.npz") for subject in subjects), folds)

    def readers(folder: str) -> list[Maps]:
        return [partial(read_maps, score / folder / f"{subject}.npz") for subject in subjects]

    maps, z_maps = readers("maps"), readers("calibrated")
    per_method, per_seed = thresholds(maps, rate)
    limits, spread = z_thresholds(z_maps, rate)

    def findings(read: list[Maps], found: dict[str, float]) -> dict[str, Any]:
        slices = (read_slices(preprocess / subject / "slices.npz") for subject in subjects)
        return false_findings(zip(slices, read, strict=True), found)

    return {
        "voxel_fpr": rate,
        "thresholds": per_method,
        "seed_thresholds": per_seed,
        "false_findings": findings(maps, per_method),
        "calibrated": {
            "thresholds": limits,
            "spread": spread,
            "false_findings": findings(z_maps, limits),
        },
    }


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    arguments = parser(__doc__, "normct.score.voxel_thresholds")
    arguments.add_argument("score", type=Path, help="folder with <subject>.npz in raw/, maps/, calibrated/")
    arguments.add_argument("preprocess", type=Path, help="folder with <subject>/slices.npz")
    arguments.add_argument("out", type=Path, help="voxel_thresholds.json")
    arguments.add_argument("--subjects", nargs="*", default=[], help="participant IDs of calibration scans")
    arguments.add_argument(
        "--settings",
        type=json.loads,
        required=True,
        help="voxel_fpr; cross_fit where training scans are among them",
    )
    args = arguments.parse_args(argv)
    rate, folds = args.settings["voxel_fpr"], args.settings.get("cross_fit", 0)
    result = voxel_thresholds(args.score, args.preprocess, args.subjects, rate, folds)
    write_json(args.out, result)
    log.info("%d thresholds of %d scans", len(result["thresholds"]), len(args.subjects))


if __name__ == "__main__":
    run(main)
