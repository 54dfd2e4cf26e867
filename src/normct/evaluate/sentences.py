"""What the tables say, in plain sentences."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from normct.common.registry import FUSED, METHODS, TRIVIAL, label

PUBLISHED_BASELINES = ("vae_kl", "cevae")
_WHAT = {
    "slice_healthy": "slice-wise, against healthy scans",
    "slice": "slice-wise, against all other slices",
    "clinical": "clinical, slice-wise",
    "volume": "whole scans",
}


def number(value: float, digits: int = 3) -> str:
    """Return a rounded number, or an en dash for an unknown one."""
    return "–" if value is None or np.isnan(value) else f"{value:.{digits}f}"


def signed(value: float) -> str:
    """Return a difference with its sign, the minus as long as the plus."""
    return f"{value:+.3f}".replace("-", "−")


def span(low: float, high: float) -> str:
    """Return `` (95 % interval a to b)``, or nothing."""
    return (
        ""
        if np.isnan(low) or np.isnan(high)
        else f" (95 % interval {low:.3f} to {high:.3f})".replace("-", "−")
    )


def best_row(rows: pd.DataFrame, column: str, largest: bool = True) -> dict[Any, Any]:
    """Return the row with the largest (or smallest) value; the first of equals."""
    return (max if largest else min)(rows.to_dict("records"), key=lambda row: row[column])


PLAIN = ("thesis", "trivial")
CALIBRATED = ("calibrated", "fused")


def main_rows(summary: pd.DataFrame, protocol: str, scores: tuple[str, ...] = PLAIN) -> pd.DataFrame:
    """Return the rows of a protocol with these scores, one a method: thesis and trivial, or calibrated ones.

    Seeds apart, never an ensemble; the statistical atlas is among the trivial and among the calibrated.
    """
    keep = (summary["protocol"] == protocol) & summary["score"].isin(scores)
    return summary[keep & (summary["members"] == "single")]


def on_calibrated(summary: pd.DataFrame, paired: pd.DataFrame, protocol: str) -> str:
    """Say what calibrated scoring gains, and whether networks add anything to the atlas scored alike."""
    rows = main_rows(summary, protocol, CALIBRATED).dropna(subset=["auroc_mean"]).set_index("method")
    plain = main_rows(summary, protocol).dropna(subset=["auroc_mean"])
    networks = rows[rows.index.isin(list(METHODS))].reset_index()
    if networks.empty or FUSED not in rows.index or "statistical_atlas" not in rows.index:
        return ""
    best, before = best_row(networks, "auroc_mean"), plain[plain["method"].isin(list(METHODS))]
    text = f"Calibrated scoring, {_WHAT[protocol]}: the best network is {label(best['method'])} "
    text += number(best["auroc_mean"])
    if len(before):
        text += f" (the best with the thesis's score has {number(before['auroc_mean'].max())})"
    value = dict(zip(rows.index, rows["auroc_mean"], strict=True))
    atlas, fused = float(value["statistical_atlas"]), float(value[FUSED])
    text += f"; the statistical atlas, scored alike and without a network, {number(atlas)}; "
    text += f"fused {number(fused)}"
    entry = paired[
        (paired["protocol"] == protocol)
        & (paired["method"] == FUSED)
        & (paired["members"] == "single")
        & (paired["against"] == "atlas_calibrated")
    ]
    low, high = (entry["auroc_low"].iloc[0], entry["auroc_high"].iloc[0]) if len(entry) else (np.nan, np.nan)
    gain = fused - atlas
    if np.isnan(low):
        return f"{text}. The networks add {signed(gain)} to the atlas; no interval, so not established."
    verdict = (
        "they help" if low > 0 else "they harm" if high < 0 else "the interval includes zero: not established"
    )
    return f"{text}. The networks add {signed(gain)} to the atlas{span(low, high)}; {verdict}."


def networks_calibrated(summary: pd.DataFrame, paired: pd.DataFrame, protocol: str) -> str:
    """Say whether a network alone, calibrated, beats the atlas scored alike, and the better published baseline."""
    rows = main_rows(summary, protocol, CALIBRATED).dropna(subset=["auroc_mean"])
    rows = rows[rows["method"].isin(list(METHODS))]
    both = paired[
        (paired["protocol"] == protocol) & (paired["score"] == "calibrated") & (paired["members"] == "single")
    ].dropna(subset=["auroc_difference"])
    atlas = both[(both["against"] == "atlas_calibrated") & both["method"].isin(list(METHODS))]
    if rows.empty or atlas.empty:
        return ""
    sure = atlas[atlas["auroc_low"] > 0]
    # the figure belongs to a network that is named
    best = best_row(atlas if sure.empty else sure, "auroc_difference")
    gap = f"{label(best['method'])} less atlas {signed(best['auroc_difference'])}"
    gap += span(best["auroc_low"], best["auroc_high"])
    start = f"Networks alone, calibrated, {_WHAT[protocol]}: "
    if sure.empty:
        found = "no network beats" if best["auroc_difference"] <= 0 else "no network is shown to beat"
        text = f"{start}{found} the statistical atlas scored alike on this cohort: {gap}"
    else:
        names = " and ".join(map(label, sure["method"]))
        text = f"{start}{names} beat{'s' * (len(sure) == 1)} the statistical atlas scored alike: {gap}"
    ours = both[
        (both["against"] == "published_calibrated")
        & both["method"].isin([m for m in METHODS if m not in PUBLISHED_BASELINES])
    ]
    if len(ours):
        best = best_row(ours, "auroc_difference")
        low, high = best["auroc_low"], best["auroc_high"]
        verdict = "better" if low > 0 else "worse" if high < 0 else "not established"
        text += f"; {label(best['method'])} less {label(best['rival'])}, the better of VAE-KL and ceVAE calibrated: "
        text += f"{signed(best['auroc_difference'])}{span(low, high)}, {verdict}"
    return text + "."


def against_trivial(summary: pd.DataFrame, paired: pd.DataFrame, protocol: str) -> str:
    """Compare the best network with the best trivial baseline."""
    rows = main_rows(summary, protocol).dropna(subset=["auroc_mean"])
    networks, trivial = rows[rows["method"].isin(list(METHODS))], rows[rows["method"].isin(list(TRIVIAL))]
    if networks.empty or trivial.empty:
        return ""
    best = best_row(networks, "auroc_mean")
    rival = best_row(trivial, "auroc_mean")
    names = f"{label(best['method'])} {number(best['auroc_mean'])}, {label(rival['method'])} "
    names += f"{number(rival['auroc_mean'])}"
    start = f"AUROC, {_WHAT[protocol]}: "
    rival_name = label(rival["method"])
    rival_name = rival_name[:1].lower() + rival_name[1:]
    if best["auroc_mean"] <= rival["auroc_mean"]:
        return f"{start}no network beats {rival_name} on this cohort (best network {names})."
    entry = paired[
        (paired["protocol"] == protocol)
        & (paired["method"] == best["method"])
        & (paired["score"] == "thesis")
        & (paired["members"] == "single")
        & (paired["against"] == "trivial")
    ]
    low, high = (entry["auroc_low"].iloc[0], entry["auroc_high"].iloc[0]) if len(entry) else (np.nan, np.nan)
    gain = best["auroc_mean"] - rival["auroc_mean"]
    text = f"{start}the best network is {number(gain)} above the best trivial baseline ({names})"
    if np.isnan(low):
        return f"{text}; with no interval, that difference is not established."
    verdict = "the interval excludes zero" if low > 0 else "the interval includes zero: not established"
    return f"{text}{span(low, high)}; {verdict}."


def against_published(summary: pd.DataFrame, paired: pd.DataFrame, protocol: str) -> str:
    """Compare the other networks, with the thesis's score, with the better of VAE-KL and ceVAE."""
    rows = main_rows(summary, protocol).dropna(subset=["auroc_mean"])
    ours = rows[rows["method"].isin([m for m in METHODS if m not in PUBLISHED_BASELINES])]
    theirs = rows[rows["method"].isin(PUBLISHED_BASELINES)]
    if ours.empty or theirs.empty:
        return ""
    best, rival = best_row(ours, "auroc_mean"), best_row(theirs, "auroc_mean")
    gain = best["auroc_mean"] - rival["auroc_mean"]
    entry = paired[
        (paired["protocol"] == protocol)
        & (paired["method"] == best["method"])
        & (paired["score"] == "thesis")
        & (paired["members"] == "single")
        & (paired["against"] == "published")
    ]
    low, high = (entry["auroc_low"].iloc[0], entry["auroc_high"].iloc[0]) if len(entry) else (np.nan, np.nan)
    side = "above" if gain > 0 else "below"
    if round(abs(gain), 3) == 0:
        return (
            f"Of the other networks, with the thesis's score, {label(best['method'])} is best, level with "
            f"{label(rival['method'])} ({number(best['auroc_mean'])}) in AUROC, {_WHAT[protocol]}."
        )
    return (
        f"Of the other networks, with the thesis's score, {label(best['method'])} is best: {number(abs(gain))} {side} "
        f"{label(rival['method'])}"
        f"{span(low, high)} in AUROC, {_WHAT[protocol]}."
    )


def on_pathologies(pathology: pd.DataFrame, summary: pd.DataFrame) -> str:
    """Name the easiest and the hardest pathology of the best network."""
    rows = main_rows(summary, "slice_healthy").dropna(subset=["auroc_mean"])
    networks = rows[rows["method"].isin(list(METHODS))]
    if networks.empty or pathology.empty:
        return ""
    best = best_row(networks, "auroc_mean")["method"]
    part = pathology[
        (pathology["method"] == best) & (pathology["score"] == "thesis") & (pathology["members"] == "single")
    ].dropna(subset=["auroc_mean"])
    if len(part) < 2:
        return ""
    high, low = best_row(part, "auroc_mean"), best_row(part, "auroc_mean", largest=False)
    worse = part[part["auroc_mean"] < 0.5]
    text = (
        f"{label(best)} finds {label(high['pathology'])} best ({number(high['auroc_mean'])}) and "
        f"{label(low['pathology'])} worst ({number(low['auroc_mean'])}, slice-wise against healthy scans)"
    )
    if len(worse):
        text += f"; below 0.5, so worse than a guess: {', '.join(map(label, worse['pathology']))}"
    return text + "."


def on_localisation(segmentation: pd.DataFrame) -> str:
    """Name the best Dice of focal lesions and its ceiling; atrophy has no focus and is left out."""
    part = segmentation[(segmentation["subset"] == "focal") & (segmentation["level"] == "volume")]
    fused = part[
        (part["map"] == "calibrated") & (part["method"] == FUSED) & (part["threshold"] == "calibrated")
    ]
    part = part[part["map"] == "residual"]
    real = part[(part["threshold"] == "calibrated") & part["method"].isin(list(METHODS))].dropna(
        subset=["dice_mean"]
    )
    if real.empty:
        return "Localisation (Dice) was not computed: no abnormal test scan with the mask of a focal lesion."
    best = best_row(real, "dice_mean")
    ceiling = part[(part["threshold"] == "oracle") & (part["method"] == best["method"])]["dice_mean"].iloc[0]
    text = (
        f"Localisation, atrophy left out: the best network's Dice per volume is {number(best['dice_mean'])}"
        f"{span(best['dice_low'], best['dice_high'])} ({label(best['method'])}; residual of each seed by itself, their "
        f"Dice averaged); no threshold could lift it above {number(ceiling)}"
    )
    atlas = part[(part["threshold"] == "calibrated") & (part["method"] == "statistical_atlas")].dropna(
        subset=["dice_mean"]
    )
    if len(atlas):
        text += f"; the statistical atlas, without a network, has {number(atlas['dice_mean'].iloc[0])}"
    if len(fused) and not np.isnan(fused["dice_mean"].iloc[0]):
        row = fused.iloc[0]
        text += "; the fused z map, the mean of all seeds' maps and so not on the same footing, has "
        text += f"{number(row['dice_mean'])}{span(row['dice_low'], row['dice_high'])}"
    return text + "."


def findings(tables: dict[str, pd.DataFrame]) -> list[str]:
    """Return the sentences that lead the report, the confound apart."""
    summary, paired = tables["detection_summary"], tables["detection_paired"]
    sentences = [
        against_trivial(summary, paired, protocol) for protocol in ("slice_healthy", "clinical", "volume")
    ]
    for protocol in ("slice_healthy", "volume"):
        sentences += [
            on_calibrated(summary, paired, protocol),
            networks_calibrated(summary, paired, protocol),
        ]
    sentences.append(against_published(summary, paired, "slice_healthy"))
    sentences.append(on_pathologies(tables["pathology"], summary))
    sentences.append(on_localisation(tables["segmentation_summary"]))
    for protocol, what in _WHAT.items():
        rows = main_rows(summary, protocol)
        rows = rows[~rows["note"].str.startswith("has no ")]
        if len(rows) and rows["auroc_mean"].isna().all():
            sentences.append(f"Not computed, {what}: {rows['note'].iloc[0]}.")
    return [sentence for sentence in sentences if sentence]
