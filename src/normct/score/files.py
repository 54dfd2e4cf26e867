"""Raw measures and residual maps of one scan: what inference leaves behind, before any weighting.

Both are ``.npz`` without objects. A scan that was set aside has arrays of length 0 and no maps.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from normct.common.files import atomic

ATLAS_MAP = "statistical_atlas"
FOLD = "fold"
"""Raw measure of a training scan: the fold whose networks, which did not learn from its patient, scored it."""


@dataclass(frozen=True)
class Raw:
    """Raw measures of one scan.

    Attributes
    ----------
    participant_id, role : str
        ``role`` is kept beside the numbers so that calibration can refuse any scan that is not its own.
    arrays : dict of ndarray
        A slice each, axis 0 is z: ``z``, ``usable``, ``brain_pixels``, ``lesion_pixels`` (240×240 grid),
        ``trivial/<name>``, ``<method>/<seed>/residual_l2`` (155,), and of methods with a head
        ``<method>/<seed>/log_p`` (155, transforms, 3), natural logarithm, float32. Once a network:
        ``<method>/<seed>/blank_l2`` and ``blank_log_p``, its response to an empty slice (already filled in
        for blank slices). ``acquisition``: one number a scan, NaN when nothing was measured. ``fold``: of a
        training scan that was scored out of fold, no other.
    """

    participant_id: str
    role: str
    arrays: dict[str, NDArray]

    @property
    def set_aside(self) -> bool:
        """Whether quality control set the scan aside."""
        return len(self.arrays["z"]) == 0

    @property
    def held_out(self) -> bool:
        """Whether nothing that scored the scan was made of it; an early-stopping scan chose an epoch only."""
        return _held_out(self.role, self.arrays)

    def networks(self) -> list[tuple[str, str]]:
        """Return the (method, seed) pairs, in file order."""
        return [(n.split("/")[0], n.split("/")[1]) for n in self.arrays if n.endswith("/residual_l2")]


def _write(path: str | Path, arrays: dict[str, Any]) -> None:
    with atomic(path) as part, part.open("wb") as handle:
        np.savez_compressed(handle, **arrays)


def write_raw(path: str | Path, raw: Raw) -> None:
    """Write raw measures, atomically."""
    _write(path, {"participant_id": np.array(raw.participant_id), "role": np.array(raw.role), **raw.arrays})


def read_raw(path: str | Path) -> Raw:
    """Read what :func:`write_raw` wrote; pickled content is refused."""
    with np.load(path, allow_pickle=False) as content:
        arrays = {name: content[name] for name in content.files}
    return Raw(str(arrays.pop("participant_id")), str(arrays.pop("role")), arrays)


def _held_out(role: str, names: Container[str]) -> bool:
    return role in {"calibrate", "stop"} or (role == "train" and FOLD in names)


def read_held_out(path: str | Path) -> bool:
    """Return whether a healthy scan's raw measures may make a reference; little is read."""
    with np.load(path, allow_pickle=False) as content:
        return _held_out(str(content["role"]), content.files)


def read_role(path: str | Path) -> str:
    """Return the role kept in a scan's raw measures; nothing else is read."""
    with np.load(path, allow_pickle=False) as content:
        return str(content["role"])


def write_maps(path: str | Path, maps: dict[str, NDArray[np.float16]]) -> None:
    """Write ``{"<method>/seed-<n>" or "statistical_atlas": float16 (brain pixels,)}``, atomically."""
    _write(path, maps)


def read_maps(path: str | Path) -> dict[str, NDArray[np.float16]]:
    """Read one scan's maps: signed residuals of its brain pixels, in the order of ``SliceStore.mask``."""
    with np.load(path, allow_pickle=False) as content:
        return {name: content[name] for name in content.files}


def unpack_map(values: NDArray, mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Put a packed map back on its grid.

    Parameters
    ----------
    values : ndarray
        Shape (brain pixels,).
    mask : ndarray of bool
        ``SliceStore.mask`` of the same scan, shape (155, 128, 128).

    Returns
    -------
    ndarray of float32
        Shape (155, 128, 128); 0 outside the brain.
    """
    if len(values) != np.count_nonzero(mask):
        raise ValueError(
            f"map of {len(values)} pixels, brain mask of {np.count_nonzero(mask)}: not the same scan"
        )
    full = np.zeros(mask.shape, np.float32)
    full[mask] = values
    return full
