"""The drift page: one file that opens without network and runs no script."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

if TYPE_CHECKING:
    from normct.score.drift import Comparison

BATCH, CALIBRATION = "#D55E00", "#0072B2"


def figure(comparison: Comparison) -> str:
    """Return a strip of both sides' values as a PNG data URI: a dot a scan, a bar at the median."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    canvas = Figure(figsize=(3.4, 0.8), dpi=110, layout="constrained")
    FigureCanvasAgg(canvas)
    axes = canvas.add_subplot()
    sides = ((comparison.calibration, CALIBRATION, "o"), (comparison.batch, BATCH, "D"))
    for row, (values, colour, marker) in enumerate(sides):
        axes.plot(values, np.full(len(values), row), marker, color=colour, markersize=4, alpha=0.6)
        axes.plot([np.median(values)] * 2, [row - 0.35, row + 0.35], color=colour, linewidth=2)
    axes.set_yticks([0, 1], ["calibration", "batch"], fontsize=7)
    axes.set_ylim(-0.6, 1.6)
    axes.tick_params(axis="x", labelsize=7)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    buffer = io.BytesIO()
    # without the library's version in it the same values give the same bytes
    canvas.savefig(buffer, format="png", metadata={"Software": None})
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def render(comparisons: list[Comparison], headline: list[str], title: str, set_aside: int) -> str:
    """Return the page.

    Parameters
    ----------
    comparisons : list of Comparison
        Tested.
    headline : list of str
        Sentences on top.
    title : str
        Name of the batch.
    set_aside : int
        Scans that quality control set aside; they are in no comparison.
    """
    environment = Environment(
        loader=PackageLoader("normct.score"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    rows = [
        {
            "title": c.title,
            "verdict": c.verdict,
            "sentence": c.sentence,
            "p": f"{c.adjusted:.2g}" if c.tested else "–",
            "figure": figure(c),
            "kind": c.kind,
        }
        for c in comparisons
    ]
    return environment.get_template("drift.html.j2").render(
        title=title, headline=headline, rows=rows, set_aside=set_aside
    )
