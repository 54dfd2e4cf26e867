"""Small stand-ins for what an earlier stage leaves behind, written with the project's own writers."""

from __future__ import annotations

import numpy as np

from normct.common.slices import DEPTH, GRID, SIZE, SliceStore


def ellipsoid(shape: tuple[int, int, int], centre: tuple[float, float, float], radii: tuple[float, float, float]):
    """Boolean ellipsoid, all in voxels."""
    grid = np.ogrid[tuple(slice(0, n) for n in shape)]
    return sum(((g - c) / r) ** 2 for g, c, r in zip(grid, centre, radii, strict=True)) <= 1.0


def make_store(subject: str = "sub-test", seed: int = 0, lesion: bool = False) -> SliceStore:
    """A brain-like ellipsoid with noise, optionally with a bright ball in it."""
    rng = np.random.default_rng(seed)
    brain = ellipsoid((DEPTH, GRID, GRID), (70, 120, 120), (60, 85, 68))
    ball = ellipsoid((DEPTH, GRID, GRID), (80, 140, 90), (9, 9, 9)) if lesion else np.zeros_like(brain)
    mask = ellipsoid((DEPTH, SIZE, SIZE), (70, 64, 64), (60, 45, 36))
    ball128 = ellipsoid((DEPTH, SIZE, SIZE), (80, 74.7, 48), (9, 4.8, 4.8)) if lesion else np.zeros_like(mask)
    image = np.clip(0.4 + 0.05 * rng.standard_normal(mask.shape) + 0.4 * ball128, 0, 1) * mask
    usable = brain.sum(axis=(1, 2)) >= 10
    return SliceStore(subject, image.astype(np.float16), mask, brain, ball & brain, usable, lesion)
