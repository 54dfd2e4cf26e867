"""Detection tables: AUROC and AUPR by protocol and pathology, operating points, intervals over patients.

Reads the scores of the test scans only; thresholds come from the healthy calibration scans. Writes
``detection.csv``, ``detection_summary.csv``, ``detection_paired.csv``, ``pathology.csv``,
``operating_points.csv``,
``cohort.csv`` and ``set_aside.csv`` into one folder.
"""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pandas as pd

from normct.common.cli import run
from normct.common.files import read_json
from normct.common.registry import GROUPS, PROTOCOLS, ROLES, TRIVIAL
from normct.evaluate import protocols as pr
from normct.evaluate.aggregate import METRICS, evaluate_protocol, paired, summarise
from normct.evaluate.arguments import command_line
from normct.evaluate.data import (
    Scores,
    accepted_test,
    ordered,
    ordered_pathologies,
    read_cohort,
    read_slice_scores,
    read_volume_scores,
)
from normct.evaluate.metrics import Counts, draw_patients
from normct.evaluate.operating import operating_points
from normct.evaluate.tables import write_tables

log = logging.getLogger(__name__)


def _units_of(protocol: str, slices: Scores, volumes: Scores) -> Scores:
    return volumes if protocol == "volume" else slices


def _missing_rows(protocol: str) -> list[tuple[str, str]]:
    """Trivial baselines that have no score of this kind, so that their cell is empty for a stated reason."""
    if protocol == "volume":
        return [(t.name, "has no volume score") for t in TRIVIAL.values() if not t.volume_score]
    return [(t.name, "has no slice score") for t in TRIVIAL.values() if not t.slice_score]


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


def pathology_table(slices: Scores, strata: pr.Strata, counts: Counts) -> list[dict[str, Any]]:
    """Return slice-wise AUROC of each pathology against slices of healthy scans, a row a method and score."""
    rows = []
    abnormal = slices.units[slices.units["group"] == "abnormal"] if len(slices.units) else slices.units
    for pathology in ordered_pathologies(abnormal["pathology"]) if len(abnormal) else []:
        classes = pr.pathology_classes(slices.units, pathology)
        carriers = strata.code(slices.units)[classes == pr.POSITIVE]
        blocked = pr.judge_intervals(strata, carriers)
        per_seed, samples = evaluate_protocol(slices, classes, "slice_healthy", strata, counts)
        rows += [
            {"pathology": pathology, "n_patients": len(np.unique(carriers)), **row}
            for row in summarise(per_seed, samples, blocked)
        ]
    return rows


def _frame(rows: list[dict[str, Any]], columns: list[str]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=columns)


_INTERVALS = [f"{metric}_{what}" for metric in METRICS for what in ("mean", "sd", "low", "high")]
_COUNTS = ["prevalence", "n_pos", "n_neg", "note"]
_DIFFERENCES = [f"{metric}_{what}" for metric in METRICS for what in ("difference", "low", "high")]


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
            blank = dict.fromkeys(METRICS, np.nan) | {"prevalence": np.nan, "n_pos": 0, "n_neg": 0}
            rows.append({"method": name, "score": "trivial", "seed": "n/a", **blank, "reason": why})
        place = {key: i for i, key in enumerate(ordered((r["method"], r["score"], r["seed"]) for r in rows))}
        rows.sort(key=lambda r: place[r["method"], r["score"], r["seed"]])
        detection += [{"protocol": protocol, **row} for row in rows]
        if not rows:
            continue
        blocked = pr.judge_intervals(strata, strata.code(scores.units)[classes == pr.POSITIVE])
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
            differences,
            [
                "protocol",
                "method",
                "score",
                "members",
                "against",
                "rival",
                "rival_score",
                *_DIFFERENCES,
                "note",
            ],
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
    p = command_line(
        __doc__,
        "normct.evaluate.detection",
        "collected",
        "calibration",
        settings="slices, bootstrap, seed, specificities",
    )
    args = p.parse_args(argv)
    cohort = read_cohort(args.collected)
    scans = accepted_test(cohort)
    tables = evaluate(
        cohort,
        read_slice_scores(args.collected, scans, args.settings["slices"]),
        read_volume_scores(args.collected, scans),
        read_json(args.calibration),
        args.settings,
    )
    write_tables(args.out, tables)
    log.info("%d test scans, %d set aside", len(scans), len(tables["set_aside"]))


if __name__ == "__main__":
    run(main)
