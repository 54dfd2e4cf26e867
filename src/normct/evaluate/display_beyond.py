"""Tables beyond detection as a reader sees them: lesions found, strata, pretraining, uncertainty."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from normct.common.registry import FUSED, METHODS, PATHOLOGIES, TRIVIAL, label
from normct.evaluate.display import cell
from normct.evaluate.document import Table
from normct.evaluate.sentences import signed

_ATLAS = "statistical_atlas"
ORDER = [*METHODS, FUSED, *TRIVIAL]
"""Methods as the tables list them."""


def kind_label(name: str) -> str:
    """Return a pathology, or a pathology and subtype, as a reader knows it."""
    pathology, _, subtype = name.partition(": ")
    return f"{label(pathology)}: {subtype}" if subtype and pathology in PATHOLOGIES else label(name)


def froc_table(froc: pd.DataFrame, kind: str = "calibrated") -> Table | None:
    """Return the share of focal lesions found at stated rates of false findings."""
    part = froc[(froc["subset"] == "focal") & (froc["map"] == kind)]
    if part.empty:
        return None
    rates = [r for r in dict.fromkeys(part["false_per_scan"]) if r != "calibrated"]
    rows, first = [], part.iloc[0]
    for method in [m for m in ORDER if m in set(part["method"])]:
        own = part[part["method"] == method].set_index("false_per_scan")
        cells = [_found_cell(own.loc[rate]) for rate in rates]
        at = own.loc["calibrated"]
        false = "–" if np.isnan(at["false_per_healthy_scan"]) else f"{at['false_per_healthy_scan']:.1f}"
        rows.append([label(method), *cells, _found_cell(at), false])
    what = "calibrated map" if kind == "calibrated" else "residual"
    header = [
        "Method",
        *(f"{rate} false a scan" for rate in rates),
        "Calibrated threshold",
        "False a scan there",
    ]
    notes = ["A network's map is the mean of its seeds' maps."]
    if kind == "residual" and _ATLAS in set(part["method"]):
        notes.append(
            "Statistical atlas: its plain map, |z| against healthy training voxels, for it has no residual."
        )
    notes += [f"{note[:1].upper()}{note[1:]}." for note in dict.fromkeys(part["reason"]) if note]
    return Table(
        f"Lesions found in the {what} (FROC): {first['n_lesions']:.0f} focal lesions of {first['n_scans']:.0f} scans, false "
        f"findings counted in {first['n_healthy']:.0f} healthy test scans.",
        header,
        rows,
        notes,
    )


def _found_cell(row: Any) -> str:
    if np.isnan(row["sensitivity"]):
        return "–"
    text = f"{100 * row['sensitivity']:.0f} %"
    if not np.isnan(row["sensitivity_low"]):
        text += f" ({100 * row['sensitivity_low']:.0f} to {100 * row['sensitivity_high']:.0f})"
    return text


def froc_kinds(froc: pd.DataFrame) -> Table | None:
    """Return lesions found by pathology and subtype, by the fused map, or the atlas's where nothing is fused."""
    part = froc[(froc["map"] == "calibrated") & (froc["subset"] != "focal")]
    method = FUSED if (part["method"] == FUSED).any() else _ATLAS
    part = part[part["method"] == method]
    if part.empty:
        return None
    rates = [r for r in dict.fromkeys(part["false_per_scan"]) if r != "calibrated"]
    rows = []
    for subset in dict.fromkeys(part["subset"]):
        own = part[part["subset"] == subset].set_index("false_per_scan")
        count = f"{own['n_lesions'].iloc[0]:.0f}"
        rows.append([kind_label(str(subset)), count, *(_found_cell(own.loc[rate]) for rate in rates)])
    return Table(
        f"Lesions found by kind: {label(method)}, calibrated map.",
        ["Kind", "Lesions", *(f"{rate} false a scan" for rate in rates)],
        rows,
    )


def compared(table: pd.DataFrame) -> list[tuple[str, str, str]]:
    """Return the columns of the tables of strata: heading, method, score.

    The best network with either score and the best trivial baseline are those of the highest mean over these rows.
    """
    chosen: list[tuple[str, str, str]] = []
    for score, words, names in (
        ("thesis", "plain", METHODS),
        ("calibrated", "calibrated", METHODS),
        ("trivial", "plain", TRIVIAL),
    ):
        part = table[(table["score"] == score) & table["method"].isin(list(names))]
        part = part.dropna(subset=["auroc_mean"])
        if len(part):
            means = part.groupby("method", sort=False)["auroc_mean"].mean()
            best = max(means.index, key=lambda m: means[m])
            chosen.append((f"{label(best)}, {words}", best, score))
    rest = (("Statistical atlas, calibrated", _ATLAS, "calibrated"), ("Fused", FUSED, "fused"))
    present = set(zip(table["method"], table["score"], strict=True))
    return chosen + [entry for entry in rest if entry[1:] in present]


SIZED = (
    "Lesion volume leaves atrophy out: its mask marks widened CSF spaces, whose volume is no lesion's size."
)
PICKED = "{} is the best baseline without a network on these very rows, which favours it."
_KINDS = {
    "lesion_volume": "Lesion volume",
    "third": "Third of the brain",
    "subtype": "Subtype",
    "pathology": "Pathology",
    "scanner": "Scanner",
    "slice_thickness_mm": "Slice thickness",
    "age": "Age",
}


def strata_table(table: pd.DataFrame, protocol: str, caption: str, kinds: tuple[str, ...]) -> Table | None:
    """Return AUROC by stratum, a column a method; whole scans also with the sensitivity of the fused score."""
    part = table[(table["protocol"] == protocol) & table["kind"].isin(kinds)]
    part = part[part["n_pos"] + part["n_neg"] > 0]
    columns = compared(part)
    if part.empty or not columns:
        return None
    rows: list[list[str]] = []
    breaks: set[int] = set()
    last = ""
    for (kind, stratum), group in part.groupby(["kind", "stratum"], sort=False):
        lookup = {(row["method"], row["score"]): row for _, row in group.iterrows()}
        if all(np.isnan(row["auroc_mean"]) for row in lookup.values()):
            continue
        first = group.iloc[0]
        if str(kind) != last and rows:
            breaks.add(len(rows))
        last = str(kind)
        cells = [cell(lookup[m, s], "auroc") if (m, s) in lookup else "–" for _, m, s in columns]
        flagged = (
            lookup[columns[-1][1], columns[-1][2]]["sensitivity"] if columns[-1][1:] in lookup else np.nan
        )
        extra = [] if protocol != "volume" else ["–" if np.isnan(flagged) else f"{100 * flagged:.0f} %"]
        counts = f"{first['n_patients']:.0f}; {first['n_healthy_patients']:.0f}"
        rows.append([f"{_KINDS[str(kind)]}: {kind_label(str(stratum))}", counts, *cells, *extra])
    if not rows:
        return None
    header = ["Stratum", "Abnormal; healthy patients", *(name for name, _, _ in columns)]
    if protocol == "volume":
        header.append(f"{columns[-1][0]}: flagged at the first operating point")
    notes = [SIZED] if "lesion_volume" in set(part["kind"]) else []
    notes += [PICKED.format(label(method)) for _, method, score in columns if score == "trivial"]
    return Table(caption, header, rows, notes, breaks)


def pretraining_table(paired: pd.DataFrame) -> Table | None:
    """Return each method with context restoration against its twin without it."""
    part = paired[(paired["against"] == "no_pretraining") & (paired["members"] == "single")]
    part = part[part["protocol"].isin(["slice_healthy", "volume"])].dropna(subset=["auroc_difference"])
    if part.empty:
        return None
    rows = []
    for row in part.to_dict("records"):
        low, high = row["auroc_low"], row["auroc_high"]
        unit = "slices" if row["protocol"] == "slice_healthy" else "whole scans"
        interval = "–" if np.isnan(low) else f"{signed(low)} to {signed(high)}"
        score = "plain" if row["score"] == "thesis" else row["score"]
        rows.append(
            [
                label(row["method"]),
                label(row["rival"]),
                score,
                unit,
                signed(row["auroc_difference"]),
                interval,
            ]
        )
    return Table(
        "With context-restoration pretraining against without, at equal gradient steps: difference in AUROC.",
        ["With", "Without", "Score", "Units", "Difference", "95 % interval"],
        rows,
    )


def risk_table(summary: pd.DataFrame) -> Table | None:
    """Return the error of all scans and of those that are kept, surest first."""
    known = summary.dropna(subset=["error"])
    if known.empty:
        return None
    rows = []
    for _, own in known.groupby(["method", "score", "seed"], sort=False):
        by = {row["surest_by"]: row for row in own.to_dict("records")}
        row = by["spread"]
        what = {"seeds": "SD over seeds", "dropout": "dropout"}.get(
            row["uncertainty_of"], row["uncertainty_of"]
        )
        name = label(row["method"]) + (", calibrated" if row["score"] == "calibrated" else "")
        percents = [f"{100 * row[k]:.0f} %" for k in ("error", "error_kept")]
        gains = [_gain_cell(by[order]) for order in ("spread", "relative", "margin")]
        rows.append([name, what, *percents, *gains])
    header = [
        "Method",
        "Uncertainty",
        "Error, all scans",
        "Error, surest 80 %",
        "Gain (95 % interval)",
        "Gain, over its distance from the threshold",
        "Gain, that distance alone",
    ]
    return Table(
        f"Whole scans on the wrong side of the first operating point's threshold ({known['n'].iloc[0]:.0f} scans), as the "
        "unsure ones are left out. Gain: error of all scans less the mean over all coverages; below 0 the scans called "
        "sure are wrong more often than others. The last column needs no uncertainty: what does not exceed it adds nothing.",
        header,
        rows,
    )


def _gain_cell(row: dict[Any, Any]) -> str:
    if np.isnan(row["gain_low"]):
        return signed(row["gain"])
    return f"{signed(row['gain'])} ({signed(row['gain_low'])} to {signed(row['gain_high'])})"
