"""A scan's volume score beside those of the healthy calibration scans."""

from __future__ import annotations

import math
from bisect import bisect
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import betaincinv

from normct.common.files import read_json


@dataclass(frozen=True)
class Score:
    """Volume score of one scan.

    Attributes
    ----------
    value : float
        Higher is more abnormal.
    healthy : list of float
        Scores of the healthy calibration scans, same method and seeds.
    percentile : float or None
        As the score stage gives it: rank / (n + 1).
    higher_than_all : bool
    threshold : float
        Absolute value of the stored map (residual with the HU window mapped to [0, 1], or z) above which a
        voxel is marked: the calibrated one times ``handoff.threshold_factor``.
    seeds : int
        Networks averaged.
    false_findings : dict or None
        What healthy scans get (:func:`healthy_findings`); None where the calibration does not say.
    by_seed : tuple of int
        Healthy scans that score lower, by each network's own score; empty with a single one.
    spread : float or None
        Uncertainty of the score as the score stage gives it: its SD.
    spread_of : str or None
        Over what: ``seeds`` or ``dropout``.
    seed : str
        Which rows of the tables these are: ``all`` networks, or the only one's seed.
    folds : int
        Folds in which training scans were cross-fitted to be among the healthy ones; 0 where none is.
    """

    value: float
    healthy: list[float]
    percentile: float | None
    higher_than_all: bool
    threshold: float
    seeds: int
    false_findings: dict[str, Any] | None = None
    by_seed: tuple[int, ...] = ()
    spread: float | None = None
    spread_of: str | None = None
    folds: int = 0
    seed: str = "all"

    @property
    def below(self) -> int:
        """Number of healthy scans that score lower."""
        return sum(h < self.value for h in self.healthy)

    @property
    def uncertainty(self) -> dict[str, Any]:
        """How far the place among healthy scans can be trusted, for record, table and worklist.

        ``percentile_low`` and ``percentile_high``: 95 % interval of the share of all healthy people's scans (%)
        that score lower, None without healthy scans; ``seed_low`` and ``seed_high``: healthy scans that score
        lower by the lowest and the highest of the networks, None with fewer than two; ``uncertainty``: SD of the
        score, ``uncertainty_of``: over ``seeds`` or ``dropout``.
        """
        low, high = share_interval(self.below, len(self.healthy)) if self.healthy else (None, None)
        several = len(self.by_seed) > 1
        return {
            "percentile_low": low,
            "percentile_high": high,
            "seed_low": min(self.by_seed) if several else None,
            "seed_high": max(self.by_seed) if several else None,
            "uncertainty": self.spread,
            "uncertainty_of": self.spread_of,
        }


def share_interval(below: int, n: int) -> tuple[int, int]:
    """Return the 95 % interval in per cent of a share of which ``below`` of ``n`` were seen.

    Exact, from the beta distribution (Clopper and Pearson, Biometrika 26:404, 1934); rounded outwards.
    """
    low = betaincinv(below, n - below + 1, 0.025) if below else 0.0
    high = betaincinv(below + 1, n - below, 0.975) if below < n else 1.0
    return math.floor(100 * float(low)), math.ceil(100 * float(high))


def healthy_findings(
    calibration: dict[str, Any], method: str, min_ml: float, factor: float = 1.0
) -> dict[str, Any] | None:
    """Return how many findings healthy calibration scans get, over a ladder of thresholds.

    Counted on the 2 mm slices of the atlas for regions of at least ``size_ml``, the largest size counted
    that is no larger than ``min_ml`` (or the smallest there is). Between two rungs the mean is linear, and the
    largest that of the lower one.

    Returns
    -------
    dict or None
        ``factors`` of the threshold used, which is ``factor`` times the calibrated one; 1 is always among them.
        ``mean`` and ``largest`` count a scan at each, ``size_ml``, ``n_scans``. None where nothing was counted.
    """
    table = calibration.get("false_findings")
    if not table or not table["n_scans"] or method not in table["mean"]:
        return None
    sizes, factors = table["sizes_ml"], [float(f) for f in table["factors"]]
    if not factors[0] <= factor <= factors[-1]:
        return None
    place = max((i for i, size in enumerate(sizes) if size <= min_ml), default=0)
    mean, largest = ([row[place] for row in table[name][method]] for name in ("mean", "largest"))
    if factor not in factors:
        between = bisect(factors, factor)
        mean.insert(between, round(float(np.interp(factor, factors, mean)), 2))
        largest.insert(between, largest[between - 1])
        factors.insert(between, factor)
    return {
        "factors": [round(f / factor, 4) for f in factors],
        "mean": mean,
        "largest": largest,
        "size_ml": sizes[place],
        "n_scans": table["n_scans"],
    }


def read_score(
    scores: str | Path,
    calibration: str | Path,
    method: str,
    kind: str,
    name: str,
    min_ml: float,
    factor: float = 1.0,
) -> Score:
    """Read the score of one scan; of several seeds, the ensemble's (``all``).

    Parameters
    ----------
    scores : str or Path
        ``score/subjects/<sub>.json``.
    calibration : str or Path
        ``calibration.json``, the run's or the bundle's.
    method : str
        Name in the registry.
    kind : str
        ``calibrated`` or ``thesis``: which map is drawn.
    name : str
        Of the score in the tables; the calibrated one of ``fused`` is named ``fused``.
    min_ml : float
        Smallest finding listed, for the number of findings in healthy scans.
    factor : float
        Threshold of the map, as a multiple of the calibrated one.

    Raises
    ------
    KeyError
        If the files hold no score of the method.
    """
    rows = [v for v in read_json(scores)["volumes"] if v["method"] == method and v["score"] == name]
    if not rows:
        raise KeyError(f"no {name} volume score of the method {method}")
    row = next((v for v in rows if v["seed"] == "all"), rows[0])
    reference = read_json(calibration)
    healthy = reference["healthy"][method][name][str(row["seed"])]
    # thresholds and counts of the map that is drawn
    drawn = reference if kind == "thesis" else reference["calibrated"]
    return Score(
        value=float(row["value"]),
        healthy=[float(h) for h in healthy],
        percentile=row["percentile"],
        higher_than_all=bool(row["higher_than_all"]),
        threshold=float(drawn["thresholds"][method]) * factor,
        seeds=max(1, sum(v["seed"] != "all" for v in rows)),
        false_findings=healthy_findings(drawn, method, min_ml, factor),
        by_seed=tuple(int(v["rank"]) for v in rows if v["seed"] != "all"),
        spread=row.get("uncertainty"),
        spread_of=row.get("uncertainty_of"),
        seed=str(row["seed"]),
        folds=reference.get("cross_fit", {}).get("folds", 0),
    )
