"""Does a batch of new scans look like the scans that a bundle was calibrated on? A page and a table.

Each quality measure and each volume score of the batch is compared with the calibration set's by a two-sided
Kolmogorov-Smirnov test, exact in small samples, and by how often a scan of the batch lies above one of the set
(Mann and Whitney's U over the number of pairs: 0.5 = alike). p-values are adjusted together for their
number (Benjamini and Yekutieli 2001, valid for dependent tests). Nothing here changes a score.
"""

from __future__ import annotations

import argparse
import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from normct.common.cli import parser, run
from normct.common.files import atomic, read_json
from normct.common.registry import FUSED, label

FEWEST = 5
"""Scans on either side below which nothing is tested: with 4 against 4 no difference reaches p < 0.02."""
FEW = 20
ALPHA = 0.05
LARGE = (0.3, 0.7)
"""Chance of lying above beyond which a difference is called large."""
MEASURES = {
    "brain_volume_ml": "Brain volume, mL",
    "median_hu": "Median density of the brain, HU",
    "noise_hu": "Noise, HU",
    "slice_thickness_mm": "Slice thickness, mm",
    "n_slices": "Number of slices",
    "symmetry": "Symmetry of the brain mask",
    "overlap_share": "Overlap with the atlas",
    "mi": "Likeness to the atlas (mutual information)",
    "mi_peak": "Sharpness of the registration",
    "pitch_deg": "Pitch of the head, degrees",
    "vertex_in_view": "Top of the head in view",
    "base_in_view": "Base of the brain in view",
}
"""Quality measures compared, of ``quality.json``, with their readable names."""
COLUMNS = [
    *("kind", "name", "n_batch", "n_calibration", "median_batch", "median_calibration"),
    *("above", "p_value", "p_adjusted", "verdict", "sentence"),
]


@dataclass
class Comparison:
    """One measure or score of the batch against the calibration set.

    Attributes
    ----------
    kind : str
        ``quality`` or ``score``.
    name, title : str
        In the table; for people.
    batch, calibration : ndarray
        Values, shape (scans,).
    above : float
        Share of pairs in which the batch's scan has the higher value, ties half; NaN where nothing was tested.
    p, adjusted : float
        p-value of the test, alone and adjusted for the number of tests.
    """

    kind: str
    name: str
    title: str
    batch: np.ndarray
    calibration: np.ndarray
    above: float = float("nan")
    p: float = float("nan")
    adjusted: float = float("nan")

    @property
    def tested(self) -> bool:
        """Whether there were scans enough."""
        return min(len(self.batch), len(self.calibration)) >= FEWEST

    @property
    def verdict(self) -> str:
        """``differs``, ``differs slightly``, ``no difference found`` or ``too few scans``."""
        if not self.tested:
            return "too few scans"
        if not self.adjusted < ALPHA:
            return "no difference found"
        return "differs slightly" if LARGE[0] <= self.above <= LARGE[1] else "differs"

    @property
    def sentence(self) -> str:
        """What that means, in words."""
        n, m = len(self.batch), len(self.calibration)
        if not self.tested:
            return (
                f"{n} here and {m} in the calibration set: at least {FEWEST} of each are needed to compare."
            )
        medians = f"median {np.median(self.batch):.4g} here, {np.median(self.calibration):.4g} in the calibration set"
        chance = (
            f"a scan of this batch lies above one of the calibration set in {100 * self.above:.0f} % of pairs"
        )
        if self.verdict == "no difference found":
            small = "" if min(n, m) >= FEW else f"; with {n} and {m} scans only a large one would show"
            return f"No difference found ({medians}{small})."
        if 0.4 <= self.above <= 0.6:
            return f"The spread differs more than the level: {medians}; {chance}."
        return (
            f"{'Higher' if self.above > 0.5 else 'Lower'} than in the calibration set: {medians}; {chance}."
        )


def compare(comparisons: list[Comparison]) -> None:
    """Test each comparison and adjust all p-values together; in place."""
    from scipy.stats import false_discovery_control, ks_2samp, mannwhitneyu

    tested = [c for c in comparisons if c.tested]
    for c in tested:
        c.p = float(ks_2samp(c.batch, c.calibration).pvalue)
        c.above = float(mannwhitneyu(c.batch, c.calibration).statistic) / (len(c.batch) * len(c.calibration))
    if tested:
        for c, adjusted in zip(
            tested, false_discovery_control([c.p for c in tested], method="by"), strict=True
        ):
            c.adjusted = float(adjusted)


def collect(
    calibration: dict[str, Any], quality: list[dict[str, Any]], volumes: list[dict[str, Any]]
) -> list[Comparison]:
    """Return every comparison that both sides have values for.

    Parameters
    ----------
    calibration : dict
        ``calibration.json`` of the bundle.
    quality, volumes : list of dict
        ``quality.json`` and ``score/subjects/<subject>.json`` of the batch; scans set aside are skipped.
    """
    accepted = [record["measures"] for record in quality if record["verdict"] != "fail"]
    found = []
    for name, title in MEASURES.items():
        usual = calibration.get("quality", {}).get(name, [])
        batch = [float(m[name]) for m in accepted if isinstance(m.get(name), int | float)]
        if usual and batch:
            found.append(Comparison("quality", name, title, np.array(batch), np.array(usual)))
    scored = [{(v["method"], v["score"], v["seed"]): v["value"] for v in r["volumes"]} for r in volumes]
    for method, scores in calibration["healthy"].items():
        for score, seeds in scores.items():
            if score not in {"calibrated", FUSED}:
                continue
            seed = "all" if "all" in seeds else next(iter(seeds))
            batch = [s[method, score, seed] for s in scored if (method, score, seed) in s]
            if batch:
                title = f"Score: {label(method)}"
                usual = np.array(seeds[seed])
                found.append(Comparison("score", f"{method}/{score}", title, np.array(batch), usual))
    return [c for c in found if np.isfinite(c.batch).all() and np.isfinite(c.calibration).all()]


def headline(comparisons: list[Comparison], n_batch: int, n_calibration: int) -> list[str]:
    """Return what the page says first, in plain sentences."""
    quality = [c for c in comparisons if c.kind == "quality"]
    lines = [f"{n_batch} scans of this batch against {n_calibration} healthy calibration scans."]
    if not quality:
        lines.append(
            "This bundle carries no quality measures of its calibration set: make it anew to compare them."
        )
    elif not any(c.tested for c in quality):
        lines.append(f"Too few scans to compare: at least {FEWEST} on either side are needed.")
    elif differing := [c.title for c in quality if c.verdict.startswith("differs")]:
        lines.append(
            f"The scans themselves differ from the calibration set: {'; '.join(differing)}. Scores, percentiles and "
            "thresholds may not hold for them: recalibrate with healthy scans of this scanner and protocol."
        )
    else:
        lines.append("No difference of the scans from the calibration set was found.")
    if any(c.verdict.startswith("differs") for c in comparisons if c.kind == "score"):
        lines.append(
            "Scores differ from those of healthy scans. Of a batch with patients in it that is expected; of a batch "
            "of healthy scans it is drift."
        )
    if min(n_batch, n_calibration) < FEW:
        lines.append(f"With fewer than {FEW} scans on a side, finding no difference says little.")
    return lines


def write_table(path: Path, comparisons: list[Comparison]) -> None:
    """Write ``drift.csv``, a row a comparison; empty where nothing was tested."""

    def cell(value: float) -> str:
        return "" if np.isnan(value) else f"{value:.6g}"

    with atomic(path) as part, part.open("w", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(COLUMNS)
        for c in comparisons:
            medians = (float(np.median(c.batch)), float(np.median(c.calibration)))
            numbers = [cell(v) for v in (*medians, c.above, c.p, c.adjusted)]
            writer.writerow(
                [c.kind, c.name, len(c.batch), len(c.calibration), *numbers, c.verdict, c.sentence]
            )


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    from normct.score.drift_page import render

    arguments: argparse.ArgumentParser = parser(__doc__, "normct.score.drift")
    arguments.add_argument("page", type=Path, help="drift.html")
    arguments.add_argument("table", type=Path, help="drift.csv")
    arguments.add_argument("--calibration", type=Path, required=True, help="calibration.json of the bundle")
    arguments.add_argument(
        "--root", type=Path, required=True, help="folder with preprocess/ and score/subjects/"
    )
    arguments.add_argument("--subjects", nargs="*", default=[], help="participant IDs of the batch")
    arguments.add_argument("--title", default="New scans")
    args = arguments.parse_args(argv)
    calibration = read_json(args.calibration)
    quality = [read_json(args.root / "preprocess" / s / "quality.json") for s in args.subjects]
    volumes = [read_json(args.root / "score" / "subjects" / f"{s}.json") for s in args.subjects]
    comparisons = collect(calibration, quality, volumes)
    compare(comparisons)
    accepted = sum(record["verdict"] != "fail" for record in quality)
    lines = headline(comparisons, accepted, calibration["n_healthy"])
    write_table(args.table, comparisons)
    with atomic(args.page) as part:
        part.write_text(render(comparisons, lines, args.title, len(quality) - accepted), "utf-8")


if __name__ == "__main__":
    run(main)
