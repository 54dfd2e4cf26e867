"""Tables as a reader sees them: rounded, labelled, in the thesis's layout."""

from __future__ import annotations

import numpy as np
import pandas as pd

from normct.common.registry import FUSED, METHODS, PATHOLOGIES, PROTOCOLS, TRIVIAL, label
from normct.evaluate import published
from normct.evaluate.data import ordered_pathologies
from normct.evaluate.dice_tables import DIFFUSE
from normct.evaluate.document import Table
from normct.evaluate.operating import share_interval
from normct.evaluate.sentences import PLAIN, main_rows, number


def cell(row: pd.Series, metric: str) -> str:
    """Return ``mean ± SD (low to high)``, leaving out what is not known."""
    mean = row[f"{metric}_mean"]
    if np.isnan(mean):
        return "–"
    text = number(mean)
    if not np.isnan(row[f"{metric}_sd"]):
        text += f" ± {row[f'{metric}_sd']:.3f}"
    if not np.isnan(row[f"{metric}_low"]):
        text += f" ({row[f'{metric}_low']:.2f} to {row[f'{metric}_high']:.2f})"
    return text


def methods_in(*frames: pd.DataFrame) -> list[str]:
    """Return the methods with a figure in any of the tables, networks first."""
    measured = "auroc_mean" if "auroc_mean" in frames[0] else "dice_mean"
    present = {method for frame in frames for method in frame.dropna(subset=[measured])["method"]}
    return [name for name in [*METHODS, FUSED, *TRIVIAL] if name in present]


def blocks(methods: list[str]) -> set[int]:
    """Return where the baselines begin."""
    first = [i for i, name in enumerate(methods) if name in TRIVIAL]
    return {first[0]} if first and first[0] > 0 else set()


def _prevalence(rows: pd.DataFrame) -> str:
    known = rows.dropna(subset=["prevalence"])
    if known.empty:
        return "–"
    first = known.iloc[0]
    return f"{number(first['prevalence'])} ({first['n_pos']:.0f} of {first['n_pos'] + first['n_neg']:.0f})"


def _dice_cell(
    segmentation: pd.DataFrame,
    method: str,
    level: str,
    threshold: str,
    *,
    subset: str = "all",
    kind: str = "residual",
) -> str:
    rows = segmentation[
        (segmentation["subset"] == subset)
        & (segmentation["map"] == kind)
        & (segmentation["method"] == method)
        & (segmentation["level"] == level)
        & (segmentation["threshold"] == threshold)
    ].dropna(subset=["dice_mean"])
    if rows.empty:
        return "–"
    row = rows.iloc[0]
    spreads = []
    if not np.isnan(row["dice_low"]):
        spreads.append(f"{row['dice_low']:.2f} to {row['dice_high']:.2f}")
    if not np.isnan(row["dice_sd_over_units"]):
        spreads.append(
            f"σ {row['dice_sd_over_units']:.3f} over {'slices' if level == 'slice' else 'volumes'}"
        )
    if not np.isnan(row["dice_sd_over_seeds"]):
        spreads.append(f"{row['dice_sd_over_seeds']:.3f} over seeds")
    return number(row["dice_mean"]) + (f" ({', '.join(spreads)})" if spreads else "")


def detection_table(
    summary: pd.DataFrame,
    columns: list[tuple[str, str, str]],
    caption: str,
    segmentation: pd.DataFrame | None = None,
) -> Table:
    """Return one row a method in thesis scoring and a trivial baseline.

    Parameters
    ----------
    summary : DataFrame
        ``detection_summary.csv``.
    columns : list of (heading, protocol, metric)
    caption : str
    segmentation : DataFrame, optional
        ``segmentation_summary.csv``: adds the thesis's DSC column.
    """
    parts = {protocol: main_rows(summary, protocol) for _, protocol, _ in columns}
    methods = methods_in(*parts.values())
    header = ["Method", *(heading for heading, _, _ in columns), *([] if segmentation is None else ["DSC"])]
    prevalence = ["Prevalence", *(_prevalence(parts[p]) if m == "aupr" else "" for _, p, m in columns)]
    rows = [prevalence + ([] if segmentation is None else [""])]
    for method in methods:
        row = [label(method)]
        for _, protocol, metric in columns:
            found = parts[protocol][parts[protocol]["method"] == method]
            row.append(cell(found.iloc[0], metric) if len(found) else "–")
        if segmentation is not None:
            row.append(_dice_cell(segmentation, method, "slice", "calibrated"))
        rows.append(row)
    breaks = {1} | {i + 1 for i in blocks(methods)}
    notes = []
    for _, protocol, _ in columns:
        found = parts[protocol]
        for note in dict.fromkeys(found.loc[~found["note"].isin([""]), "note"]):
            if note.startswith("has no "):
                who = [label(m) for m in found.loc[found["note"] == note, "method"]]
                notes.append(f"{' and '.join(who)} {note}.")
            else:
                notes.append(f"{PROTOCOLS[protocol]}: {note}.")
    return Table(caption, header, rows, list(dict.fromkeys(notes)), breaks)


def pathology_table(pathology: pd.DataFrame, scores: tuple[str, ...] = PLAIN) -> Table | None:
    """Return table 6.4: slice-wise AUROC by pathology; with calibrated scores, its counterpart."""
    part = pathology[pathology["score"].isin(scores) & (pathology["members"] == "single")]
    if part.empty:
        return None
    head = "Table 6.4. " if scores == PLAIN else "Calibrated scores: "
    names, methods = ordered_pathologies(part["pathology"]), methods_in(part)
    lookup = {(row["pathology"], row["method"]): row for _, row in part.iterrows()}
    counts = {row["pathology"]: row for row in part.drop_duplicates("pathology").to_dict("records")}
    rows = [
        [
            "Patients; lesion slices",
            *(f"{counts[n]['n_patients']:.0f}; {counts[n]['n_pos']:.0f}" for n in names),
        ]
    ]
    rows += [
        [label(method), *(cell(lookup[n, method], "auroc") if (n, method) in lookup else "–" for n in names)]
        for method in methods
    ]
    lonely = [n for n in names if counts[n]["n_patients"] == 1]
    notes = [f"One patient only, so no interval: {', '.join(map(label, lonely))}."] if lonely else []
    return Table(
        f"{head}AUROC by pathology: its lesion slices against slices of healthy scans, other pathologies "
        "left out.",
        ["Method", *(label(name) for name in names)],
        rows,
        notes,
        {1} | {i + 1 for i in blocks(methods)},
    )


def segmentation_table(segmentation: pd.DataFrame, voxel_fpr: float, kind: str = "residual") -> Table | None:
    """Return Dice at the calibrated threshold and its ceiling, of the residual or of the calibrated map."""
    part = segmentation[segmentation["map"] == kind]
    present = set(part["subset"])
    columns = [c for c in _DICE_COLUMNS if c[1] in present and (c[1] == "focal" or present & set(DIFFUSE))]
    if not columns:
        return None
    leading = "focal" if "focal" in present else "all"
    part = part[part["subset"] == leading]
    what = "residual" if kind == "residual" else "calibrated map |z|"
    methods = methods_in(part)
    units = part.drop_duplicates("level").set_index("level")["n_units"]
    rows = []
    for method in methods:
        cells = [
            _dice_cell(segmentation, method, level, threshold, subset=subset, kind=kind)
            for _, subset, level, threshold in columns
        ]
        rows.append([label(method), *cells])
    networks = part[~part["method"].isin(list(TRIVIAL))]
    notes = [POOLED[members] for members in dict.fromkeys(networks["members"])]
    notes += ["Atrophy has no focus: only the last column counts it."] if columns[-1][1] == "all" else []
    return Table(
        f"Dice of the thresholded {what}, mean, 95 % interval and σ, on the 1 mm grid ({units.get('slice', 0):.0f} slices "
        f"with a {'focal ' if leading == 'focal' else ''}"
        f"lesion, {units.get('volume', 0):.0f} volumes). Threshold: {100 * voxel_fpr:g} % of healthy "
        f"calibration voxels "
        "above it. ⌈Dice⌉ is an oracle: the one threshold best on these very test scans, which nobody has in "
        "practice.",
        ["Method", *(heading for heading, *_ in columns)],
        rows,
        notes,
        blocks(methods),
    )


POOLED = {
    "single": "Networks: each seed's own map by itself, their Dice averaged over seeds.",
    "ensemble": "Networks and fused: one map a method, the mean of all seeds' maps, which is smoother than that of one "
    "seed; the Dice of single maps is not on the same footing.",
}
"""What a row of Dice is of, by its column ``members``."""
_DICE_COLUMNS = (
    ("Dice, slices", "focal", "slice", "calibrated"),
    ("⌈Dice⌉, slices", "focal", "slice", "oracle"),
    ("Dice, volumes", "focal", "volume", "calibrated"),
    ("⌈Dice⌉, volumes", "focal", "volume", "oracle"),
    ("Dice, volumes, with atrophy", "all", "volume", "calibrated"),
)


def _share_cell(share: float, patients: float) -> str:
    """Return a share of scans in percent with its interval."""
    if np.isnan(share):
        return "–"
    low, high = share_interval(share, int(patients))
    return f"{100 * share:.0f} % ({100 * low:.0f} to {100 * high:.0f})"


def operating_table(points: pd.DataFrame, scores: tuple[str, ...] = PLAIN) -> Table | None:
    """Return sensitivity and reached specificity of whole scans, averaged over seeds."""
    part = points[points["score"].isin(scores) & (points["seed"] != "all")]
    if part.empty:
        return None
    rows = []
    for (method, target), group in part.groupby(["method", "target_specificity"], sort=False):
        flags = group["flags_per_100_healthy"].mean()
        cells = [
            _share_cell(group[name].mean(), group[f"n_{who}_patients"].iloc[0])
            for name, who in (("sensitivity", "abnormal"), ("specificity", "healthy"))
        ]
        cells.append("–" if np.isnan(flags) else f"{flags:.0f}")
        rows.append([label(str(method)), f"{100 * float(str(target)):.0f} %", *cells])
    what, first = "" if scores == PLAIN else ", calibrated scores", part.iloc[0]
    notes = [
        "In brackets Clopper and Pearson's 95 % interval of the mean over seeds, patients as their number: it has a width "
        "where all or none are flagged. That of the thresholds, set on few scans, is not in it."
    ]
    notes += [f"{note}." for note in dict.fromkeys(part["reason"]) if note]
    return Table(
        f"Operating points of whole scans{what} ({first['n_abnormal']:.0f} abnormal, "
        f"{first['n_healthy']:.0f} healthy test "
        f"scans). Thresholds were set on {first['n_calibrate']:.0f} healthy calibration scans; the "
        f"specificity reached "
        "on the test scans stands beside the one aimed at.",
        [
            "Method",
            "Specificity aimed at",
            "Sensitivity",
            "Specificity reached",
            "Flags per 100 healthy scans",
        ],
        rows,
        notes,
    )


def published_tables() -> list[Table]:
    """Return the thesis's own figures."""
    columns = ["Slice AUROC", "Clinical AUROC", "Slice AUPR", "Clinical AUPR", "DSC"]
    rows = [["Prevalence", "", "", published.PREVALENCE["slice"], published.PREVALENCE["clinical"], ""]]
    rows += [[label(method), *values] for method, values in published.DETECTION.items()]
    names = list(PATHOLOGIES)
    by_pathology = [[label(m), *(values[n] for n in names)] for m, values in published.PATHOLOGY.items()]
    return [
        Table(
            f"Published figures (tables 6.1 to 6.3). {published.SOURCE}.", ["Method", *columns], rows, [], {1}
        ),
        Table(
            f"Published AUROC by pathology (table 6.4). {published.SOURCE}.",
            ["Method", *(label(n) for n in names)],
            by_pathology,
        ),
    ]
