"""The scanner: slices of finite thickness, kernel, noise, head holder, and the grid it writes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from normct.common.volumes import Volume
from normct.phantom.fields import Array, gaussian_matrix, linear_matrix
from normct.phantom.template import ORIGIN
from normct.phantom.warp import LOW, STEP, Lattice


@dataclass(frozen=True)
class Scanner:
    """A synthetic scanner.

    Attributes
    ----------
    pixel_mm, matrix
        In-plane grid.
    kernel_mm, grain_mm : float
        Standard deviation of the blur, and of the noise's grain.
    padding : int
        HU outside the round field of view, or air when it is -1000.
    holder : float
        Radius of the head holder in mm.
    """

    pixel_mm: float
    matrix: int
    kernel_mm: float
    grain_mm: float
    padding: int
    holder: float


SCANNERS: dict[str, Scanner] = {
    "synthetic-A": Scanner(0.488, 512, 0.50, 0.45, -1000, 112.0),
    "synthetic-B": Scanner(0.473, 512, 0.62, 0.60, -1024, 106.0),
    "synthetic-C": Scanner(0.550, 448, 0.55, 0.50, -1000, 118.0),
}


@dataclass(frozen=True)
class Acquisition:
    """What differs between two scans on one scanner: thickness in mm, noise in HU, coverage in mm."""

    thickness: float
    noise: float
    above: float
    below: float
    table: float


def draw_acquisition(
    rng: np.random.Generator, thickness: tuple[float, float], noise: tuple[float, float]
) -> Acquisition:
    """Draw an acquisition; thickness in steps of 0.25 mm where the range allows, as scanners offer."""
    drawn = rng.uniform(*thickness)
    stepped = round(drawn * 4) / 4
    return Acquisition(
        thickness=stepped if thickness[0] <= stepped <= thickness[1] else float(drawn),
        noise=float(rng.uniform(*noise)),
        above=float(rng.uniform(4, 14)),
        below=float(rng.uniform(6, 34)),
        table=float(np.round(rng.uniform(-250, 250), 1)),
    )


def _holder(plane: Array, x: Array, y: Array, scanner: Scanner, back: float) -> None:
    """Paint the head holder, a shell with a foam pad, where there is air."""
    gap, wall = 9.0, 3.0
    radius = np.sqrt(x**2 + (y - (back + scanner.holder - gap)) ** 2)
    below = y < back + 0.62 * scanner.holder
    air = plane < -700
    plane[air & below & (radius < scanner.holder) & (radius > scanner.holder - gap + 2)] = -940.0
    plane[air & below & (np.abs(radius - scanner.holder - wall / 2) < wall / 2)] = 130.0


def _sample(source: Array, index: NDArray, fill: float) -> Array:
    return ndimage.map_coordinates(
        source, index, order=1, mode="constant", cval=fill, prefilter=False, output=np.float32
    )


def scan(
    hu: Array,
    lesion: NDArray[np.bool_] | None,
    grid: Lattice,
    scanner: Scanner,
    *,
    taken: Acquisition,
    rng: np.random.Generator,
) -> tuple[Volume, Volume]:
    """Scan a head.

    Parameters
    ----------
    hu : ndarray
        Head grid, HU.
    lesion : ndarray or None
        Head grid.
    grid : Lattice
        Pose and shape.
    scanner, taken
        How it is scanned.
    rng : numpy.random.Generator
        Of the noise.

    Returns
    -------
    ct, lesion : Volume
        int16 HU and uint8 0/1 on the scan's grid; the first axis runs right to left, as converters write it.
        A voxel is lesion when at least half of it is, or half of the fullest voxel where none is.
    """
    n, pixel, half = scanner.matrix, scanner.pixel_mm, scanner.matrix // 2
    samples = max(1, round(taken.thickness / 1.1))
    start = grid.brain_low - taken.below
    slices = int(np.ceil((grid.top + taken.above - start) / taken.thickness))
    middle = (np.arange(half) - (half - 1) / 2) * 2 * pixel
    up = linear_matrix(half, (np.arange(n) - 0.5) / 2)
    blur = gaussian_matrix(n, np.sqrt(max(scanner.kernel_mm**2, 0.01)) / pixel) @ up
    grain = gaussian_matrix(n, scanner.grain_mm / pixel)
    grain /= np.sqrt((grain**2).sum(axis=1, keepdims=True))
    to_x, to_y = (linear_matrix(grid.points.shape[a + 1], (middle - LOW[a]) / STEP) for a in (0, 1))
    steps_z = grid.points.shape[3]
    x, y = middle[:, None].astype(np.float32), middle[None].astype(np.float32)
    fine = (np.arange(n) - (n - 1) / 2) * pixel
    outside = fine[:, None] ** 2 + fine[None] ** 2 > (n * pixel / 2) ** 2
    image = np.empty((n, n, slices), np.int16)
    share = np.zeros((n, n, slices), np.float32) if lesion is not None else None
    box = ndimage.find_objects(lesion.astype(np.uint8))[0] if lesion is not None and lesion.any() else None
    marked = lesion.astype(np.float32) if lesion is not None else None
    for k in range(slices):
        plane, part = np.zeros((half, half), np.float32), np.zeros((half, half), np.float32)
        for s in range(samples):
            z = start + (k + (s + 0.5) / samples) * taken.thickness
            weights = linear_matrix(steps_z, np.array([(z - LOW[2]) / STEP]))[0]
            index = to_x @ (grid.points @ weights).astype(np.float32) @ to_y.T - ORIGIN[:, None, None].astype(
                np.float32
            )
            plane += _sample(hu, index, -1000.0)
            if box is not None and marked is not None:
                near = np.logical_and.reduce(
                    [(i > b.start - 1) & (i < b.stop) for i, b in zip(index, box, strict=True)]
                )
                if near.any():
                    part[near] += _sample(marked, index[:, near], 0.0)
        plane /= samples
        _holder(plane, x, y, scanner, grid.back)
        sharp = blur @ plane @ blur.T
        sharp += taken.noise * (grain @ rng.standard_normal((n, n), dtype=np.float32) @ grain.T)
        sharp[outside] = scanner.padding
        image[:, :, k] = np.clip(np.rint(sharp), min(scanner.padding, -1024), 3071)
        if share is not None and part.any():
            share[:, :, k] = up @ (part / samples) @ up.T
    affine = np.diag([-pixel, pixel, taken.thickness, 1.0])
    affine[:3, 3] = [fine[-1], fine[0], start + taken.thickness / 2 + taken.table]
    if share is None or share.max() == 0:
        mask = np.zeros(image.shape, np.uint8)
    else:
        mask = (share >= 0.5 * min(1.0, float(share.max()))).astype(np.uint8)
    return Volume(np.ascontiguousarray(image[::-1]), affine), Volume(np.ascontiguousarray(mask[::-1]), affine)
