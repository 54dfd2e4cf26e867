"""Findings: connected regions above the threshold, measured and put in words."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from normct.common.volumes import Volume

MIDLINE_MM = 6.0


@dataclass(frozen=True)
class Finding:
    """One connected region of the anomaly map.

    Attributes
    ----------
    number : int
        1 is the strongest (largest sum of absolute difference times volume).
    kind : str
        ``hyperdense`` (denser than the healthy model expects) or ``hypodense``.
    volume_ml, mean, peak : float
        Volume; mean and peak signed difference, in HU where the HU window is fixed.
    side, level, depth : str
        Left, right or midline of the patient; lower, middle or upper, and front, middle or back third of
        the brain.
    voxel : list of int
        0-based index (i, j, k) in the original file of the peak.
    """

    number: int
    kind: str
    volume_ml: float
    mean: float
    peak: float
    side: str
    level: str
    depth: str
    voxel: list[int]

    @property
    def words(self) -> str:
        """The finding as a clinician reads it: "hyperdense, 12 mL, left, front, middle third"."""
        volume = f"{self.volume_ml:.0f}" if self.volume_ml >= 10 else f"{self.volume_ml:.1f}"
        depth = {"front": "front", "middle": "centre", "back": "back"}[self.depth]
        return f"{self.kind}, {volume} mL, {self.side}, {depth}, {self.level} third"

    def record(self) -> dict[str, Any]:
        """Return the finding as plain values, with its words."""
        return asdict(self) | {"words": self.words}


def _third(value: float, low: float, high: float, names: tuple[str, str, str]) -> str:
    return names[int(np.clip((value - low) / max(high - low, 1e-6) * 3, 0, 2))]


def brain_box(brain: NDArray[np.bool_], atlas_affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """Bounding box of the brain in atlas millimetres, shape (2, 3): the lowest and the highest corner.

    The registered brain's own extent, not fixed coordinates, cuts it into thirds: it holds for any atlas.
    """
    spans = [np.flatnonzero(brain.any(axis=axes)) for axes in ((0, 1), (0, 2), (1, 2))]
    corners = np.array([[s[0] for s in spans], [s[-1] for s in spans]], float)
    world = corners @ atlas_affine[:3, :3].T + atlas_affine[:3, 3]
    return np.array([world.min(axis=0), world.max(axis=0)])


def find(
    anomaly: Volume,
    brain: NDArray[np.bool_],
    *,
    threshold: float,
    min_ml: float,
    to_atlas: NDArray[np.float64],
    box: NDArray[np.float64],
) -> tuple[list[Finding], NDArray[np.uint8]]:
    """List connected regions (26 neighbours) above the threshold, hyper- and hypodense apart.

    Parameters
    ----------
    anomaly : Volume
        Signed difference on the original grid.
    brain : ndarray
        Boolean, same shape: where findings may lie.
    threshold : float
        Absolute difference a voxel must exceed.
    min_ml : float
        Smaller regions are left out of list and mask.
    to_atlas : ndarray
        Shape (4, 4): world point of the scan to world point of the atlas.
    box : ndarray
        From :func:`brain_box`.

    Returns
    -------
    findings : list of Finding
        Strongest first.
    mask : ndarray of uint8
        1 hyperdense, 2 hypodense, 0 elsewhere, on the original grid.
    """
    mask = np.zeros(anomaly.data.shape, np.uint8)
    found: list[tuple[float, dict[str, Any]]] = []
    middle = box.mean(axis=0)
    for code, kind, sign in ((1, "hyperdense", 1.0), (2, "hypodense", -1.0)):
        labels, _ = ndimage.label((anomaly.data * sign > threshold) & brain, np.ones((3, 3, 3)))
        for number, where in enumerate(ndimage.find_objects(labels), 1):
            inside = labels[where] == number
            ml = float(inside.sum()) * anomaly.voxel_ml
            if ml < min_ml:
                continue
            mask[where][inside] = code
            values = anomaly.data[where]
            start = np.array([s.start for s in where])
            peak = np.array(
                np.unravel_index(np.argmax(np.where(inside, values * sign, -np.inf)), inside.shape)
            )
            centre = np.append(np.argwhere(inside).mean(axis=0) + start, 1.0)
            x, y, z = (to_atlas @ anomaly.affine @ centre)[:3]
            off = x - middle[0]
            entry = {
                "kind": kind,
                "volume_ml": round(ml, 2),
                "mean": round(float(values[inside].mean()), 1),
                "peak": round(float(values[tuple(peak)]), 1),
                "side": "midline" if abs(off) < MIDLINE_MM else "right" if off > 0 else "left",
                "level": _third(z, box[0, 2], box[1, 2], ("lower", "middle", "upper")),
                "depth": _third(y, box[0, 1], box[1, 1], ("back", "middle", "front")),
                "voxel": [int(v) for v in peak + start],
            }
            found.append((float(np.abs(values[inside]).sum()) * anomaly.voxel_ml, entry))
    found.sort(key=lambda pair: -pair[0])
    return [Finding(number, **entry) for number, (_, entry) in enumerate(found, 1)], mask
