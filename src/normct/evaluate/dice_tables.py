"""Dice added up over slices and volumes, and the tables made from the sums."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from normct.evaluate import protocols as pr
from normct.evaluate.aggregate import membership
from normct.evaluate.data import ordered, ordered_pathologies
from normct.evaluate.metrics import Counts, interval, mean_sd, totals

LADDER = np.geomspace(1e-4, 1e2, 385)
"""Thresholds tried for the oracle: 3.7 % apart, wide enough for residuals (0–1) and for z-values."""

DIFFUSE = ("atrophy",)
"""Pathologies without a focus: their mask marks widened CSF spaces, so a Dice with them says little."""

LEVELS = ("slice", "volume")

Spans = dict[tuple[str, str, str, str], tuple[float, float, str]]
"""Interval of the mean Dice at the calibrated threshold, and what to know of it, by subset, method, map and level."""


@dataclass
class Tally:
    """Running sums of Dice over units: sum and number at each threshold, squares at the calibrated one."""

    total: NDArray[np.float64] = field(default_factory=lambda: np.zeros(len(LADDER) + 1))
    squares: NDArray[np.float64] = field(default_factory=lambda: np.zeros(len(LADDER) + 1))
    n: int = 0

    def add(self, values: NDArray[np.float64]) -> None:
        """Add units of shape (n, ladder + 1)."""
        self.total += values.sum(axis=0)
        self.squares += (values**2).sum(axis=0)
        self.n += len(values)

    def at(self, index: int) -> tuple[float, float]:
        """Return mean and SD (n - 1) over units at a threshold."""
        if self.n == 0:
            return float("nan"), float("nan")
        mean = self.total[index] / self.n
        if self.n == 1:
            return float(mean), float("nan")
        variance = (self.squares[index] - self.n * mean**2) / (self.n - 1)
        return float(mean), float(np.sqrt(max(variance, 0.0)))

    @property
    def best(self) -> int:
        """Index of the oracle's threshold."""
        return int(np.argmax(self.total[: len(LADDER)]))


_KEY = ("subset", "method", "map", "level", "threshold")
_SUMMARY = [
    *(*_KEY, "members", "n_seeds", "dice_mean", "dice_low", "dice_high"),
    *("dice_sd_over_seeds", "dice_sd_over_units", "n_units", "reason"),
]
_UNKNOWN = (float("nan"), float("nan"), "")


def subsets(pathology: str) -> list[str]:
    """Return the rows of the table that a scan counts towards."""
    return ["all", pathology] if pathology in DIFFUSE else ["all", "focal", pathology]


def spans(volumes: pd.DataFrame, patient: dict[str, int], strata: pr.Strata, counts: Counts) -> Spans:
    """Return the 95 % interval over patients of the mean Dice at the calibrated threshold, mean over seeds.

    Parameters
    ----------
    volumes : DataFrame
        ``segmentation_volumes.csv``: all that is needed of a scan is the sum over its slices.
    patient : dict
        Column of ``counts`` of each scan's patient.
    strata, counts
        Of all test scans, so that the draws are those of the other tables.
    """
    result: Spans = {}
    if volumes.empty:
        return result
    named = volumes.assign(
        patient=volumes["participant_id"].map(patient), subset=volumes["pathology"].map(subsets)
    ).explode("subset")
    for key, part in named.groupby(["subset", "method", "map"], sort=False):
        blocked = pr.judge_intervals(strata, part["patient"].to_numpy(np.intp))
        for level in LEVELS:
            drawn = [_means(own, level, counts) for _, own in part.groupby("seed", sort=False)]
            low, high = interval(np.mean(drawn, axis=0)) if blocked.allowed else (np.nan, np.nan)
            subset, method, kind = map(str, key)
            result[subset, method, kind, level] = (low, high, blocked.note)
    return result


def _means(own: pd.DataFrame, level: str, counts: Counts) -> NDArray[np.float64]:
    """Return the mean Dice over slices or volumes of each draw of patients."""
    n = own["lesion_slices"].to_numpy(np.float64) if level == "slice" else np.ones(len(own))
    dice = own["dice_slices" if level == "slice" else "dice_volume"].to_numpy(np.float64)
    sums = np.zeros((counts.shape[1], 2))
    np.add.at(sums, own["patient"].to_numpy(np.intp), np.stack([dice * n, n], axis=1))
    drawn = totals(counts, sums)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(drawn[:, 0] / drawn[:, 1], np.float64)


def tabulate(
    tallies: dict[tuple[str, str, str, str, str], Tally],
    thresholds: dict[tuple[str, str, str], float | None],
    voxel_fpr: float,
    found: Spans,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the per-seed table and its summary over seeds.

    Parameters
    ----------
    tallies : dict
        Key (subset, method, kind of map, seed, level).
    thresholds : dict
        Calibrated threshold of each method, kind of map and seed.
    voxel_fpr : float
        False-positive rate on healthy calibration voxels that the calibrated threshold stands for.
    found : dict
        From :func:`spans`. The oracle's threshold is chosen on these very scans: it has no interval.
    """
    names = {subset for subset, *_ in tallies}
    firsts = [name for name in ("all", "focal") if name in names]
    order = firsts + ordered_pathologies(names - set(firsts))
    columns = ordered((method, kind, seed) for _, method, kind, seed, _ in tallies)
    rows = []
    for subset in order:
        for method, kind_of_map, seed in columns:
            for level in LEVELS:
                tally = tallies.get((subset, method, kind_of_map, seed, level))
                if tally is None:
                    continue
                for kind in ("calibrated", "oracle"):
                    index = len(LADDER) if kind == "calibrated" else tally.best
                    value = (
                        thresholds.get((method, kind_of_map, seed))
                        if kind == "calibrated"
                        else float(LADDER[index])
                    )
                    mean, sd = tally.at(index)
                    rows.append(
                        {
                            "subset": subset,
                            "method": method,
                            "map": kind_of_map,
                            "seed": seed,
                            "level": level,
                            "threshold": kind,
                            "threshold_value": value,
                            "voxel_fpr": voxel_fpr if kind == "calibrated" else None,
                            "dice_mean": mean,
                            "dice_sd_over_units": sd,
                            "n_units": tally.n,
                            "reason": ""
                            if value is not None
                            else "no threshold: no healthy calibration scan",
                        }
                    )
    table = pd.DataFrame(
        rows,
        columns=[
            "subset",
            "method",
            "map",
            "seed",
            "level",
            "threshold",
            "threshold_value",
            "voxel_fpr",
            "dice_mean",
            "dice_sd_over_units",
            "n_units",
            "reason",
        ],
    )
    short = []
    for key, group in table.groupby(["subset", "method", "map", "level", "threshold"], sort=False):
        mean, sd_seeds = mean_sd(group["dice_mean"].tolist())
        spread, _ = mean_sd(group["dice_sd_over_units"].tolist())
        row: dict[str, Any] = dict(zip(_KEY, key, strict=True))
        where = (row["subset"], row["method"], row["map"], row["level"])
        low, high, note = found.get(where, _UNKNOWN) if row["threshold"] == "calibrated" else _UNKNOWN
        notes = [group["reason"].iloc[0], note]
        row |= {"members": membership(str(group["seed"].iloc[0])), "n_seeds": len(group), "dice_mean": mean}
        row |= {"dice_low": low, "dice_high": high, "dice_sd_over_seeds": sd_seeds}
        row |= {"dice_sd_over_units": spread, "n_units": int(group["n_units"].iloc[0])}
        short.append(row | {"reason": "; ".join(text for text in notes if text)})
    return table, pd.DataFrame(short, columns=_SUMMARY)
