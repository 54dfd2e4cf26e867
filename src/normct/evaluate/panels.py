"""Figures 6.3 and 6.4: a sample of each pathology with its truth, every method's residual, and the calibrated map."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from numpy.typing import NDArray

from normct.common.registry import FUSED, METHODS, label
from normct.common.slices import GRID, SliceStore, read_slices
from normct.evaluate.data import ordered_pathologies
from normct.evaluate.residuals import ATLAS_KEY, enlarge, read_maps, split_key

ROWS = 4  # samples a figure: more would be too small to read
CALIBRATED_KEYS = (FUSED, ATLAS_KEY)
"""Maps whose z is shown, the first that there is: what the hand-off draws by default."""
Z_LIMIT = 8.0
"""SD drawn at full colour."""
DENSER, LESS_DENSE = "#FF961E", "#3CAAFF"
"""The hand-off's colours, told apart by the colour-blind."""
Z_COLOURS = LinearSegmentedColormap.from_list("denser", [LESS_DENSE, "#000000", DENSER])


@dataclass(frozen=True)
class Sample:
    """One slice on the 1 mm grid, rows from back to front, columns from the patient's left to right.

    Attributes
    ----------
    image, brain, lesion : ndarray
        Shape (240, 240); image in [0, 1].
    residuals : dict
        Map key → |residual|, shape (240, 240).
    scales : dict
        Map key → value that is drawn at full brightness: the 99.5th percentile over this scan's brain, so
        that
        one bright pixel does not hide the rest.
    z_name : str
        Map of :data:`CALIBRATED_KEYS` that is shown; empty where there is none.
    z_map : ndarray
        Shape (240, 240), signed, in SD of healthy scans.
    threshold : float
        Calibrated threshold of |z|.
    """

    participant_id: str
    pathology: str
    z: int
    image: NDArray[np.float32]
    brain: NDArray[np.bool_]
    lesion: NDArray[np.bool_]
    residuals: dict[str, NDArray[np.float32]]
    scales: dict[str, float]
    z_name: str = ""
    z_map: NDArray[np.float32] = field(default_factory=lambda: np.zeros((GRID, GRID), np.float32))
    threshold: float = np.inf


def radiological(image: NDArray) -> NDArray:
    """Turn ``[y, x]`` (back to front, left to right): anterior up, the patient's right on the left."""
    return image[::-1, ::-1]


def representative(units: pd.DataFrame) -> list[str]:
    """Return one scan a pathology: the one of median lesion volume, the fairest single sample.

    Scans without a marked lesion in a usable slice are passed over. Ties go to the first ID.

    Parameters
    ----------
    units : DataFrame
        Of :class:`normct.evaluate.data.Scores` of slices.
    """
    if not len(units):
        return []
    chosen = []
    marked = units[(units["group"] == "abnormal") & units["has_lesion_mask"] & units["usable"]]
    for pathology in ordered_pathologies(marked["pathology"]):
        part = marked[marked["pathology"] == pathology]
        total = part.groupby("participant_id", observed=True)["lesion_pixels"].sum()
        sizes = sorted((int(size), str(sub)) for sub, size in total.items() if size)
        if sizes:
            chosen.append(sizes[(len(sizes) - 1) // 2][1])
    return chosen


def _calibrated(path: Path, store: SliceStore, z: int) -> tuple[str, NDArray[np.float32]]:
    """Return name and slice of the z map to show."""
    slices = {key: values[z] for key, values in read_maps(path, store) if key in CALIBRATED_KEYS}
    name = next((key for key in CALIBRATED_KEYS if key in slices), "")
    shown = slices.get(name, np.zeros(store.mask.shape[1:], np.float32))
    return name, enlarge(shown[None])[0] * store.brain[z]


def take_sample(
    participant_id: str,
    pathology: str,
    maps: str | Path,
    preprocess: str | Path,
    z_maps: str | Path,
    thresholds: dict[str, float],
) -> Sample:
    """Return the slice with the largest lesion area, with the residuals of each method's first seed.

    Parameters
    ----------
    participant_id, pathology : str
    maps, preprocess, z_maps : str or Path
        Folders ``R/score/maps``, ``R/preprocess`` and ``R/score/calibrated``.
    thresholds : dict
        Calibrated threshold of each z map.
    """
    store = read_slices(Path(preprocess) / participant_id / "slices.npz")
    z = int(np.argmax((store.lesion & store.usable[:, None, None]).sum(axis=(1, 2))))
    residuals, scales = {}, {}
    first: dict[str, int] = {}
    for key, residual in read_maps(Path(maps) / f"{participant_id}.npz", store):
        method, seed = split_key(key)
        number = int(seed) if seed.isdigit() else -1
        if (method in METHODS or key == ATLAS_KEY) and number <= first.get(method, number):
            first[method] = number
            residuals[method] = np.abs(enlarge(residual[z][None])[0]) * store.brain[z]
            scales[method] = float(np.percentile(np.abs(residual[store.mask]), 99.5)) or 1.0
    z_name, z_map = _calibrated(Path(z_maps) / f"{participant_id}.npz", store, z)
    return Sample(
        participant_id,
        pathology,
        z,
        enlarge(store.image[z].astype(np.float32)[None])[0],
        store.brain[z],
        store.lesion[z],
        residuals,
        scales,
        z_name,
        z_map,
        thresholds.get(z_name, np.inf),
    )


def _frame(samples: list[Sample]) -> tuple[slice, slice]:
    """The smallest window that holds every brain shown, with a margin."""
    union = radiological(np.any([s.brain for s in samples], axis=0))
    rows, columns = np.flatnonzero(union.any(axis=1)), np.flatnonzero(union.any(axis=0))
    return (
        slice(max(rows[0] - 8, 0), min(rows[-1] + 9, union.shape[0])),
        slice(max(columns[0] - 14, 0), min(columns[-1] + 15, union.shape[1])),
    )


def _draw_calibrated(where: tuple[Axes, Axes], sample: Sample, window: tuple[slice, slice]) -> None:
    """Draw the z map, and on the image what of it passes the threshold; the lesion outlined on the first."""
    image, lesion, z = (radiological(a)[window] for a in (sample.image, sample.lesion, sample.z_map))
    where[0].imshow(z, cmap=Z_COLOURS, vmin=-Z_LIMIT, vmax=Z_LIMIT, interpolation="nearest")
    where[0].contour(lesion, levels=[0.5], colors=["#FFFFFF"], linewidths=0.6)
    where[1].imshow(image, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    for marked, colour in ((z > sample.threshold, DENSER), (z < -sample.threshold, LESS_DENSE)):
        if marked.any():
            where[1].contourf(marked, levels=[0.5, 1.5], colors=[colour], alpha=0.6)


def panel_figure(samples: list[Sample]) -> Figure:
    """Draw samples as rows; radiological convention.

    Input, ground truth, |residual| of each method, then the calibrated map and the mask it gives.
    """
    methods = [m for m in [*METHODS, ATLAS_KEY] if any(m in s.residuals for s in samples)]
    window = _frame(samples)
    calibrated = any(s.z_name for s in samples)
    columns = 2 + len(methods) + 2 * calibrated
    height, width = window[0].stop - window[0].start, window[1].stop - window[1].start
    figure, grid = plt.subplots(
        len(samples),
        columns,
        squeeze=False,
        layout="constrained",
        figsize=(1.55 * columns, 1.55 * height / width * len(samples) + 0.75),
    )
    shown = None
    for row, sample in enumerate(samples):
        image, lesion = radiological(sample.image)[window], radiological(sample.lesion)[window]
        for axes in grid[row]:
            axes.set(xticks=[], yticks=[])
            axes.grid(visible=False)
            for spine in axes.spines.values():
                spine.set_visible(False)
        grid[row, 0].imshow(image, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        grid[row, 1].imshow(image, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        overlay = np.ma.masked_where(~lesion, lesion)
        grid[row, 1].imshow(overlay, cmap="autumn", vmin=0, vmax=1, alpha=0.35, interpolation="nearest")
        grid[row, 1].contour(lesion, levels=[0.5], colors=["#FFD400"], linewidths=0.9)
        for column, method in enumerate(methods, start=2):
            axes = grid[row, column]
            if method not in sample.residuals:
                axes.text(0.5, 0.5, "no map", ha="center", va="center", transform=axes.transAxes)
                continue
            relative = radiological(sample.residuals[method])[window] / sample.scales[method]
            shown = axes.imshow(relative, cmap="inferno", vmin=0, vmax=1, interpolation="nearest")
            axes.contour(lesion, levels=[0.5], colors=["#00E5FF"], linewidths=0.6)
        if sample.z_name:
            _draw_calibrated((grid[row, -2], grid[row, -1]), sample, window)
        mark = {"color": "white", "fontsize": 7, "va": "center", "transform": grid[row, 0].transAxes}
        grid[row, 0].text(0.02, 0.5, "R", ha="left", **mark)
        grid[row, 0].text(0.98, 0.5, "L", ha="right", **mark)
        grid[row, 0].set_ylabel(
            f"{label(sample.pathology)}\n{sample.participant_id}, slice {sample.z}".replace(" (", "\n("),
            fontsize=7,
        )
    names = ["Input", "Ground truth", *(label(m) for m in methods)]
    if calibrated:
        z_label = label(next(s.z_name for s in samples if s.z_name))
        names += [f"{z_label},\ncalibrated ±{Z_LIMIT:g} SD", f"{z_label},\nmask"]
    for axes, name in zip(grid[0], names, strict=True):
        axes.set_title(name.replace(" with ", "\nwith "), fontsize=8)
    if shown is not None:
        bar = figure.colorbar(shown, ax=grid, location="bottom", shrink=0.35, aspect=45, pad=0.01)
        bar.set_label("|residual|, relative to the 99.5th percentile of the scan's brain", fontsize=7)
        bar.ax.tick_params(labelsize=7)
    return figure


def note_figure(text: str) -> Figure:
    """Draw a sentence in place of a figure that has nothing to show."""
    figure, axes = plt.subplots(figsize=(7, 1.2))
    axes.axis("off")
    axes.text(0.5, 0.5, text, ha="center", va="center")
    return figure
