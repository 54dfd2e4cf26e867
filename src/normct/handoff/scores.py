"""A scan's volume score beside those of the healthy calibration scans."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from normct.common.files import read_json

SCORE = "thesis"


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
        Absolute residual (HU window mapped to [0, 1]) above which a voxel is marked.
    seeds : int
        Networks averaged.
    """

    value: float
    healthy: list[float]
    percentile: float | None
    higher_than_all: bool
    threshold: float
    seeds: int


def read_score(scores: str | Path, calibration: str | Path, method: str) -> Score:
    """Read the score of one scan; of several seeds, the ensemble's (``all``).

    Parameters
    ----------
    scores : str or Path
        ``score/subjects/<sub>.json``.
    calibration : str or Path
        ``calibration.json``, the run's or the bundle's.
    method : str
        Name in the registry.

    Raises
    ------
    KeyError
        If the files hold no score of the method.
    """
    rows = [v for v in read_json(scores)["volumes"] if v["method"] == method and v["score"] == SCORE]
    if not rows:
        raise KeyError(f"no volume score of the method {method}")
    row = next((v for v in rows if v["seed"] == "all"), rows[0])
    reference = read_json(calibration)
    healthy = reference["healthy"][method][SCORE][str(row["seed"])]
    return Score(
        value=float(row["value"]),
        healthy=[float(h) for h in healthy],
        percentile=row["percentile"],
        higher_than_all=bool(row["higher_than_all"]),
        threshold=float(reference["thresholds"][method]),
        seeds=max(1, sum(v["seed"] != "all" for v in rows)),
    )
