"""Where along the head a scan stands out: the score of each level beside the same level of healthy people.

A level is a slice of the atlas, 1 mm apart, which the scan's own slices may cross at an angle: what the score of a level
is about may lie two or three of the scan's slices above or below the level's middle. So each level points to the
scan's slice that shows its most unusual place.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from markupsafe import Markup
from numpy.typing import NDArray
from scipy import ndimage

from normct.common.slices import GRID, SIZE, SliceStore
from normct.handoff.viewer import Frame

PLACE_MM = 5.0
"""SD in mm over which a place's difference is averaged: scores of levels are smoothed along the head too."""
COLUMNS = ("z", "value", "rank", "n_healthy")
HIGH = 40
"""Height of the drawing."""

Level = dict[str, Any]
"""``z`` (slice of the atlas), ``score``, ``n_below`` of ``n_healthy`` people; once placed ``view`` (slice of the viewer,
from 0) and ``slice`` (of the file, from 1; of very many the viewer shows only some)."""


def read_levels(path: str | Path, method: str, name: str, seed: str) -> list[Level]:
    """Return score and place among healthy people of each usable slice of the atlas, base first.

    Parameters
    ----------
    path : str or Path
        ``score/subjects/<sub>.parquet``.
    method, name, seed : str
        Of the score, as the table has them.
    """
    wanted = [("method", "=", method), ("score", "=", name), ("seed", "=", seed), ("usable", "=", True)]
    table = pq.read_table(path, columns=list(COLUMNS), filters=wanted).sort_by("z")
    return [
        {
            "z": row["z"],
            "score": round(row["value"], 4),
            "n_below": row["rank"],
            "n_healthy": row["n_healthy"],
        }
        for row in table.to_pylist()
    ]


def unusual_places(store: SliceStore, difference: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the place in each slice of the atlas that differs most, in voxels (x, y, z) of the atlas.

    Parameters
    ----------
    store : SliceStore
    difference : ndarray
        Shape (brain pixels,), signed: the map that is drawn.

    Returns
    -------
    ndarray
        Shape (155, 3); NaN where no brain is.
    """
    strange = np.zeros(store.mask.shape, np.float32)
    strange[store.mask] = np.abs(difference)
    pixel_mm = GRID / SIZE
    strange = ndimage.gaussian_filter(
        strange, (PLACE_MM, PLACE_MM / pixel_mm, PLACE_MM / pixel_mm), truncate=3
    )
    flat = np.where(store.mask, strange, -1).reshape(len(strange), -1).argmax(axis=1)
    rows, columns = np.unravel_index(flat, store.mask.shape[1:])
    places = np.stack(
        [(columns + 0.5) * pixel_mm - 0.5, (rows + 0.5) * pixel_mm - 0.5, np.arange(len(flat))], 1
    )
    places[~store.mask.reshape(len(places), -1).any(axis=1)] = np.nan
    return places


def place_levels(
    levels: Sequence[Level], places: NDArray[np.float64], to_view: NDArray[np.float64], view: Frame
) -> list[Level]:
    """Return the levels with ``view`` and ``slice``, where the level's most unusual place is seen.

    Parameters
    ----------
    levels : sequence
        Of :func:`read_levels`.
    places : ndarray
        Of :func:`unusual_places`.
    to_view : ndarray
        Shape (4, 4), voxels (x, y, z) of the atlas to (column, row, slice) of the viewer.
    view : Frame
        Slices of the viewer.
    """
    along = places @ to_view[2, :3] + to_view[2, 3]
    placed = []
    for level in levels:
        at = along[level["z"]]
        if np.isfinite(at):
            shown = int(np.clip(np.rint(at), 0, len(view.slices) - 1))
            position = int(np.clip(np.rint(view.slices[0] + at * view.every), 0, view.depth - 1))
            placed.append(level | {"view": shown, "slice": view.number(position)})
    return placed


def most_healthy(levels: Sequence[Level]) -> int:
    """Return the largest number of healthy people that a level is compared with; 0 where none is."""
    return max((level["n_healthy"] for level in levels), default=0)


def above_all(level: Level, most: int) -> bool:
    """Return whether a level scores higher than the same level of every healthy person.

    At base and vertex few healthy people have a level; being above one or two says little, so that levels with less than
    half of the ``most`` people (:func:`most_healthy`) are never said to be above all.
    """
    return most > 0 and bool(level["n_healthy"] == level["n_below"]) and 2 * level["n_healthy"] >= most


def high_slices(levels: Sequence[Level], per_level: int = 1) -> str | None:
    """Return the slices that levels above everybody's point to, as "12 to 18, 25"; None where there is none.

    Parameters
    ----------
    levels : sequence
        Of :func:`place_levels`.
    per_level : int
        Slices of the file from one level to the next: so far apart they are one span still.
    """
    most = most_healthy(levels)
    spans: list[list[int]] = []
    for number in sorted({level["slice"] for level in levels if above_all(level, most)}):
        if spans and number <= spans[-1][1] + max(1, per_level):
            spans[-1][1] = number
        else:
            spans.append([number, number])
    return ", ".join(str(a) if a == b else f"{a} to {b}" for a, b in spans) or None


def strip_svg(levels: Sequence[Level]) -> Markup:
    """Draw a bar a level, base on the left: as high as the share of healthy people who score lower there."""
    width, most = 1000 / max(len(levels), 1), most_healthy(levels)
    bars = []
    for n, level in enumerate(levels):
        x = round(n * width, 2)
        if level["n_healthy"]:
            high = round(3 + (HIGH - 3) * level["n_below"] / level["n_healthy"], 1)
            kind = "all" if above_all(level, most) else "some"
            bars.append(
                f'<rect class="{kind}" x="{x}" y="{round(HIGH - high, 1)}" width="{round(width, 2)}" height="{high}"/>'
            )
        # the whole column takes the click
        bars.append(
            f'<rect class="column" data-view="{level["view"]}" x="{x}" y="0" width="{round(width, 2)}" height="{HIGH}"/>'
        )
    return Markup(  # numbers and fixed words only  # noqa: S704
        f'<svg id="levels" viewBox="0 0 1000 {HIGH}" preserveAspectRatio="none" aria-hidden="true">'
        f"{''.join(bars)}</svg>"
    )
