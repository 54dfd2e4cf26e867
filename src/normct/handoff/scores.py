"""A scan's volume score beside those of the healthy calibration scans."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from normct.common.files import read_json
from normct.common.registry import FUSED


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
        voxel is marked.
    seeds : int
        Networks averaged.
    false_findings : dict or None
        What healthy scans get (:func:`healthy_findings`); None where the calibration does not say.
    """

    value: float
    healthy: list[float]
    percentile: float | None
    higher_than_all: bool
    threshold: float
    seeds: int
    false_findings: dict[str, Any] | None = None


def healthy_findings(calibration: dict[str, Any], method: str, min_ml: float) -> dict[str, Any] | None:
    """Return how many findings healthy calibration scans get, over a ladder of thresholds.

    Counted on the 2 mm slices of the atlas for regions of at least ``size_ml``, the largest size counted
    that is no larger than ``min_ml`` (or the smallest there is).

    Returns
    -------
    dict or None
        ``factors`` of the calibrated threshold, ``mean`` and ``largest`` count a scan at each, ``size_ml``,
        ``n_scans``.
    """
    table = calibration.get("false_findings")
    if not table or not table["n_scans"] or method not in table["mean"]:
        return None
    sizes = table["sizes_ml"]
    place = max((i for i, size in enumerate(sizes) if size <= min_ml), default=0)
    return {
        "factors": table["factors"],
        "mean": [row[place] for row in table["mean"][method]],
        "largest": [row[place] for row in table["largest"][method]],
        "size_ml": sizes[place],
        "n_scans": table["n_scans"],
    }


def read_score(scores: str | Path, calibration: str | Path, method: str, kind: str, min_ml: float) -> Score:
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
        ``calibrated`` or ``thesis``; the calibrated score of ``fused`` is named ``fused``.
    min_ml : float
        Smallest finding listed, for the number of findings in healthy scans.

    Raises
    ------
    KeyError
        If the files hold no score of the method.
    """
    name = FUSED if method == FUSED else kind
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
        threshold=float(drawn["thresholds"][method]),
        seeds=max(1, sum(v["seed"] != "all" for v in rows)),
        false_findings=healthy_findings(drawn, method, min_ml),
    )
