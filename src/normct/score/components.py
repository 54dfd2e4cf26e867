"""Principal components of healthy z maps: how whole brains differ from each other, taken off before anything is scored.

Wide ventricles, a shrunken cortex or a sharp kernel move thousands of voxels together, each by a little. The leading
components of healthy scans span such differences; what they explain of a scan is subtracted. A lesion is not among
them, and large values are clipped while a scan is fitted, so that it does not pull them (the outlier-insensitive
subspace of robust background subtraction: Candès et al., J. ACM 2011; De la Torre and Black, IJCV 2003).

They are made from the early-stopping scans, so no calibration scan's map is among them. What standardises those maps is
of all calibration scans: a path of second order, which a test scan has not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from normct.score.reference import SHAPE

PRESENCE = 0.75
"""Share of the scans that must have brain at a voxel for the components to know it."""
SCANS_EACH = 3
"""Scans that a component needs: fewer would learn single brains."""
MOST_SCANS = 64
"""Scans that are looked at; all of their maps are in memory at once."""
FIT_CLIP, ROUND_CLIP, ROUNDS = 4.0, 2.0, 3
"""In SD: what a map's values are clipped to first, and their distance from the fit in each round after."""


@dataclass(frozen=True)
class Components:
    """Orthonormal directions of healthy variation of one map.

    Attributes
    ----------
    mask : ndarray of bool
        Shape (155, 128, 128): the voxels that they know.
    basis : ndarray
        Shape (components, voxels of the mask), each of unit length.
    """

    mask: NDArray[np.bool_]
    basis: NDArray

    def remove(self, z: NDArray[np.float32], mask: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Return a packed z map without what the components explain of it.

        Parameters
        ----------
        z : ndarray of float32
            Shape (brain pixels,), in the order of ``mask``.
        mask : ndarray of bool
            The scan's brain, shape (155, 128, 128).
        """
        both = self.mask & mask
        basis = self.basis[:, both[self.mask]].astype(np.float32)
        inside = both[mask]
        known = z[inside]
        weights = basis @ np.clip(known, -FIT_CLIP, FIT_CLIP)
        for _ in range(ROUNDS):
            weights = weights + basis @ np.clip(known - weights @ basis, -ROUND_CLIP, ROUND_CLIP)
        rest = z.copy()
        rest[inside] -= weights @ basis
        return rest


def common_mask(masks: Sequence[NDArray[np.bool_]]) -> NDArray[np.bool_]:
    """Return the voxels that are brain in most of the scans."""
    present = np.zeros(SHAPE, np.uint16)
    for mask in masks[:MOST_SCANS]:
        present += mask
    return present >= max(PRESENCE * min(len(masks), MOST_SCANS), 1)


def principal_components(
    z: Sequence[NDArray[np.float32]],
    masks: Sequence[NDArray[np.bool_]],
    common: NDArray[np.bool_],
    number: int,
) -> NDArray[np.float16]:
    """Return the leading components of healthy z maps, fewer where scans are few.

    Parameters
    ----------
    z : sequence of ndarray
        Packed z map of each scan.
    masks : sequence of ndarray of bool
        Their brains.
    common : ndarray of bool
        From :func:`common_mask`.
    number : int
        Components that are wanted; a third of the number of scans at most.

    Returns
    -------
    ndarray of float16
        Shape (components, voxels of ``common``).
    """
    number = min(number, min(len(z), MOST_SCANS) // SCANS_EACH)
    if number < 1:
        return np.zeros((0, int(common.sum())), np.float16)
    full, rows = np.zeros(SHAPE, np.float32), []
    for values, mask in zip(z[:MOST_SCANS], masks[:MOST_SCANS], strict=True):
        full[:] = 0
        full[mask] = np.clip(values, -FIT_CLIP, FIT_CLIP)
        rows.append(full[common])
    stacked = np.stack(rows)
    _, spread, directions = np.linalg.svd(stacked, full_matrices=False)
    basis = directions[:number][spread[:number] > 1e-3 * spread[0]]
    # a direction's sign is arbitrary; fixed, so that two machines write the same file
    basis *= np.sign(basis.sum(axis=1, keepdims=True) + 1e-30)
    return basis.astype(np.float16)
