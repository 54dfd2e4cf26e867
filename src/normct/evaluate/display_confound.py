"""Tables of what a score owes to position, brain area or scanner, and of whether calibration holds on test scans."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from normct.common.registry import label
from normct.evaluate.display_beyond import ORDER
from normct.evaluate.document import Table
from normct.evaluate.sentences import CALIBRATED, number

_HOLM = "p: two-sided permutation test of the mean over seeds; in square brackets Holm's correction over"


def r2_table(confound: pd.DataFrame) -> Table | None:
    """Return what position and brain area explain of the plain and of the calibrated scores."""
    part = confound[confound["check"].isin(["position_r2", "area_r2"])].dropna(subset=["value"])
    if part.empty:
        return None
    kinds = (("thesis", "trivial"), ("calibrated", "fused"))
    rows = []
    for method in [m for m in ORDER if m in set(part["method"])]:
        cells = []
        for check in ("position_r2", "area_r2"):
            for names in kinds:
                own = part[(part["check"] == check) & (part["method"] == method) & part["score"].isin(names)][
                    "value"
                ]
                cells.append(number(own.iloc[0], 2).replace("-", "−") if len(own) else "–")
        rows.append([label(method), *cells])
    header = [
        "Method",
        "Position, plain",
        "Position, calibrated",
        "Brain area, plain",
        "Brain area, calibrated",
    ]
    return Table(
        f"Share of a score's variance (R²) on healthy test slices that a spline of slice position, or of brain area, "
        f"explains in patients left out of the fit ({part['detail'].iloc[0]}).",
        header,
        rows,
        ["Below 0: the spline predicts worse than the mean, so nothing is explained."],
    )


def _apart_cell(row: Any) -> str:
    """Return ``AUROC (low to high), p = p [corrected]``."""
    low, high = row["value_low"], row["value_high"]
    span = "" if np.isnan(low) else f" ({low:.2f} to {high:.2f})"
    return f"{number(row['value'])}{span}, p = {row['p_value']:.2g} [{row['p_holm']:.2g}]"


def scanner_table(confound: pd.DataFrame) -> Table | None:
    """Return how well calibrated scores tell scanners and slice thickness apart among healthy test scans."""
    part = confound[confound["check"].isin(["scanner", "slice_thickness"])].dropna(subset=["value"])
    part = part[part["score"].isin(CALIBRATED) | (part["method"] == "acquisition")]
    if part.empty:
        return None
    names = list(dict.fromkeys(part["detail"]))
    rows = []
    for method in [m for m in ORDER if m in set(part["method"])]:
        own = part[part["method"] == method].set_index("detail")
        rows.append([label(method), *(_apart_cell(own.loc[n]) if n in own.index else "–" for n in names)])
    firsts = part.drop_duplicates("detail").set_index("detail")
    sizes = [f"{n}: {firsts.loc[n, 'n_group']:.0f} and {firsts.loc[n, 'n_others']:.0f}" for n in names]
    tested = int(part["score"].isin(CALIBRATED).sum())
    return Table(
        "Healthy test scans only: AUROC of the calibrated scores between scanners, and between thick and thin slices, "
        "mean over seeds (95 % interval). A score without a confound stays near 0.5.",
        ["Method", *names],
        rows,
        [
            f"Scans on either side: {'; '.join(sizes)}.",
            f"{_HOLM} the {tested} comparisons of calibrated and fused scores (acquisition: of plain ones).",
        ],
    )


def transfer_table(confound: pd.DataFrame) -> Table | None:
    """Return how healthy test scans score against the healthy calibration scans, plain and calibrated."""
    part = confound[confound["check"] == "transfer"].dropna(subset=["value"])
    if part.empty:
        return None
    kinds = (("thesis", "trivial"), CALIBRATED)
    rows = []
    for method in [m for m in ORDER if m in set(part["method"])]:
        own = part[part["method"] == method].set_index("score")
        cells = [[_apart_cell(own.loc[s]) for s in scores if s in own.index] for scores in kinds]
        rows.append([label(method), *(cell[0] if cell else "–" for cell in cells)])
    first = part.iloc[0]
    sizes = [int(part["score"].isin(scores).sum()) for scores in kinds]
    return Table(
        "Whether calibration holds on other scans: the probability that a healthy test scan scores higher than a healthy "
        f"calibration scan, mean over seeds (95 % interval), {first['n_group']:.0f} test and {first['n_others']:.0f} "
        "calibration scans. 0.5: thresholds keep their word; below it they flag fewer healthy scans than aimed at, above it "
        "more.",
        ["Method", "Plain", "Calibrated"],
        rows,
        [f"{_HOLM} the column ({sizes[0]} and {sizes[1]} scores)."],
    )
