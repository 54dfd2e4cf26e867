"""When a scan is a stranger to the model: other than what it was trained on, or with something it never saw.

Compared with the ranges of the training scans (``trained_on`` of the statistical atlas, frozen in a bundle),
and looked for in the voxels: contrast agent, metal, a gap in the skull. Suspicions for a reader, no verdicts.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from normct.common.volumes import Volume, extent

CONTRAST_HU, CONTRAST_ML = (100.0, 400.0), 3.0
METAL_HU, METAL_ML = 2800.0, 0.03
BONE_HU, GAP_CM2, RAY_MM = 250.0, 8.0, 25.0
ANGLES = 120
ADULT = 18


def _known_range(name: str, value: Any, span: Any, *, unit: str, slack: float) -> str | None:
    low, high = span
    if low / slack <= float(value) <= high * slack:
        return None
    seen = f"{low:g}" if low == high else f"{low:g}–{high:g}"
    return f"{name} {float(value):g} {unit}: the model was trained on {seen} {unit}"


def acquisition_warnings(
    trained: dict[str, Any], measures: dict[str, Any], acquisition: dict[str, Any], person: dict[str, Any]
) -> tuple[list[str], list[str]]:
    """Compare a scan with those of the training.

    Parameters
    ----------
    trained : dict
        ``trained_on``; empty where the model does not say.
    measures : dict
        Of ``quality.json``.
    acquisition : dict
        Of ``import.json``.
    person : dict
        ``age`` and ``scanner`` of the participants table, None where not given.

    Returns
    -------
    warnings : list of str
    unchecked : list of str
        What could not be compared, because scan or training do not tell.
    """
    warnings, unchecked = [], []
    age = person.get("age")
    if age is not None and age < ADULT:
        warnings.append(f"age {age:g} years: the model knows adult brains only")
    checks = (
        ("age", "age", age, "years", 1.0),
        ("slice thickness", "slice_thickness_mm", measures.get("slice_thickness_mm"), "mm", 1.25),
        ("noise", "noise_hu", measures.get("noise_hu"), "HU", 1.5),
    )
    for name, key, value, unit, slack in checks:
        if value is None or not trained.get(key):
            unchecked.append(name)
        elif name == "age" and value < ADULT:
            continue  # said above
        elif said := _known_range(name, value, trained[key], unit=unit, slack=slack):
            warnings.append(said)
    scanner = person.get("scanner")
    mark = hashlib.sha256(scanner.strip().lower().encode()).hexdigest()[:8] if scanner else None
    for name, key, value, said in (
        ("kernel", "kernels", acquisition.get("kernel"), acquisition.get("kernel")),
        ("vendor", "vendors", acquisition.get("vendor"), acquisition.get("vendor")),
        ("scanner", "scanners", mark, "(by its name in the table)"),
    ):
        if not value or not trained.get(key):
            unchecked.append(name)
        elif value not in trained[key]:
            warnings.append(f"{name} {said}: not among those that the model was trained on")
    return warnings, unchecked


def side_warnings(record: dict[str, Any]) -> list[str]:
    """Return a warning where the import could not tell the patient's left from right.

    Parameters
    ----------
    record : dict
        ``import.json``; its ``repairs`` say so.
    """
    if any("left and right unsure" in text for text in record.get("repairs", [])):
        return [
            "left and right are unsure: the file does not say how the patient lay, so every side named "
            "here, and R and L of the pictures, may be the other"
        ]
    return []


def contrast_ml(hu: NDArray[np.float32], brain: NDArray[np.bool_], pixel_mm: float, spacing: float) -> float:
    """Return the volume (mL) denser than any unenhanced tissue but bone, deeper than 6 mm in the brain.

    Parameters
    ----------
    hu, brain : ndarray
        Shape (slices, height, width), square pixels.
    pixel_mm, spacing : float
        Pixel size and distance of the slices.
    """
    side = 2 * max(1, round(6 / pixel_mm)) + 1
    core = ndimage.minimum_filter(brain, (1, side, side), mode="constant", cval=0)
    dense = core & (hu > CONTRAST_HU[0]) & (hu < CONTRAST_HU[1])
    return float(dense.sum()) * pixel_mm**2 * spacing / 1000


def metal_ml(ct: Volume, brain: NDArray[np.uint8]) -> float:
    """Return the volume (mL) of metal within the brain's box and 15 mm around, on the scan's own grid."""
    box = extent(brain)
    if box is None:
        return 0.0
    edge = np.ceil(15 / ct.zooms).astype(int)
    where = tuple(slice(max(0, s.start - e), s.stop + e) for s, e in zip(box, edge, strict=True))
    return float((ct.data[where] >= METAL_HU).sum()) * ct.voxel_ml


def skull_gap_cm2(
    hu: NDArray[np.float32], brain: NDArray[np.bool_], pixel_mm: float, spacing: float
) -> float:
    """Return the largest area over the upper brain without bone outside of it.

    Rays from the middle of each slice's brain; a ray that meets no bone from just inside the brain's edge to
    25 mm beyond is a gap. The topmost 20 mm, where rays run along the bone, and the base are left out.

    Parameters
    ----------
    hu, brain, pixel_mm, spacing
        As :func:`contrast_ml`.
    """
    area = brain.sum(axis=(1, 2)) * pixel_mm**2 / 100
    present = np.flatnonzero(area > 20)
    if present.size < 3:
        return 0.0
    top, height = present[-1], (present[-1] - present[0]) * spacing
    chosen = [k for k in present if (top - k) * spacing >= 20 and (k - present[0]) * spacing > 0.45 * height]
    every = max(1, -(-len(chosen) // 40))
    angle = np.linspace(0, 2 * np.pi, ANGLES, endpoint=False)
    step = np.arange(0, 130, 1.0) / pixel_mm
    gaps, reach = [], []
    for k in chosen[::every]:
        rows, columns = np.nonzero(brain[k])
        y = rows.mean() + np.sin(angle)[:, None] * step
        x = columns.mean() + np.cos(angle)[:, None] * step
        inside = ndimage.map_coordinates(brain[k].astype(np.uint8), [y, x], order=0) > 0
        values = ndimage.map_coordinates(hu[k], [y, x], order=1, cval=-1024)
        edge = len(step) - 1 - np.argmax(inside[:, ::-1], axis=1)
        place = np.arange(len(step))[None]
        ring = (place >= edge[:, None] - 3) & (place <= edge[:, None] + RAY_MM)
        seen = np.where(ring, values, -1024).max(axis=1)
        # a ray that leaves the picture cannot tell
        far = np.minimum(edge + 15, len(step) - 1)[:, None]
        yf, xf = np.take_along_axis(y, far, 1)[:, 0], np.take_along_axis(x, far, 1)[:, 0]
        visible = (yf > 0) & (xf > 0) & (yf < hu.shape[1] - 1) & (xf < hu.shape[2] - 1)
        gaps.append((seen < BONE_HU) & visible & inside.any(axis=1))
        reach.append(edge)
    if not gaps:
        return 0.0
    # twice round, so that a gap across the first angle stays one
    labels, count = ndimage.label(np.tile(np.array(gaps), (1, 2)), np.ones((3, 3)))
    if not count:
        return 0.0
    cell = np.tile(np.array(reach), (1, 2)) * (2 * np.pi / ANGLES) * spacing * every / 100
    sizes = ndimage.sum_labels(cell, labels, np.arange(1, count + 1))
    return float(min(np.max(sizes), cell[:, :ANGLES].sum()))


def voxel_warnings(
    ct: Volume,
    mask: NDArray[np.uint8],
    hu: NDArray[np.float32],
    brain: NDArray[np.bool_],
    *,
    pixel_mm: float,
    spacing: float,
) -> list[str]:
    """Return what the voxels give reason to suspect.

    Parameters
    ----------
    ct, mask
        The scan and its brain mask on the scan's own grid.
    hu, brain, pixel_mm, spacing
        The viewer's slices, base to vertex.
    """
    warnings = []
    dense = contrast_ml(hu, brain, pixel_mm, spacing)
    if dense > CONTRAST_ML:
        warnings.append(
            f"contrast agent suspected, or much calcification: {dense:.0f} mL of the inner brain above "
            f"{CONTRAST_HU[0]:.0f} HU; the model knows unenhanced scans only"
        )
    if (metal := metal_ml(ct, mask)) > METAL_ML:
        warnings.append(f"metal suspected in or near the brain ({metal:.1f} mL): streaks may be marked")
    if (gap := skull_gap_cm2(hu, brain, pixel_mm, spacing)) > GAP_CM2:
        warnings.append(
            f"a gap in the skull of about {gap:.0f} cm² (surgery?): the brain's shape may be marked"
        )
    return warnings
