"""Tables that compare: ways of scoring, parts of a score, paired differences."""

from __future__ import annotations

import numpy as np
import pandas as pd

from normct.common.registry import PROTOCOLS, SCORES, label
from normct.evaluate.display import blocks, cell, methods_in
from normct.evaluate.document import Table
from normct.evaluate.sentences import CALIBRATED, PLAIN, main_rows, signed


def parts_table(summary: pd.DataFrame) -> Table | None:
    """Return the rows the main tables leave out: head and residual alone, ensembles."""
    shown = summary["score"].isin([*PLAIN, *CALIBRATED])
    extra = summary[~shown | (summary["members"] == "ensemble")]
    if extra.empty:
        return None
    rows = []
    for (method, score, members), group in extra.groupby(["method", "score", "members"], sort=False):
        by_protocol = {row["protocol"]: row for _, row in group.iterrows()}
        name = label(str(method)) + (
            "" if score in {"thesis", "fused"} else f": {SCORES.get(str(score), str(score))}"
        )
        name += ", ensemble of the seeds" if members == "ensemble" else ""
        cells = [cell(by_protocol[p], "auroc") if p in by_protocol else "–" for p in PROTOCOLS]
        rows.append([name, *cells])
    header = [
        "Method and score",
        "Slice AUROC, healthy negatives",
        "Slice AUROC",
        "Clinical AUROC",
        "Scan AUROC",
    ]
    return Table("Parts of the scores, and ensembles.", header, rows)


def gain_table(summary: pd.DataFrame) -> Table | None:
    """Return every network and the statistical atlas, each with its plain and with the calibrated score.

    What scoring gains is read along a row, what a network gains down a column.
    """
    columns = (
        ("slice_healthy", "auroc"),
        ("slice_healthy", "aupr"),
        ("slice_healthy", "aupr_gain"),
        ("volume", "auroc"),
    )
    rows, methods = [], methods_in(main_rows(summary, "slice_healthy", CALIBRATED))
    for method in methods:
        cells = []
        for protocol, metric in columns:
            for scores in (PLAIN, CALIBRATED):
                found = main_rows(summary, protocol, scores)
                found = found[found["method"] == method]
                cells.append(cell(found.iloc[0], metric) if len(found) else "–")
        rows.append([label(method), *cells])
    if not rows:
        return None
    names = ("Slice AUROC", "Slice AUPR", "Slice AUPR gain", "Scan AUROC")
    return Table(
        "The same maps with the thesis's score (the statistical atlas: mean |z|) and with the calibrated "
        "one: smoothed, as z against held-out healthy scans, pooled and standardised by position. Slices: "
        "with a lesion against those of healthy scans. Fused: statistical atlas and networks together.",
        ["Method", *(f"{name}, {way}" for name in names for way in ("plain", "calibrated"))],
        rows,
        ["AUPR gain: (AUPR - prevalence) / (1 - prevalence), 0 for a guess and 1 at best."],
        blocks(methods),
    )


RIVALS = {
    "published": "To the better of VAE-KL and ceVAE",
    "trivial": "To the best trivial baseline",
    "published_calibrated": "To the better of VAE-KL and ceVAE, calibrated",
    "atlas_calibrated": "To the statistical atlas, calibrated",
    "no_pretraining": "To itself without pretraining",
}
"""Heading of a rival's column, by the name that ``detection_paired.csv`` has for it."""


def _difference(row: pd.Series, named: bool) -> str:
    text = signed(row["auroc_difference"])
    if not np.isnan(row["auroc_low"]):
        text += f" ({signed(row['auroc_low'])} to {signed(row['auroc_high'])})"
    return f"{text}, {label(row['rival'])}" if named else text


def paired_table(paired: pd.DataFrame, scores: tuple[str, ...] = ("thesis",)) -> Table | None:
    """Return differences in AUROC, a row a method and protocol, a column a rival."""
    part = paired[paired["score"].isin(scores) & (paired["members"] == "single")]
    part = part.dropna(subset=["auroc_difference"])
    if part.empty:
        return None
    against = [name for name in RIVALS if name in set(part["against"])]
    # one of several is the rival: which one depends on the protocol
    named = {name for name in against if name not in {"atlas_calibrated", "no_pretraining"}}
    rows: list[list[str]] = []
    rule_before: set[int] = set()
    last = None
    for (method, protocol), group in part.groupby(["method", "protocol"], sort=False):
        if protocol != last and rows:
            rule_before.add(len(rows))
        found = {row["against"]: row for _, row in group.iterrows()}
        cells = [_difference(found[name], name in named) if name in found else "–" for name in against]
        rows.append([label(str(method)), PROTOCOLS[str(protocol)], *cells])
        last = protocol
    return Table(
        f"Paired differences in AUROC{'' if 'thesis' in scores else ', calibrated scores'} (95 % interval), on "
        "the same bootstrap draws. A rival picked out of several is picked on these test scans, which favours it.",
        ["Method", "Protocol", *(RIVALS[name] for name in against)],
        rows,
        rule_before=rule_before,
    )
