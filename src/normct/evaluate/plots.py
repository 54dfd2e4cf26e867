"""Figures beyond the thesis's: position, FROC, forest plot, λ, calibration, risk and coverage; PNG and SVG."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from normct.common.cli import run
from normct.common.files import read_json
from normct.common.registry import FUSED, METHODS, PROTOCOLS, label
from normct.evaluate import style
from normct.evaluate.arguments import command_line
from normct.evaluate.data import Scores, ordered_pathologies
from normct.evaluate.residuals import ATLAS_KEY

log = logging.getLogger(__name__)
MOST = 4
"""Networks of the position figure: more panels would be too small to read."""
KINDS = (("thesis", "trivial"), ("calibrated", "fused"))
"""Scores of the position figure's rows."""
SHOWN = {name for names in KINDS for name in names}
RATES = (0.5, 1, 2, 4)


def _column(slices: Scores, method: str, names: tuple[str, ...]) -> NDArray[np.float64] | None:
    """Return a method's scores, the mean over its seeds; None where it has none of that name."""
    found = [
        i for i, (m, s, seed) in enumerate(slices.columns) if m == method and s in names and seed != "all"
    ]
    return slices.pick(found).matrix().mean(axis=1) if found else None


def _position_panel(axes: Axes, units: pd.DataFrame, values: NDArray[np.float64], title: str) -> None:
    healthy = (units["group"] == "healthy").to_numpy(bool)
    lesion = (units["lesion_pixels"] > 0).to_numpy(bool) & ~healthy
    spread = float(np.nanstd(values[healthy])) or 1.0
    shown = (values - np.nanmean(values[healthy])) / spread
    z = units["z"].to_numpy()
    look: dict[str, Any] = {"linestyle": "none", "marker": ".", "markersize": 2.5, "rasterized": True}
    axes.plot(z[lesion], shown[lesion], color="#D55E00", alpha=0.6, label="slices with a lesion", **look)
    axes.plot(z[healthy], shown[healthy], color="#555555", alpha=0.35, label="healthy slices", **look)
    mean = pd.Series(shown[healthy]).groupby(z[healthy]).mean().rolling(9, center=True, min_periods=1).mean()
    axes.plot(mean.index, mean, color="#0072B2", linewidth=1.8, label="healthy mean")
    low, high = np.nanpercentile(shown, [0.2, 99.5])
    axes.set_ylim(low - 0.5, high + 0.5)
    axes.set_title(title, fontsize=9)


def position_figure(slices: Scores, confound: pd.DataFrame) -> Figure | None:
    """Draw scores against slice position: the plain score above, the calibrated one of the same map below.

    Parameters
    ----------
    slices : Scores
        Of the test scans.
    confound : DataFrame
        ``confound.csv``: R² of the titles.
    """
    import matplotlib.pyplot as plt

    trained = [m for m in METHODS if _column(slices, m, ("thesis",)) is not None]
    shown = [*trained[:MOST], ATLAS_KEY, FUSED]
    columns = [m for m in shown if any(_column(slices, m, names) is not None for names in KINDS)]
    if not columns or not (slices.units["group"] == "healthy").any():
        return None
    figure, grid = plt.subplots(
        2,
        len(columns),
        figsize=(2.6 * len(columns) + 0.6, 5.4),
        layout="constrained",
        squeeze=False,
        sharex=True,
    )
    r2 = confound[confound["check"] == "position_r2"]
    drawn = None
    for column, method in enumerate(columns):
        for row, names in enumerate(KINDS):
            axes, values = grid[row, column], _column(slices, method, names)
            if values is None:
                axes.set_visible(False)
                continue
            entry = r2[(r2["method"] == method) & r2["score"].isin(names)]["value"]
            known = (
                f"\nR² {entry.iloc[0]:.2f}".replace("-", "−")
                if len(entry) and not np.isnan(entry.iloc[0])
                else ""
            )
            _position_panel(
                axes, slices.units, values, f"{label(method).replace(' with ', chr(10) + 'with ')}{known}"
            )
            drawn = drawn or axes
    for row, name in enumerate(("Plain score", "Calibrated score")):
        first = next((axes for axes in grid[row] if axes.get_visible()), None)
        if first is not None:
            first.set_ylabel(f"{name},\nSD of healthy slices")
    figure.supxlabel("Slice, base to vertex (mm)", fontsize=9)
    if drawn is not None:
        figure.legend(*drawn.get_legend_handles_labels(), loc="outside lower right", ncols=3, fontsize=8)
    return figure


def froc_figure(curve: pd.DataFrame) -> Figure | None:
    """Draw sensitivity against false findings a healthy scan, of the residuals and of the calibrated maps."""
    import matplotlib.pyplot as plt

    known = curve.dropna(subset=["false_per_healthy_scan"])
    if known.empty:
        return None
    figure, grid = plt.subplots(1, 2, figsize=(11.5, 4.2), layout="constrained", sharey=True)
    for axes, kind, title in zip(
        grid, ("residual", "calibrated"), ("Residual", "Calibrated map"), strict=True
    ):
        part = known[known["map"] == kind]
        for method in [*METHODS, FUSED, ATLAS_KEY]:
            own = part[part["method"] == method]
            if len(own):
                axes.plot(
                    own["false_per_healthy_scan"],
                    own["sensitivity"],
                    label=label(method),
                    **style.line(method),
                )
        for rate in RATES:
            axes.axvline(rate, color="#BBBBBB", linewidth=0.8, linestyle=":", zorder=1)
        axes.set_xscale("symlog", linthresh=0.25)
        axes.set_xticks([0, *RATES, 8, 16], ["0", "0.5", "1", "2", "4", "8", "16"])
        axes.minorticks_off()
        axes.set(xlim=(-0.01, 20), ylim=(-0.02, 1.02), title=title, xlabel="False findings a healthy scan")
        if part.empty:
            axes.text(0.5, 0.5, "Not computed", ha="center", transform=axes.transAxes)
    entries = dict(zip(*(grid[1].get_legend_handles_labels()[::-1]), strict=True))
    entries = dict(zip(*(grid[0].get_legend_handles_labels()[::-1]), strict=True)) | entries
    figure.legend(entries.values(), entries.keys(), loc="outside right upper", fontsize=8)
    grid[0].set_ylabel("Lesions found")
    return figure


def _forest_rows(pathology: pd.DataFrame, strata: pd.DataFrame, protocol: str) -> pd.DataFrame:
    parts = strata[(strata["protocol"] == protocol) & strata["kind"].isin(["pathology", "subtype"])]
    parts = parts.assign(name=parts["stratum"])
    if protocol == "volume":
        return parts
    single = pathology[pathology["members"] == "single"].assign(name=lambda t: t["pathology"])
    return pd.concat([single, parts], ignore_index=True)


def _compared(rows: pd.DataFrame) -> dict[str, tuple[str, str]]:
    """Return what the forest plot compares: label → method and score; the best of the networks by mean AUROC."""
    found: dict[str, tuple[str, str]] = {}
    for score, words in (("thesis", "plain"), ("calibrated", "calibrated")):
        part = rows[(rows["score"] == score) & rows["method"].isin(list(METHODS))].dropna(
            subset=["auroc_mean"]
        )
        if len(part):
            means = part.groupby("method", sort=False)["auroc_mean"].mean()
            best = max(means.index, key=lambda m: means[m])
            found[f"{label(best)}, {words}"] = (best, score)
    found["Statistical atlas, calibrated"] = (ATLAS_KEY, "calibrated")
    return found | {"Fused": (FUSED, "fused")}


def forest_figure(pathology: pd.DataFrame, strata: pd.DataFrame) -> Figure | None:
    """Draw AUROC with its interval by pathology and subtype, of slices and of whole scans.

    Parameters
    ----------
    pathology, strata : DataFrame
        ``pathology.csv`` and ``strata.csv``.
    """
    import matplotlib.pyplot as plt

    tables = {p: _forest_rows(pathology, strata, p) for p in ("slice_healthy", "volume")}
    names = ordered_pathologies({n for t in tables.values() for n in t.dropna(subset=["auroc_mean"])["name"]})
    # a subtype stands under its pathology
    names.sort(key=lambda n: (names.index(n.split(": ")[0]) if n.split(": ")[0] in names else len(names), n))
    if not names:
        return None
    compared = _compared(pd.concat(tables.values(), ignore_index=True))
    colours = ("#999999", "#0072B2", "#CC79A7", "#000000")[-len(compared) :]
    figure, grid = plt.subplots(
        1, 2, figsize=(10.5, 0.55 * len(names) + 1.6), layout="constrained", sharey=True
    )
    titles = ("Slices with a lesion against healthy slices", "Whole scans against healthy scans")
    for axes, table, title in zip(grid, tables.values(), titles, strict=True):
        for step, ((text, (method, score)), colour) in enumerate(zip(compared.items(), colours, strict=True)):
            part = table[(table["method"] == method) & (table["score"] == score)].drop_duplicates("name")
            part = part.set_index("name").reindex(names)
            y = np.arange(len(names)) + 0.17 * (step - (len(compared) - 1) / 2)
            axes.plot(part["auroc_mean"], y, "o", color=colour, markersize=4.5, label=text)
            axes.hlines(y, part["auroc_low"], part["auroc_high"], color=colour, linewidth=1.3)
        axes.axvline(0.5, color="#BBBBBB", linewidth=0.9, zorder=1)
        axes.set(xlim=(0, 1.02), xlabel="AUROC", title=title)
        axes.grid(axis="y", visible=False)
    shown = [f"of these {n.split(': ', 1)[1]}" if ": " in n else label(n) for n in names]
    grid[0].set_yticks(range(len(names)), shown)
    grid[0].invert_yaxis()
    figure.legend(*grid[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=8)
    return figure


def lambda_figure(table: pd.DataFrame) -> Figure | None:
    """Draw AUROC over λ, a panel a method with a head, a line a protocol with its interval."""
    import matplotlib.pyplot as plt

    known = table.dropna(subset=["auroc_mean"])
    methods = [m for m in METHODS if m in set(known["method"])]
    if not methods:
        return None
    figure, grid = plt.subplots(
        1, len(methods), figsize=(5.2 * len(methods), 3.8), layout="constrained", squeeze=False, sharey=True
    )
    colours = dict(zip(PROTOCOLS, ("#0072B2", "#56B4E9", "#009E73", "#D55E00"), strict=True))
    words = ("slices, healthy negatives", "slices, all negatives", "clinical", "whole scans")
    for axes, method in zip(grid[0], methods, strict=True):
        for protocol, text in zip(PROTOCOLS, words, strict=True):
            part = known[(known["method"] == method) & (known["protocol"] == protocol)].sort_values("lambda")
            if len(part):
                colour = colours[protocol]
                axes.plot(part["lambda"], part["auroc_mean"], "o-", color=colour, markersize=3, label=text)
                axes.fill_between(
                    part["lambda"],
                    part["auroc_low"],
                    part["auroc_high"],
                    color=colour,
                    alpha=0.12,
                    linewidth=0,
                )
        axes.axhline(0.5, color="#BBBBBB", linewidth=0.9, zorder=1)
        axes.set(xlabel="λ (0: head alone, 1: residual alone)", title=label(method))
    grid[0, 0].set_ylabel("AUROC")
    grid[0, -1].legend(loc="best", fontsize=8)
    return figure


def risk_figure(curve: pd.DataFrame) -> Figure | None:
    """Draw the error of whole scans over the share that is kept, surest first."""
    import matplotlib.pyplot as plt

    if curve.empty:
        return None
    scores = [s for s in ("thesis", "calibrated", "fused") if (curve["score"] == s).any()]
    panels = (("thesis",), ("calibrated", "fused"))
    figure, grid = plt.subplots(1, 2, figsize=(10.5, 3.8), layout="constrained", sharey=True)
    for axes, names, title in zip(grid, panels, ("Plain scores", "Calibrated scores"), strict=True):
        part = curve[curve["score"].isin(names)]
        for (method, _, _, by), own in part.groupby(["method", "score", "seed", "surest_by"], sort=False):
            look = style.line(str(method))
            if by == "margin":
                look |= {"linewidth": 0.9, "linestyle": ":"}
            name = None if by == "margin" else label(str(method))
            if by != "relative":  # a table has it: three lines a method hide each other
                axes.plot(own["coverage"], own["error"], label=name, **look)
            axes.plot([1], [own["error"].iloc[-1]], "o", color=look["color"], markersize=4)
        axes.set(xlim=(0, 1.02), title=title, xlabel="Share of scans kept, surest first")
        if len(part):
            axes.legend(loc="best", fontsize=8)
    grid[0].set_ylabel("Scans on the wrong side")
    return figure if scores else None


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    p = command_line(__doc__, "normct.evaluate.plots", "collected", "calibration", settings="specificities")
    p.add_argument("--tables", required=True, type=Path, help="folder with the tables of this stage")
    args = p.parse_args(argv)
    style.use()
    from normct.evaluate.data import accepted_test, read_cohort, read_slice_scores, read_volume_scores
    from normct.evaluate.panels import note_figure
    from normct.evaluate.reached import calibration_figure
    from normct.evaluate.tables import read_csv

    def table(name: str) -> pd.DataFrame:
        return read_csv(args.tables / f"{name}.csv")

    scans = accepted_test(read_cohort(args.collected))
    slices = read_slice_scores(args.collected, scans, only=lambda c: c[1] in SHOWN and c[2] != "all")
    position = position_figure(slices, table("confound")) if len(slices.units) else None
    calibration = calibration_figure(
        read_volume_scores(args.collected, scans),
        read_json(args.calibration)["healthy"],
        table("detection_summary"),
        args.settings["specificities"],
    )
    drawn = {
        "figure_position": (position, "No healthy test slice with a score."),
        "figure_froc": (froc_figure(table("froc_curve")), "No focal lesion, or no healthy test scan."),
        "figure_forest": (
            forest_figure(table("pathology"), table("strata")),
            "No abnormal or no healthy test scan.",
        ),
        "figure_lambda": (lambda_figure(table("lambda")), "No method with a head was trained."),
        "figure_calibration": (calibration, "No healthy calibration scan, or no healthy test scan."),
        "figure_risk_coverage": (risk_figure(table("risk_coverage")), "No score has an uncertainty."),
    }
    for name, (figure, otherwise) in drawn.items():
        style.save(figure or note_figure(otherwise), args.out, name)
    log.info("%d figures", len(drawn))


if __name__ == "__main__":
    run(main)
