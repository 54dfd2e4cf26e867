"""Smoothing inside a brain mask, and distance from its rim, on the slice grid (x and y 1.875 mm, z 1 mm)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from normct.common.slices import GRID, SIZE

PIXEL_MM = GRID / SIZE
SPACING_MM = (1.0, PIXEL_MM, PIXEL_MM)

Box = tuple[slice, slice, slice]


def brain_box(mask: NDArray[np.bool_]) -> Box:
    """Return the smallest box around a mask, so that nothing is computed on air; empty for an empty mask."""
    boxes = ndimage.find_objects(mask.astype(np.uint8))
    return boxes[0] if boxes else (slice(0, 0),) * 3


def gaussian(volume: NDArray[np.float32], sigma_mm: Sequence[float]) -> NDArray[np.float32]:
    """Return a Gaussian blur; ``sigma_mm`` is (axial, in-plane), 0 leaves that direction alone."""
    axial, plane = sigma_mm
    sigma = [axial / SPACING_MM[0], plane / SPACING_MM[1], plane / SPACING_MM[2]]
    return np.asarray(ndimage.gaussian_filter(volume, sigma, mode="constant", truncate=3.0), np.float32)


class MaskedSmoother:
    """Mask-normalised Gaussian smoothing of packed maps of one scan: G(map) / G(mask).

    Nothing from outside the brain enters, so that a voxel at the rim is a weighted mean of brain only
    (Knutsson and Westin 1993, normalised convolution).

    Parameters
    ----------
    mask : ndarray of bool
        Shape (155, 128, 128).
    sigma_mm : pair of float
        Axial and in-plane standard deviation in mm.
    """

    def __init__(self, mask: NDArray[np.bool_], sigma_mm: Sequence[float]) -> None:
        self.sigma = tuple(sigma_mm)
        self.inside = mask[brain_box(mask)]
        self.weight = gaussian(self.inside.astype(np.float32), self.sigma)[self.inside]

    def __call__(self, values: NDArray) -> NDArray[np.float32]:
        """Smooth a packed map, shape (brain pixels,), in the order of the mask."""
        full = np.zeros(self.inside.shape, np.float32)
        full[self.inside] = values
        return np.asarray(gaussian(full, self.sigma)[self.inside] / self.weight, np.float32)


def rim_distance(mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return each brain voxel's distance in mm to the nearest voxel outside, packed as ``mask`` is."""
    box = brain_box(mask)
    inside = np.pad(mask[box], 1)
    distance = ndimage.distance_transform_edt(inside, sampling=SPACING_MM)
    return np.asarray(distance[inside], np.float32)


def smooth_positions(values: NDArray[np.float64], sigma: float) -> NDArray[np.float64]:
    """Return sums along axis 0 (slices, 1 mm) spread over their neighbours by a Gaussian of ``sigma`` mm."""
    if sigma <= 0:
        return np.asarray(values, np.float64)
    return np.asarray(ndimage.gaussian_filter1d(values, sigma, axis=0, mode="constant", truncate=4.0))
