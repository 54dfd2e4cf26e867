"""Where a subject's head lies in the scanner, and how its shape differs from the template's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation

from normct.phantom.fields import Array
from normct.phantom.template import ORIGIN, Template

CENTRE = np.array([0.0, -6.0, 0.0])
"""MNI point that comes to the scanner's axis."""

STEP = 6.0
LOW, HIGH = np.array([-138.0, -144.0, -192.0]), np.array([138.0, 144.0, 150.0])

# spacing of control points and standard deviation of the displacement, in mm: lobes, then gyri
SCALES = ((42.0, 1.9), (17.0, 0.8))
# standard deviation of a cubic B-spline with unit control values, mean over positions
SPLINE_SD = 0.34


@dataclass(frozen=True)
class Warp:
    """The map from scanner to template.

    Attributes
    ----------
    pose : ndarray
        Shape (4, 4): RAS+ point of the subject's head to that of the scanner (before the table's offset).
    scale : ndarray
        Shape (3,): the head's size over the template's along x, y, z.
    controls : tuple of ndarray
        One displacement grid a scale of :data:`SCALES`, shape (3, a, b, c) in mm.
    """

    pose: NDArray[np.float64]
    scale: NDArray[np.float64]
    controls: tuple[Array, ...]

    def template_points(self, points: NDArray[np.floating]) -> NDArray[np.float64]:
        """Map scanner points, shape (3, ...), to MNI points of the template."""
        flat = np.asarray(points, float).reshape(3, -1)
        inverse = np.linalg.inv(self.pose)
        head = inverse[:3, :3] @ flat + inverse[:3, 3:]
        result = CENTRE[:, None] + (head - CENTRE[:, None]) / self.scale[:, None]
        for (spacing, _), control in zip(SCALES, self.controls, strict=True):
            index = (head + 200.0) / spacing
            for axis in range(3):
                result[axis] += ndimage.map_coordinates(
                    control[axis], index, order=3, prefilter=False, mode="nearest"
                )
        return result.reshape(points.shape)


def draw_warp(
    anatomy: np.random.Generator, posing: np.random.Generator, sex: str, pose: Mapping[str, float]
) -> Warp:
    """Draw size and shape from ``anatomy``, the pose from ``posing``: one can vary while the other is fixed.

    Parameters
    ----------
    anatomy, posing : numpy.random.Generator
    sex : str
        F or M: men's heads are larger by 2 % in length.
    pose : mapping
        ``pitch_deg``, ``roll_deg``, ``yaw_deg``, ``shift_mm``: largest values.
    """
    # the ICBM 152 brain is larger than most: its mask holds 1.89 L
    size = (0.965 if sex == "M" else 0.945) * np.exp(anatomy.normal(0, 0.016))
    scale = size * np.exp(anatomy.normal(0, 0.018, 3))
    controls = tuple(
        (anatomy.standard_normal((3, *(int(400 / s) + 3,) * 3)) * sd / SPLINE_SD).astype(np.float32)
        for s, sd in SCALES
    )
    limits = [pose["pitch_deg"], pose["roll_deg"], pose["yaw_deg"]]
    rotation = Rotation.from_euler("xyz", posing.uniform(-1, 1, 3) * limits, degrees=True).as_matrix()
    matrix = np.eye(4)
    matrix[:3, :3] = rotation
    matrix[:3, 3] = posing.uniform(-1, 1, 3) * pose["shift_mm"] - rotation @ CENTRE
    return Warp(matrix, np.clip(scale, 0.89, 1.03), controls)


def best_rigid(source: NDArray[np.float64], target: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the (4, 4) rigid matrix that brings ``source`` to ``target``, both (n, 3), in least squares.

    Kabsch 1976. Of a head whose shape differs from the template's this *is* the true pose: the best that any
    rigid registration could find.
    """
    a, b = source.mean(axis=0), target.mean(axis=0)
    u, _, vt = np.linalg.svd((source - a).T @ (target - b))
    turn = vt.T @ np.diag([1, 1, np.linalg.det(vt.T @ u.T)]) @ u.T
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = turn, b - turn @ a
    return matrix


@dataclass(frozen=True)
class Lattice:
    """The warp on a 6 mm grid of the scanner, and what it says about the head's place.

    Attributes
    ----------
    points : ndarray
        Shape (3, a, b, c): MNI points of the grid whose first corner is :data:`LOW`.
    rigid : ndarray
        Shape (4, 4): best rigid fit over the brain, MNI point to scanner point.
    residual_mm : float
        Root mean square distance that the rigid fit leaves.
    top, brain_low, back : float
        Highest and lowest z of vault and brain, lowest y of the head, in scanner mm.
    """

    points: NDArray[np.float64]
    rigid: NDArray[np.float64]
    residual_mm: float
    top: float
    brain_low: float
    back: float


def lattice(warp: Warp, base: Template, skin: Array) -> Lattice:
    """Evaluate a warp on the lattice; ``skin`` is the 2 mm field of the distance to the skin."""
    grid = np.stack(
        np.meshgrid(
            *(np.arange(a, b + STEP / 2, STEP) for a, b in zip(LOW, HIGH, strict=True)), indexing="ij"
        )
    )
    points = warp.template_points(grid)
    index = (points - ORIGIN[:, None, None, None]) / 2
    far = {"order": 1, "mode": "constant", "cval": 99.0}
    brain = ndimage.map_coordinates(base.gap, index, **far) < 0.5
    inside = ndimage.map_coordinates(skin, index, **far) < 0
    vault = inside & (ndimage.map_coordinates(base.hull, index, **far) < 25)
    rigid = best_rigid(points[:, brain].T, grid[:, brain].T)
    rest = rigid[:3, :3] @ points[:, brain] + rigid[:3, 3:] - grid[:, brain]
    return Lattice(
        points,
        rigid,
        float(np.sqrt((rest**2).sum(axis=0).mean())),
        float(grid[2][vault].max()),
        float(grid[2][brain].min()),
        float(grid[1][vault].min()),
    )
