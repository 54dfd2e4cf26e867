"""Findings: connected regions above the threshold, measured, placed and put in words."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from normct.common.volumes import Volume, extent
from normct.handoff import regions

RIM_MM = 4.0
"""Depth below the brain's surface to which bone's partial volume reaches at 1-5 mm slices."""
DEEP = 200
"""Squared distance (mm²) of all that is deeper than the rim: above 25, and room for 25 more in a byte."""


@dataclass(frozen=True)
class Finding:
    """One connected region of the anomaly map.

    Attributes
    ----------
    number : int
        1 is the first of the list: those that reach below the rim first, then by the sum of the absolute
        difference over the volume.
    kind : str
        ``hyperdense`` (denser than the healthy model expects) or ``hypodense``.
    volume_ml, mean, peak : float
        Volume; mean and peak signed difference, in SD of healthy scans or the residual's unit.
    peak_hu : int or None
        HU of the scan itself that a hundredth of the region's voxels exceeds (hypodense: lies below): its highest
        (lowest) value, but for single noisy voxels of a large region. None where intensities are not HU.
    side, region : str
        Left, right or midline of the patient; part of the brain (:mod:`normct.handoff.regions`).
    rim : bool
        Whether it keeps to the outermost 4 mm of the brain, where bone's partial volume lies; a thin
        subdural looks the same.
    voxel : list of int
        0-based index (i, j, k) in the original file of the peak.
    box : list of list of int
        First and last index along each axis of the file.
    """

    number: int
    kind: str
    volume_ml: float
    mean: float
    peak: float
    peak_hu: int | None
    side: str
    region: str
    rim: bool
    voxel: list[int]
    box: list[list[int]]

    @property
    def words(self) -> str:
        """The finding as a clinician reads it: "hyperdense, 12 mL, left temporal"."""
        volume = f"{self.volume_ml:.0f}" if self.volume_ml >= 10 else f"{self.volume_ml:.1f}"
        rim = ", at the brain's rim" if self.rim else ""
        return f"{self.kind}, {volume} mL, {regions.words(self.side, self.region)}{rim}"

    def record(self) -> dict[str, Any]:
        """Return the finding as plain values, with its words."""
        return asdict(self) | {"words": self.words}


def depth_map(brain: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return the distance in mm to the brain's surface, shape and order of ``brain`` (1 mm); 0 outside.

    Exact up to 5 mm, more than that anywhere deeper: no more is asked. The squared distance is the sum of those
    along the axes (Saito and Toriwaki, Pattern Recognition 27:1551, 1994), a twentieth of the cost of all distances.
    """
    depth = np.zeros(brain.shape, np.float32)
    box = extent(brain)
    if box:
        # a border of background: the brain's box touches its surface on every side
        square = np.where(np.pad(brain[box], 1), np.uint8(DEEP), np.uint8(0))
        for axis in range(3):
            before = np.moveaxis(square, axis, 0)
            nearest = before.copy()
            for step in range(1, int(RIM_MM) + 2):
                far = np.uint8(step**2)
                nearest[step:] = np.minimum(nearest[step:], before[:-step] + far)
                nearest[:-step] = np.minimum(nearest[:-step], before[step:] + far)
            square = np.moveaxis(nearest, 0, axis)
        depth[box] = np.sqrt(square[1:-1, 1:-1, 1:-1], dtype=np.float32)
    return depth


def _connected(mask: NDArray[np.bool_]) -> Iterator[tuple[tuple[slice, ...], NDArray[np.bool_]]]:
    """Yield the box of each connected region (26 neighbours), and which of the box's voxels are its own."""
    # backwards, as the file lies in memory
    labels, _ = ndimage.label(mask.T, np.ones((3, 3, 3)))
    for number, backwards in enumerate(ndimage.find_objects(labels), 1):
        yield backwards[::-1], number == labels[backwards].T


def _regions(
    over: NDArray[np.bool_], values: NDArray[np.float32]
) -> Iterator[tuple[tuple[slice, ...], NDArray[np.bool_], bool]]:
    """Yield box and voxels of each region of one sign, and whether that is positive.

    Both signs are looked for at once, which takes half as long; where they touch, each is taken apart.
    """
    for where, inside in _connected(over):
        dense = values[where] > 0
        kinds = [kind for kind in (True, False) if (inside & (dense == kind)).any()]
        if len(kinds) == 1:
            yield where, inside, kinds[0]
            continue
        for kind in kinds:
            for part, own in _connected(inside & (dense == kind)):
                placed = (
                    slice(p.start + w.start, p.stop + w.start) for p, w in zip(part, where, strict=True)
                )
                yield tuple(placed), own, kind


def _peak_hu(hu: NDArray, dense: bool) -> int:
    """Return the 99th percentile of a region's HU, the 1st of a hypodense one; of up to fifty voxels the extreme."""
    place = round((0.99 if dense else 0.01) * (len(hu) - 1))
    return round(float(np.partition(hu, place)[place]))


def find(
    anomaly: Volume,
    brain: NDArray[np.bool_],
    *,
    hu: NDArray | None,
    threshold: float,
    min_ml: float,
    to_atlas: NDArray[np.float64],
    box: NDArray[np.float64],
    depth: Volume,
) -> tuple[list[Finding], NDArray[np.uint8]]:
    """List connected regions (26 neighbours) above the threshold, hyper- and hypodense apart.

    Parameters
    ----------
    anomaly : Volume
        Signed difference on the original grid.
    brain : ndarray
        Boolean, same shape: where findings may lie.
    hu : ndarray or None
        The scan itself, same shape; None where its intensities are not HU.
    threshold : float
        Absolute difference a voxel must exceed.
    min_ml : float
        Smaller regions are left out of list and mask.
    to_atlas : ndarray
        Shape (4, 4): world point of the scan to world point of the atlas.
    box : ndarray
        From :func:`normct.handoff.regions.brain_box`.
    depth : Volume
        Distance to the brain's surface in mm on the atlas grid, (x, y, z).

    Returns
    -------
    findings : list of Finding
        In the order of their numbers.
    mask : ndarray of uint8
        1 hyperdense, 2 hypodense, 0 elsewhere, on the original grid.
    """
    mask = np.zeros(anomaly.data.shape, np.uint8, order="F")
    found: list[tuple[tuple[bool, float], dict[str, Any]]] = []
    to_index = np.linalg.inv(depth.affine) @ to_atlas @ anomaly.affine
    spans = extent(brain)
    if spans is None:
        return [], mask
    origin = np.array([s.start for s in spans])
    values_in, brain_in, mask_in = anomaly.data[spans], brain[spans], mask[spans]
    hu_in = None if hu is None else hu[spans]
    over = (np.abs(values_in) > threshold) & brain_in
    for where, inside, dense in _regions(over, values_in):
        ml = float(inside.sum()) * anomaly.voxel_ml
        if ml < min_ml:
            continue
        code, kind, sign = (1, "hyperdense", 1.0) if dense else (2, "hypodense", -1.0)
        mask_in[where][inside] = code
        values = values_in[where]
        start = np.array([s.start for s in where]) + origin
        top = np.argmax(np.where(inside, values * sign, -np.inf))
        peak = np.array(np.unravel_index(top, inside.shape))
        voxels = np.argwhere(inside) + start
        centre = (to_atlas @ anomaly.affine @ np.append(voxels.mean(axis=0), 1.0))[:3]
        index = np.rint(voxels @ to_index[:3, :3].T + to_index[:3, 3]).astype(int)
        index = np.clip(index, 0, np.array(depth.data.shape) - 1)
        deep = float((depth.data[tuple(index.T)] > RIM_MM).sum()) * anomaly.voxel_ml
        rim = deep < max(min_ml, 0.1 * ml)
        entry = {
            "kind": kind,
            "volume_ml": round(ml, 2),
            "mean": round(float(values[inside].mean()), 1),
            "peak": round(float(values[tuple(peak)]), 1),
            "peak_hu": None if hu_in is None else _peak_hu(hu_in[where][inside], dense),
            "side": regions.side(centre, box),
            "region": regions.lobe(*regions.proportional(centre, box)),
            "rim": rim,
            "voxel": [int(v) for v in peak + start],
            "box": [[int(v) for v in voxels.min(axis=0)], [int(v) for v in voxels.max(axis=0)]],
        }
        found.append(((rim, -float(np.abs(values[inside]).sum()) * anomaly.voxel_ml), entry))
    found.sort(key=lambda pair: pair[0])
    return [Finding(number, **entry) for number, (_, entry) in enumerate(found, 1)], mask
