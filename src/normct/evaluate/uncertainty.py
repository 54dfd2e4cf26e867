"""Whether the uncertainty of a scan's score is worth anything: the error rate as unsure scans are left out.

An error is a scan on the wrong side of the threshold that healthy calibration scans give at the first
specificity of ``evaluate.specificities``. Scans are kept from the surest on. Writes ``risk_coverage.csv`` (the
curve) and ``risk_coverage_summary.csv``: the mean error over all coverages beside the error of all scans, which
is what leaving scans out at random would keep to. ``surest_by`` says what orders the scans: the uncertainty itself
(``spread``), it over the score's distance from the threshold (``relative``: the SD of a high score is high, and
such a scan is rarely wrong), or that distance alone (``margin``), which any uncertainty has to beat.
"""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from normct.common.cli import run
from normct.common.files import read_json
from normct.evaluate import protocols as pr
from normct.evaluate.arguments import command_line
from normct.evaluate.data import accepted_test, ordered, read_cohort, read_volumes
from normct.evaluate.metrics import draw_patients, interval, of_draws
from normct.evaluate.operating import threshold_at
from normct.evaluate.strata import SCORED
from normct.evaluate.tables import write_tables

log = logging.getLogger(__name__)
KEPT = 0.8
"""Coverage at which the error is given beside that of all scans."""
NONE = "one network of each method and no dropout: nothing says how unsure it is"
_KEY = ["method", "score", "seed", "uncertainty_of"]
SPREAD, RELATIVE, MARGIN = "spread", "relative", "margin"
_CURVE = [*_KEY, "surest_by", "coverage", "error"]
_SUMMARY = [
    *_KEY,
    "surest_by",
    *("n", "error", "error_kept", "mean_error", "gain", "gain_low", "gain_high", "reason"),
]


def read_uncertainty(collected: str | Path, scans: pd.DataFrame) -> pd.DataFrame:
    """Return a row a scan and score: value, uncertainty (NaN for none) and what says so."""
    abnormal = dict(zip(scans["participant_id"], scans["group"] == "abnormal", strict=True))
    table = read_volumes(collected)
    keep = table["participant_id"].isin(abnormal) & table["value"].notna() & table["score"].isin(SCORED)
    table = table[keep].reset_index(drop=True)
    return table.assign(abnormal=table["participant_id"].map(abnormal).astype(bool))


def risk(wrong: NDArray[np.float64], weight: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the error among the surest scans at each coverage.

    Parameters
    ----------
    wrong : ndarray
        Shape (scans,), surest first: 1 for an error.
    weight : ndarray
        Shape (draws, scans): how often each scan was drawn.

    Returns
    -------
    ndarray
        Shape (draws, scans); NaN before the first scan that was drawn.
    """
    with np.errstate(invalid="ignore"):
        return np.cumsum(weight * wrong, axis=1) / np.cumsum(weight, axis=1)


def _mean_error(wrong: NDArray[np.float64], weight: NDArray[np.float64]) -> NDArray[np.float64]:
    """Area under the curve, each scan counted as often as it was drawn."""
    return np.nansum(weight * risk(wrong, weight), axis=1) / weight.sum(axis=1)


def _gain(wrong: NDArray[np.float64], patients: list[int], counts: NDArray) -> NDArray[np.float64]:
    """Error of all scans less the mean error over coverages, of each draw."""
    weight = counts[:, patients]
    with np.errstate(invalid="ignore"):
        return (weight @ wrong) / weight.sum(axis=1) - _mean_error(wrong, weight)


def orders(part: pd.DataFrame, limit: float) -> dict[str, NDArray[np.float64]]:
    """Return how unsure each scan is, by what is asked; the lowest are kept first."""
    spread = part["uncertainty"].to_numpy(np.float64)
    margin = np.abs(part["value"].to_numpy(np.float64) - limit)
    return {SPREAD: spread, RELATIVE: spread / np.maximum(margin, 1e-12), MARGIN: -margin}


def evaluate(
    scans: pd.DataFrame, values: pd.DataFrame, calibration: dict[str, Any], settings: dict[str, Any]
) -> dict[str, pd.DataFrame]:
    """Return both tables by file name.

    Parameters
    ----------
    scans : DataFrame
        Accepted test scans.
    values : DataFrame
        From :func:`read_uncertainty`.
    calibration : dict
        ``calibration.json``: thresholds come from its ``healthy`` distributions.
    settings : dict
        ``bootstrap``, ``seed``, ``specificities``; the first of these is the threshold's.
    """
    strata = pr.make_strata(scans)
    counts = draw_patients(strata.stratum, settings["bootstrap"], settings["seed"])
    code = dict(zip(scans["participant_id"], strata.code(scans), strict=True))
    unsure = values[values["uncertainty"].notna()]
    # a stratum of one patient does not vary: an interval of no width would look like certainty
    abnormal = np.unique([code[sub] for sub in scans.loc[scans["group"] == "abnormal", "participant_id"]])
    intervals = pr.judge_intervals(strata, abnormal.astype(np.intp))
    groups = {
        (str(m), str(s), str(n)): part for (m, s, n), part in unsure.groupby(["method", "score", "seed"])
    }
    curve, summary = [], []
    for key in ordered(groups):
        part = groups[key].sort_values("participant_id")
        row: dict[str, Any] = dict(zip(_KEY, (*key, part["uncertainty_of"].iloc[0]), strict=True))
        source = calibration["healthy"].get(key[0], {}).get(key[1], {}).get(key[2], [])
        if not source:
            row |= {"surest_by": SPREAD, "n": len(part)}
            summary.append(row | {"reason": "no healthy calibration scan with this score"})
            continue
        limit = threshold_at(np.array(source, float), settings["specificities"][0])
        for name, unsure_by in orders(part, limit).items():
            own = part.iloc[np.argsort(unsure_by, kind="stable")]
            wrong = np.asarray((own["value"] > limit) != own["abnormal"], np.float64)
            once: NDArray[np.float64] = np.ones((1, len(own)))
            at = risk(wrong, once)[0]
            coverage = np.arange(1, len(own) + 1) / len(own)
            named = row | {"surest_by": name}
            curve += [named | {"coverage": c, "error": e} for c, e in zip(coverage, at, strict=True)]
            patients = [code[sub] for sub in own["participant_id"]]
            low, high = float("nan"), float("nan")
            if intervals.allowed:
                low, high = interval(of_draws(counts, partial(_gain, wrong, patients)))
            mean = float(_mean_error(wrong, once)[0])
            kept = at[max(0, int(np.floor(KEPT * len(own) + 1e-9)) - 1)]
            named |= {"n": len(own), "error": wrong.mean(), "error_kept": kept, "mean_error": mean}
            named |= {
                "gain": wrong.mean() - mean,
                "gain_low": low,
                "gain_high": high,
                "reason": intervals.note,
            }
            summary.append(named)
    if not summary:
        summary.append(dict.fromkeys([*_KEY, "surest_by"], "") | {"n": len(scans), "reason": NONE})
    return {
        "risk_coverage": pd.DataFrame(curve, columns=_CURVE),
        "risk_coverage_summary": pd.DataFrame(summary, columns=_SUMMARY),
    }


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    p = command_line(
        __doc__,
        "normct.evaluate.uncertainty",
        "collected",
        "calibration",
        settings="bootstrap, seed, specificities",
    )
    args = p.parse_args(argv)
    scans = accepted_test(read_cohort(args.collected))
    values = read_uncertainty(args.collected, scans)
    tables = evaluate(scans, values, read_json(args.calibration), args.settings)
    write_tables(args.out, tables)
    log.info("%d scores with an uncertainty", tables["risk_coverage_summary"]["error"].notna().sum())


if __name__ == "__main__":
    run(main)
