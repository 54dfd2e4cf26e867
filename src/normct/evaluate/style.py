"""How every figure looks, and how it is saved so that the same data give the same bytes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl

from normct.common.files import atomic
from normct.common.registry import FUSED, FUSED_COLOUR, METHODS, TRIVIAL

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RC: dict[Any, Any] = {
    "font.family": "DejaVu Sans",  # ships with matplotlib: no machine renders another one
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E5E5E5",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "svg.hashsalt": "normct",
    "svg.fonttype": "path",
    "figure.dpi": 100,
    "savefig.dpi": 160,
}

_DASHES = ("--", ":", "-.", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 3)))


def use() -> None:
    """Apply the style to this process, without a display."""
    mpl.use("Agg")
    mpl.rcParams.update(RC)


def line(method: str) -> dict[str, Any]:
    """Return line style of a method: networks solid, baselines thin and each with a dash of its own."""
    if method in METHODS:
        return {"color": METHODS[method].colour, "linewidth": 1.6, "linestyle": "-", "zorder": 3}
    if method == FUSED:
        return {"color": FUSED_COLOUR, "linewidth": 2.2, "linestyle": "-", "zorder": 4}
    names = list(TRIVIAL)
    dash = _DASHES[names.index(method) % len(_DASHES)] if method in TRIVIAL else "-"
    colour = TRIVIAL[method].colour if method in TRIVIAL else "#000000"
    return {"color": colour, "linewidth": 1.1, "linestyle": dash, "zorder": 2}


def save(figure: Figure, folder: str | Path, name: str) -> None:
    """Write ``name.png`` and ``name.svg``, no date and no version of the software in either."""
    import matplotlib.pyplot as plt

    for suffix, metadata in ((".png", {"Software": None}), (".svg", {"Date": None, "Creator": None})):
        with atomic(Path(folder) / f"{name}{suffix}") as part:
            figure.savefig(part, bbox_inches="tight", metadata=metadata)
    plt.close(figure)
