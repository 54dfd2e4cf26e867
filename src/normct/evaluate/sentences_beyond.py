"""What the tables beyond detection say, in plain sentences: confounds, lesions found, ablations, uncertainty."""

from __future__ import annotations

from collections.abc import Mapping
from math import comb
from typing import Any

import numpy as np
import pandas as pd

from normct.common.registry import FUSED, METHODS, label
from normct.evaluate.sentences import best_row, number, signed, span

SURE = 0.05
"""Probability of a false alarm that is accepted, and below which the acquisition baseline is one."""
R2_BAR, LOW, HIGH = 0.05, 0.3, 0.7
"""What a score may owe to position or area, and how well it may tell scanners apart, without being a confound."""


def confound(table: pd.DataFrame) -> tuple[str, bool]:
    """Return the sentence on the acquisition baseline, and whether it is an alarm.

    An alarm needs more than chance: Mann and Whitney's exact test at 5 %, so that a handful of scans raises it
    only where it separates them wholly.

    Parameters
    ----------
    table : DataFrame
        ``confound.csv``.
    """
    rows = table[table["check"] == "acquisition"].dropna(subset=["value"])
    if rows.empty:
        return "Whether the groups differ in how they were scanned could not be tested.", False
    row = rows.iloc[0]
    n, m = int(row["n_group"]), int(row["n_others"])
    figures = (
        f"AUROC {number(row['value'])}{span(row['value_low'], row['value_high'])}, p = {row['p_value']:.2g}, "
    )
    figures += f"{n} abnormal and {m} healthy"
    if row["p_value"] < SURE:
        way = "higher" if row["value"] > 0.5 else "lower, so healthy scans are the unusual ones"
        return (
            "Confound alarm: slice thickness, noise, pitch and registration alone separate abnormal from healthy "
            f"test scans ({figures}; {way} for the abnormal). Every figure below may show how a scan was made "
            "rather than what is in it.",
            True,
        )
    if 2 / comb(n + m, n) >= SURE:
        return f"Too few scans to tell whether the groups differ in how they were scanned ({figures}).", False
    return f"How the scans were acquired does not separate the groups beyond chance ({figures}).", False


def on_position(table: pd.DataFrame, check: str = "position_r2") -> str:
    """Say how much of the plain and of the calibrated scores is slice position, or brain area (``area_r2``)."""
    rows = table[table["check"] == check].dropna(subset=["value"])
    plain = rows[(rows["score"] == "thesis") & rows["method"].isin(list(METHODS))]
    ours = rows[rows["score"].isin(["calibrated", "fused"])]
    if plain.empty or ours.empty:
        return ""
    what = "slice position" if check == "position_r2" else "brain area"
    # below 0 the spline predicts worse than the mean: nothing is explained
    least, most = (max(float(v), 0.0) for v in (plain["value"].min(), plain["value"].max()))
    between = number(most, 2) if len(plain) == 1 else f"{number(least, 2)} to {number(most, 2)}"
    worst = best_row(ours, "value")
    text = (
        f"{what.capitalize()} explains {between} of the variance of the plain residual scores on healthy slices of "
        f"patients left out of the fit (R²), and at most {number(max(worst['value'], 0.0), 2)} of the calibrated "
        f"scores' ({label(worst['method'])})"
    )
    return text + (
        "." if worst["value"] < R2_BAR else f": {R2_BAR} or more, so {what} is not wholly taken out."
    )


def _apart(row: Mapping[Any, Any]) -> str:
    """Return AUROC, interval, p and its correction."""
    text = f"{number(row['value'])}{span(row['value_low'], row['value_high'])}, p = {row['p_value']:.2g}"
    return f"{text}, {row['p_holm']:.2g} after Holm's correction"


def on_scanners(table: pd.DataFrame) -> str:
    """Say whether calibrated scores tell scanners or slice thickness apart among healthy scans.

    The verdict rests on p-values corrected over all these comparisons: of twenty, one is below 0.05 by chance.
    """
    rows = table[table["check"].isin(["scanner", "slice_thickness"])].dropna(subset=["value"])
    rows = rows[rows["score"].isin(["calibrated", "fused"])]
    if rows.empty:
        return "Whether scores tell scanners apart among healthy scans could not be tested."
    outside = int(((rows["value"] < LOW) | (rows["value"] > HIGH)).sum())
    sure = rows[rows["p_holm"] < SURE]
    most = best_row(rows.assign(far=(rows["value"] - 0.5).abs()), "far")
    tell = "none tells" if sure.empty else f"{len(sure)} tell{'s' if len(sure) == 1 else ''}"
    return (
        f"Among healthy scans, of {len(rows)} comparisons of calibrated scores {tell} scanner or slice thickness apart "
        f"beyond chance (farthest: {label(most['method'])}, {most['detail']}: AUROC {_apart(most)}; {outside} of them "
        f"outside {LOW} to {HIGH})."
    )


def on_transfer(table: pd.DataFrame) -> str:
    """Say which scores of healthy test scans lie lower or higher than those of calibration, and what follows."""
    rows = table[table["check"] == "transfer"].dropna(subset=["value"])
    if rows.empty:
        return "Whether calibration holds on the test scans could not be tested."
    start = "Probability that a healthy test scan scores higher than a calibration scan"
    sure = rows[rows["p_holm"] < SURE]
    if sure.empty:
        most = best_row(rows.assign(far=(rows["value"] - 0.5).abs()), "far")
        return (
            f"{start}: of {len(rows)} scores none differs from one half beyond chance (farthest: {_scored(most)}). With few "
            "scans that does not show that thresholds hold."
        )
    fused = rows[(rows["method"] == FUSED) & ~rows.index.isin(sure.index)].to_dict("records")
    rest = f" {_scored(fused[0])}: not beyond chance." if fused else ""
    said = []
    for below, words in (
        (True, "Lower than in calibration, so that thresholds flag fewer"),
        (False, "Higher than in calibration, so that thresholds flag more"),
    ):
        found = [_scored(row) for row in sure[(sure["value"] < 0.5) == below].to_dict("records")]
        said += [f"{words} healthy scans than aimed at: {'; '.join(found)}."] if found else []
    return f"{start}: {len(sure)} of {len(rows)} scores differ from one half. {' '.join(said)}{rest}"


def _scored(row: Mapping[Any, Any]) -> str:
    """Name a method, which of its scores, and the figures."""
    way = {"calibrated": ", calibrated", "fused": ""}.get(row["score"], ", plain")
    return f"{label(row['method'])}{way} {_apart(row)}"


def on_froc(froc: pd.DataFrame) -> str:
    """Say how many lesions are found at one false finding a healthy scan, and by what."""
    rows = froc[(froc["subset"] == "focal") & (froc["false_per_scan"] == "1") & (froc["map"] == "calibrated")]
    rows = rows.dropna(subset=["sensitivity"])
    if rows.empty:
        return ""
    best = best_row(rows, "sensitivity")
    text = f"At one false finding a healthy scan {label(best['method'])} finds {100 * best['sensitivity']:.0f} % of "
    text += f"{best['n_lesions']:.0f} focal lesions"
    if not np.isnan(best["sensitivity_low"]):
        text += (
            f" (95 % interval {100 * best['sensitivity_low']:.0f} to {100 * best['sensitivity_high']:.0f} %)"
        )
    fused = rows[rows["method"] == FUSED]
    if len(fused) and best["method"] != FUSED:
        text += f"; fused finds {100 * fused['sensitivity'].iloc[0]:.0f} %"
    return text + "."


def on_lambda(table: pd.DataFrame) -> str:
    """Say whether head and residual together beat the better of the two alone."""
    said = []
    for method in [m for m in METHODS if m in set(table["method"])]:
        part = table[(table["method"] == method) & (table["protocol"] == "slice_healthy")].dropna(
            subset=["auroc_mean"]
        )
        if part.empty:
            continue
        at = dict(zip(part["lambda"].round(3), part["auroc_mean"], strict=True))
        best = best_row(part, "auroc_mean")
        gain = best["auroc_mean"] - max(at[0.0], at[1.0])
        text = (
            f"{label(method)}: head alone {number(at[0.0])}, residual alone {number(at[1.0])}, best mixture "
        )
        text += f"{number(best['auroc_mean'])} at λ = {best['lambda']:g}"
        said.append(
            text + (f" ({signed(gain)}; λ chosen on these very scans)" if gain > 0 else " (no mixture helps)")
        )
    return (
        f"AUROC of the thesis's combined score over λ, slice-wise against healthy scans. {'; '.join(said)}."
        if said
        else ""
    )


def on_size(strata: pd.DataFrame) -> str:
    """Give the fused score by lesion volume, beside the best baseline without a network of each stratum."""
    rows = strata[(strata["kind"] == "lesion_volume") & (strata["protocol"] == "slice_healthy")]
    rows = rows.dropna(subset=["auroc_mean"])
    fused = rows[rows["method"] == FUSED]
    if len(fused) < 2:
        return ""
    parts = []
    for row in fused.to_dict("records"):
        text = f"{row['stratum']} {number(row['auroc_mean'])}"
        rivals = rows[(rows["stratum"] == row["stratum"]) & (rows["score"] == "trivial")]
        if len(rivals):
            rival = best_row(rivals, "auroc_mean")
            text += f" against {number(rival['auroc_mean'])} of {label(rival['method'])}"
        parts.append(f"{text} ({row['n_patients']:.0f} patients)")
    return (
        "Fused, by lesion volume, atrophy left out, against the best baseline without a network of each (slice AUROC): "
        f"{'; '.join(parts)}."
    )


def on_pretraining(paired: pd.DataFrame) -> list[str]:
    """Say what pretraining is worth at equal steps: the thesis's central claim."""
    rows = paired[(paired["against"] == "no_pretraining") & (paired["protocol"] == "slice_healthy")]
    rows = rows.dropna(subset=["auroc_difference"])
    said = []
    for row in rows[(rows["score"] == "thesis") & (rows["members"] == "single")].to_dict("records"):
        low, high = row["auroc_low"], row["auroc_high"]
        if np.isnan(low):
            verdict = "no interval, so not established"
        else:
            verdict = (
                "it helps"
                if low > 0
                else "it harms"
                if high < 0
                else "the interval includes zero: not established"
            )
        said.append(
            f"Context-restoration pretraining at equal steps: {label(row['method'])} against {label(row['rival'])}, "
            f"slice AUROC {signed(row['auroc_difference'])}{span(low, high)}; {verdict}."
        )
    return said


def on_uncertainty(summary: pd.DataFrame) -> str:
    """Say whether leaving out the scans that the networks disagree on lowers the error."""
    rows = summary.dropna(subset=["error"])
    if rows.empty:
        reason = summary["reason"].iloc[0] if len(summary) else "no score has an uncertainty"
        return f"Uncertainty was not judged: {reason}."
    chosen = rows[rows["method"] == FUSED]
    own = chosen if len(chosen) else rows[rows["method"] == rows["method"].iloc[0]]
    row = own[own["surest_by"] == "spread"].iloc[0]
    margin = own[own["surest_by"] == "margin"].iloc[0]
    low, high = row["gain_low"], row["gain_high"]
    worth = "it is worth something" if low > 0 else "it misleads" if high < 0 else "not established"
    if np.isnan(low):
        worth = "no interval, so not established"
    # a gain below 0 is an error that grows: the sentence turns, and its interval with it
    gain, way = row["gain"], "lowers"
    if gain < 0:
        gain, low, high, way = -gain, -high, -low, "raises"
    return (
        f"Uncertainty of {label(row['method'])}: {100 * row['error']:.0f} % of {row['n']:.0f} scans are on the wrong side; "
        f"of the surest 80 %, {100 * row['error_kept']:.0f} %. Keeping the surest {way} the error by {number(gain)} over "
        f"all coverages{span(low, high)}; {worth}. Keeping the scans farthest from the threshold instead, with no "
        f"uncertainty at all, changes it by {signed(-margin['gain'])}."
    )


def on_leaks(leaks: pd.DataFrame) -> str:
    """Say whether a patient or a file serves two uses."""
    count = dict(zip(leaks["check"], leaks["n_checked"], strict=True))
    bad = leaks[leaks["n_found"] > 0]
    if bad.empty:
        return (
            f"Leak check: none of {count.get('patient', 0):.0f} patients and {count.get('file', 0):.0f} files is in two of "
            "training, early stopping, calibration and test."
        )
    listed = "; ".join(f"{row['check']}: {row['found']}" for row in bad.to_dict("records"))
    return f"Leak: the same patient or file is in two uses ({listed}). The figures below are too good."
