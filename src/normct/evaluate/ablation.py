"""The thesis's combined score over λ: s_c alone (λ = 0), s_r alone (λ = 1), and everything between.

Both parts are in the tables of scores, scaled already, so nothing is inferred anew. Writes ``lambda.csv``.
"""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from normct.common.cli import run
from normct.common.registry import PROTOCOLS
from normct.evaluate import protocols as pr
from normct.evaluate.aggregate import evaluate_protocol, summarise
from normct.evaluate.arguments import command_line
from normct.evaluate.data import (
    Column,
    Scores,
    accepted_test,
    read_cohort,
    read_slice_scores,
    read_volume_scores,
)
from normct.evaluate.metrics import draw_patients
from normct.evaluate.tables import write_csv

log = logging.getLogger(__name__)
LAMBDAS = np.linspace(0, 1, 11)
_COLUMNS = [
    *("method", "lambda", "protocol", "n_seeds"),
    *(f"{metric}_{what}" for metric in ("auroc", "aupr") for what in ("mean", "sd", "low", "high")),
    *("prevalence", "n_pos", "n_neg", "note"),
]


def is_part(column: Column) -> bool:
    """Return whether :func:`mixed` reads a column: a part of one network's combined score."""
    return column[1] in {"head", "residual"} and column[2] != "all"


def mixed(scores: Scores) -> Scores:
    """Return (1 - λ) s_c + λ s_r of each method with a head and each seed; the score's name is λ.

    Scores of scans are means over their usable slices and so mix alike.
    """
    place = {column: i for i, column in enumerate(scores.columns)}
    columns, parts = [], []
    for method, score, seed in scores.columns:
        if score != "head" or seed == "all":
            continue
        for weight in LAMBDAS:
            columns.append((method, f"{weight:.1f}", seed))
            parts.append((weight, place[method, "head", seed], place[method, "residual", seed]))

    def read(index: int) -> NDArray[np.float64]:
        weight, head, residual = parts[index]
        return (1 - weight) * scores.values(head) + weight * scores.values(residual)

    return Scores(scores.units, columns, read)


def evaluate(scans: pd.DataFrame, slices: Scores, volumes: Scores, settings: dict[str, Any]) -> pd.DataFrame:
    """Return ``lambda.csv``: a row a method with a head, λ and protocol; empty without such a method.

    Parameters
    ----------
    scans : DataFrame
        Accepted test scans.
    slices, volumes : Scores
    settings : dict
        ``bootstrap`` and ``seed``.
    """
    strata = pr.make_strata(scans)
    counts = draw_patients(strata.stratum, settings["bootstrap"], settings["seed"])
    rows: list[dict[str, Any]] = []
    for protocol in PROTOCOLS:
        scores = mixed(volumes if protocol == "volume" else slices)
        if not len(scores.units) or not scores.columns:
            continue
        classes = pr.classes(scores.units, protocol)
        blocked = pr.judge_intervals(strata, strata.code(scores.units)[classes == pr.POSITIVE])
        per_seed, samples = evaluate_protocol(scores, classes, protocol, strata, counts)
        short = summarise(per_seed, samples, blocked)
        rows += [row | {"protocol": protocol, "lambda": float(row["score"])} for row in short]
    rows.sort(key=lambda row: (row["method"], list(PROTOCOLS).index(row["protocol"]), row["lambda"]))
    return pd.DataFrame(rows, columns=_COLUMNS)


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    p = command_line(__doc__, "normct.evaluate.ablation", "collected", settings="slices, bootstrap, seed")
    args = p.parse_args(argv)
    scans = accepted_test(read_cohort(args.collected))
    slices = read_slice_scores(args.collected, scans, args.settings["slices"], only=is_part)
    table = evaluate(scans, slices, read_volume_scores(args.collected, scans), args.settings)
    write_csv(args.out / "lambda.csv", table)
    log.info("%d rows", len(table))


if __name__ == "__main__":
    run(main)
