"""Which part of the brain a point lies in, in a radiologist's words.

A proportional grid in the manner of Talairach and Tournoux (1988): the registered brain's width, length and
height are scaled to those of the MNI152 brain, where planes along the central, Sylvian and parieto-occipital
sulci part the lobes. Good to one or two centimetres: words to find the place by, no segmentation.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

MIDLINE_MM = 6.0
# extent of the MNI152 brain in mm: half its width, from back to front, and its top
HALF_WIDTH, BACK, FRONT, TOP = 72.0, -107.0, 73.0, 82.0


def brain_box(brain: NDArray[np.bool_], atlas_affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """Bounding box of the brain in atlas millimetres, shape (2, 3): the lowest and the highest corner.

    Parameters
    ----------
    brain : ndarray
        Shape (155, 240, 240), [z, y, x], on the atlas grid.
    atlas_affine : ndarray
        Shape (4, 4).
    """
    spans = [np.flatnonzero(brain.any(axis=axes)) for axes in ((0, 1), (0, 2), (1, 2))]
    corners = np.array([[s[0] for s in spans], [s[-1] for s in spans]], float)
    world = corners @ atlas_affine[:3, :3].T + atlas_affine[:3, 3]
    return np.array([world.min(axis=0), world.max(axis=0)])


def proportional(point: NDArray[np.float64], box: NDArray[np.float64]) -> tuple[float, float, float]:
    """Return the point (atlas mm) in MNI152 proportions; the height scales with width and length.

    The brain's own height is not used: the lowest slices are often not scanned.
    """
    low, high = box
    across = 2 * HALF_WIDTH / max(high[0] - low[0], 1e-6)
    along = (FRONT - BACK) / max(high[1] - low[1], 1e-6)
    x = (point[0] - (low[0] + high[0]) / 2) * across
    y = (point[1] - high[1]) * along + FRONT
    z = (point[2] - high[2]) * (across + along) / 2 + TOP
    return float(x), float(y), float(z)


def side(point: NDArray[np.float64], box: NDArray[np.float64]) -> str:
    """Return the patient's ``left`` or ``right``, or ``midline`` within 6 mm of the brain's middle."""
    off = point[0] - box[:, 0].mean()
    return "midline" if abs(off) < MIDLINE_MM else "right" if off > 0 else "left"


def lobe(x: float, y: float, z: float) -> str:
    """Return the part of the brain at MNI152 coordinates (mm)."""
    lateral = abs(x)
    if lateral < 16 and z < -12 and -42 < y < -8:
        return "brainstem"
    if y < -36 and z < (-12 if lateral < 15 else -20):
        return "cerebellum"
    if lateral < 36 and -34 < y < 22 and -8 < z < 24:
        return "deep"
    sylvian = -6 - 0.5 * y
    if lateral > 16 and -62 < y < 24 and z < min(sylvian, 16):
        return "temporal"
    if y < -62 - 0.6 * max(z - 5, 0):
        return "occipital"
    central = -5 - 0.6 * max(z - 20, 0)
    return "frontal" if y > central else "parietal"


def words(where: str, part: str) -> str:
    """Put side and part together: "left temporal", "midline, brainstem"."""
    if part == "deep":
        return f"{where}, deep (basal ganglia, thalamus, ventricles)"
    if part in {"brainstem", "cerebellum"}:
        return f"{where}, {part}"
    return f"{where} {part}"
