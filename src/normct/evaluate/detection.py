"""Detection tables: AUROC and AUPR by protocol and by pathology, operating points, with patient-bootstrap intervals.

Reads the scores of the test scans only; thresholds come from the healthy calibration scans. Writes
``detection.csv``, ``detection_summary.csv``, ``detection_paired.csv``, ``pathology.csv``, ``operating_points.csv``,
``cohort.csv`` and ``set_aside.csv`` into one folder.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from normct.common.cli import parser, run
from normct.common.files import read_json
from normct.common.registry import GROUPS, PROTOCOLS, ROLES, TRIVIAL
from normct.evaluate import protocols as pr
from normct.evaluate.data import (
    Scores,
    accepted_test,
    ordered,
    ordered_pathologies,
    read_cohort,
    read_slice_scores,
    read_volume_scores,
)
from normct.evaluate.metrics import draw_patients, interval, mean_sd, point, resampled
from normct.evaluate.operating import operating_points
from normct.evaluate.tables import write_csv

log = logging.getLogger(__name__)

Key = tuple[str, str, str]
"""Method, score, and ``single`` (one row a seed, averaged) or ``ensemble`` (the seeds' own mean score)."""

REFERENCES = (("published", ("vae_kl", "cevae")), ("trivial", tuple(TRIVIAL)))
"""Rivals of the paired differences: the better of the published baselines, and the best trivial one."""


@dataclass(frozen=True)
class Draws:
    """Bootstrap samples of one method and score under one protocol, averaged over seeds; each of shape (draws,)."""

    auroc: NDArray[np.float64]
    aupr: NDArray[np.float64]


def _units_of(protocol: str, slices: Scores, volumes: Scores) -> Scores:
    return volumes if protocol == "volume" else slices


def _missing_rows(protocol: str) -> list[tuple[str, str]]:
    """Trivial baselines that have no score of this kind, so that their cell is empty for a stated reason."""
    if protocol == "volume":
        return [(t.name, "has no volume score") for t in TRIVIAL.values() if not t.volume_score]
    return [(t.name, "has no slice score") for t in TRIVIAL.values() if not t.slice_score]


def membership(seed: str) -> str:
    """Return ``ensemble`` for scores averaged over seeds before the metric was taken, else ``single``."""
    return "ensemble" if seed == "all" else "single"


def score_column(
    scores: Scores, classes: NDArray[np.int8], column: int, reason: str
) -> tuple[dict[str, Any], NDArray[np.bool_]]:
    """Return the metrics of one column, and which units they rest on."""
    values = scores.values[:, column]
    known = ~np.isnan(values)
    keep = (classes != pr.LEFT_OUT) & known
    positive = classes == pr.POSITIVE
    n_pos, n_neg = int((keep & positive).sum()), int((keep & ~positive).sum())
    row: dict[str, Any] = {
        "auroc": np.nan,
        "aupr": np.nan,
        "prevalence": np.nan,
        "n_pos": n_pos,
        "n_neg": n_neg,
    }
    lost = int(((classes != pr.LEFT_OUT) & ~known).sum())
    notes = [reason] if reason else []
    if n_pos and n_neg:
        row["auroc"], row["aupr"] = point(values[keep], positive[keep])
        row["prevalence"] = n_pos / (n_pos + n_neg)
    elif not reason:
        notes.append("no scored unit in one of the classes")
    if lost:
        notes.append(f"{lost} without a score left out")
    row["reason"] = "; ".join(notes)
    return row, keep


def evaluate_protocol(
    scores: Scores, classes: NDArray[np.int8], name: str, strata: pr.Strata, counts: NDArray[np.float32]
) -> tuple[list[dict[str, Any]], dict[Key, Draws]]:
    """Score every column under one protocol.

    Returns
    -------
    rows : list of dict
        One a method, score and seed.
    samples : dict
        Bootstrap samples of each method, score and membership; only where a metric exists.
    """
    reason = pr.one_class_reason(
        name, int((classes == pr.POSITIVE).sum()), int((classes == pr.NEGATIVE).sum())
    )
    rows: list[dict[str, Any]] = []
    seeds: dict[Key, list[tuple[NDArray[np.float64], NDArray[np.float64]]]] = {}
    patient = strata.code(scores.units) if len(scores.units) else np.zeros(0, np.intp)
    for index, (method, score, seed) in enumerate(scores.columns):
        row, keep = score_column(scores, classes, index, reason)
        rows.append({"method": method, "score": score, "seed": seed, **row})
        if not np.isnan(row["auroc"]) and len(counts):
            sample = resampled(
                scores.values[keep, index], classes[keep] == pr.POSITIVE, patient[keep], counts
            )
            seeds.setdefault((method, score, membership(seed)), []).append(sample)
    samples = {
        key: Draws(
            np.mean([auroc for auroc, _ in found], axis=0), np.mean([aupr for _, aupr in found], axis=0)
        )
        for key, found in seeds.items()
    }
    return rows, samples


def summarise(
    rows: list[dict[str, Any]], samples: dict[Key, Draws], no_interval: str
) -> list[dict[str, Any]]:
    """Return mean and SD over seeds and the 95 % interval over patients, a row a method and score."""
    table = pd.DataFrame(rows)
    result = []
    table["members"] = table["seed"].map(membership)
    for key, group in table.groupby(["method", "score", "members"], sort=False):
        row: dict[str, Any] = dict(zip(("method", "score", "members"), key, strict=True))
        row["n_seeds"] = len(group)
        for metric in ("auroc", "aupr"):
            row[f"{metric}_mean"], row[f"{metric}_sd"] = mean_sd(group[metric].tolist())
            low, high = float("nan"), float("nan")
            if key in samples and not no_interval:
                low, high = interval(getattr(samples[key], metric))
            row[f"{metric}_low"], row[f"{metric}_high"] = low, high
        row |= {name: group[name].iloc[0] for name in ("prevalence", "n_pos", "n_neg")}
        notes = dict.fromkeys([*group["reason"], no_interval if not np.isnan(row["auroc_mean"]) else ""])
        row["note"] = "; ".join(note for note in notes if note)
        result.append(row)
    return result


def paired(
    summary: list[dict[str, Any]], samples: dict[Key, Draws], no_interval: str
) -> list[dict[str, Any]]:
    """Return differences to the better published baseline and to the best trivial one, on the same draws.

    The rival is chosen by its AUROC on the very test scans, which favours it: a difference is not flattered.
    """
    result = []
    means: dict[Key, dict[str, Any]] = {
        (row["method"], row["score"], row["members"]): row
        for row in summary
        if not np.isnan(row["auroc_mean"])
    }
    for kind, names in REFERENCES:
        rivals = [
            key
            for key in means
            if key[0] in names and key[1:] in {("thesis", "single"), ("trivial", "single")}
        ]
        if not rivals:
            continue
        best = max(rivals, key=lambda key: means[key]["auroc_mean"])
        for key, row in means.items():
            if key == best or key[0] in TRIVIAL:
                continue
            entry: dict[str, Any] = dict(zip(("method", "score", "members"), key, strict=True))
            entry |= {"against": kind, "rival": best[0]}
            for metric in ("auroc", "aupr"):
                entry[f"{metric}_difference"] = row[f"{metric}_mean"] - means[best][f"{metric}_mean"]
                low, high = float("nan"), float("nan")
                if not no_interval and key in samples and best in samples:
                    low, high = interval(getattr(samples[key], metric) - getattr(samples[best], metric))
                entry[f"{metric}_low"], entry[f"{metric}_high"] = low, high
            entry["note"] = no_interval
            result.append(entry)
    return result


def cohort_table(cohort: pd.DataFrame) -> pd.DataFrame:
    """Return counts of scans and patients by group, pathology and role, and how many were set aside."""
    rows = []
    for group in GROUPS:
        part = cohort[cohort["group"] == group]
        for pathology in ordered_pathologies(part["pathology"]):
            for role in ROLES:
                found = part[(part["pathology"] == pathology) & (part["role"] == role)]
                if len(found):
                    rows.append(
                        {
                            "group": group,
                            "pathology": pathology,
                            "role": role,
                            "scans": len(found),
                            "patients": found["patient"].nunique(),
                            "with_lesion_mask": int(found["has_lesion_mask"].sum()),
                            "set_aside": int((found["verdict"] == "fail").sum()),
                        }
                    )
    columns = ["group", "pathology", "role", "scans", "patients", "with_lesion_mask", "set_aside"]
    return pd.DataFrame(rows, columns=columns)


def pathology_table(slices: Scores, strata: pr.Strata, counts: NDArray[np.float32]) -> list[dict[str, Any]]:
    """Return slice-wise AUROC of each pathology against slices of healthy scans, a row a method and score."""
    rows = []
    abnormal = slices.units[slices.units["group"] == "abnormal"] if len(slices.units) else slices.units
    for pathology in ordered_pathologies(abnormal["pathology"]) if len(abnormal) else []:
        classes = pr.pathology_classes(slices.units, pathology)
        carriers = strata.code(slices.units)[classes == pr.POSITIVE]
        blocked = pr.no_interval_reason(strata, carriers)
        per_seed, samples = evaluate_protocol(slices, classes, "slice_healthy", strata, counts)
        rows += [
            {"pathology": pathology, "n_patients": len(np.unique(carriers)), **row}
            for row in summarise(per_seed, samples, blocked)
        ]
    return rows


def _frame(rows: list[dict[str, Any]], columns: list[str]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=columns)


_INTERVALS = [f"{metric}_{what}" for metric in ("auroc", "aupr") for what in ("mean", "sd", "low", "high")]
_COUNTS = ["prevalence", "n_pos", "n_neg", "note"]
_DIFFERENCES = [f"{metric}_{what}" for metric in ("auroc", "aupr") for what in ("difference", "low", "high")]


def evaluate(
    cohort: pd.DataFrame,
    slices: Scores,
    volumes: Scores,
    calibration: dict[str, Any],
    settings: dict[str, Any],
) -> dict[str, pd.DataFrame]:
    """Return every detection table by file name.

    Parameters
    ----------
    cohort : DataFrame
        From :func:`normct.evaluate.data.read_cohort`.
    slices, volumes : Scores
        Of the accepted test scans.
    calibration : dict
        ``calibration.json``: thresholds come from its ``healthy`` distributions.
    settings : dict
        ``bootstrap`` (draws), ``seed``, ``specificities``.
    """
    scans = accepted_test(cohort)
    strata = pr.make_strata(scans)
    counts = draw_patients(strata.stratum, settings["bootstrap"], settings["seed"])
    detection, summary, differences = [], [], []
    for protocol in PROTOCOLS:
        scores = _units_of(protocol, slices, volumes)
        has_units = len(scores.units) > 0
        classes = pr.classes(scores.units, protocol) if has_units else np.zeros(0, np.int8)
        rows, samples = evaluate_protocol(scores, classes, protocol, strata, counts)
        present = {row["method"] for row in rows}
        missing = [(name, why) for name, why in _missing_rows(protocol) if name not in present and has_units]
        for name, why in missing:
            blank = {"auroc": np.nan, "aupr": np.nan, "prevalence": np.nan, "n_pos": 0, "n_neg": 0}
            rows.append({"method": name, "score": "trivial", "seed": "n/a", **blank, "reason": why})
        place = {key: i for i, key in enumerate(ordered((r["method"], r["score"], r["seed"]) for r in rows))}
        rows.sort(key=lambda r: place[r["method"], r["score"], r["seed"]])
        detection += [{"protocol": protocol, **row} for row in rows]
        if not rows:
            continue
        blocked = pr.no_interval_reason(strata, strata.code(scores.units)[classes == pr.POSITIVE])
        short = summarise(rows, samples, blocked)
        summary += [{"protocol": protocol, **row} for row in short]
        differences += [{"protocol": protocol, **row} for row in paired(short, samples, blocked)]
        log.info("%s: %d methods and scores", protocol, len(short))
    set_aside = cohort.loc[
        cohort["verdict"] == "fail", ["participant_id", "group", "pathology", "role", "reasons"]
    ]
    return {
        "detection": _frame(
            detection,
            [
                "protocol",
                "method",
                "score",
                "seed",
                "auroc",
                "aupr",
                "prevalence",
                "n_pos",
                "n_neg",
                "reason",
            ],
        ),
        "detection_summary": _frame(
            summary, ["protocol", "method", "score", "members", "n_seeds", *_INTERVALS, *_COUNTS]
        ),
        "detection_paired": _frame(
            differences, ["protocol", "method", "score", "members", "against", "rival", *_DIFFERENCES, "note"]
        ),
        "pathology": _frame(
            pathology_table(slices, strata, counts),
            ["pathology", "n_patients", "method", "score", "members", "n_seeds", *_INTERVALS, *_COUNTS],
        ),
        "operating_points": operating_points(volumes, calibration["healthy"], settings["specificities"]),
        "cohort": cohort_table(cohort),
        "set_aside": set_aside,
    }


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    p = parser(__doc__, "normct.evaluate.detection")
    p.add_argument("--participants", required=True, help="R/cohort/participants.tsv")
    p.add_argument("--preprocess", required=True, help="folder R/preprocess")
    p.add_argument("--scores", required=True, help="folder R/score/subjects")
    p.add_argument("--calibration", required=True, help="R/score/calibration.json")
    p.add_argument(
        "--settings", required=True, type=json.loads, help="JSON: slices, bootstrap, seed, specificities"
    )
    p.add_argument("--out", required=True, help="folder the tables are written into")
    args = p.parse_args(argv)
    cohort = read_cohort(args.participants, args.preprocess)
    scans = accepted_test(cohort)
    tables = evaluate(
        cohort,
        read_slice_scores(args.scores, scans, args.settings["slices"]),
        read_volume_scores(args.scores, scans),
        read_json(args.calibration),
        args.settings,
    )
    for name, table in tables.items():
        write_csv(Path(args.out) / f"{name}.csv", table)
    log.info("%d test scans, %d set aside", len(scans), len(tables["set_aside"]))


if __name__ == "__main__":
    run(main)
