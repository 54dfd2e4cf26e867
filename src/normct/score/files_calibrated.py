"""Files of the calibrated score: z maps, pooled slice values, the reference and the sums it is made from.

All are ``.npz`` without objects. A scan that was set aside, or a cohort with fewer than two calibration
patients, yields files without maps.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from normct.common.errors import NormctError
from normct.common.files import atomic
from normct.score.components import Components
from normct.score.reference import SHAPE, Statistics, Sums

Key = tuple[str, str]
"""Method and seed (a string; ``n/a`` for the statistical atlas)."""

_VOXELWISE = ("mean", "spread", "follow", "weight")
_RIM = ("rim_mean", "rim_variance")
_CELLS = ("cells", "stop_cells")


def save(path: str | Path, arrays: dict[str, Any], packed: bool = True) -> None:
    """Write arrays, atomically."""
    with atomic(path) as part, part.open("wb") as handle:
        (np.savez_compressed if packed else np.savez)(handle, **arrays)


def coarse(values: NDArray) -> NDArray[np.float16]:
    """Return non-negative values as float16 of six significant bits (1 %): they pack to half the size."""
    bits = values.astype(np.float16).view(np.uint16).astype(np.uint32)
    return ((bits + 16) & ~np.uint32(31)).astype(np.uint16).view(np.float16)


def write_pooled(
    path: str | Path, participant_id: str, role: str, pooled: dict[Key, NDArray], shares: Sequence[float]
) -> None:
    """Write pooled slice values, ``{(method, seed): float32 (shares, 2, 155)}``, and the shares."""
    arrays: dict[str, Any] = {f"pooled/{m}/{s}": values for (m, s), values in pooled.items()}
    arrays["shares"] = np.array(shares, np.float64)
    save(path, {"participant_id": np.array(participant_id), "role": np.array(role), **arrays})


def read_pooled(path: str | Path, share: float) -> dict[Key, NDArray[np.float32]]:
    """Read what :func:`write_pooled` wrote of one share, shape (2, 155): denser, less dense.

    Raises
    ------
    NormctError
        If another share was pooled.
    """
    with np.load(path, allow_pickle=False) as content:
        place = np.flatnonzero(content["shares"] == share)
        if not len(place):
            raise NormctError(f"{Path(path).name}: pool_share {share:g} was not pooled; make the z maps anew")
        names = [name for name in content.files if name.startswith("pooled/")]
        keys = [tuple(name.split("/", 2)[1:]) for name in names]
        return {(m, s): content[name][place[0]] for (m, s), name in zip(keys, names, strict=True)}


class ReferenceFile:
    """Read-only view of ``reference.npz``; one map's statistics are in memory at a time."""

    def __init__(self, path: str | Path) -> None:
        self._content = np.load(path, allow_pickle=False)
        record = json.loads(str(self._content["settings"]))
        self.settings: dict[str, Any] = record["settings"]
        self.patients = int(record["patients"])
        self.keys: list[str] = record["keys"]
        self._mask = self._unpacked("mask")

    def _unpacked(self, name: str) -> NDArray[np.bool_]:
        return np.unpackbits(self._content[name], count=int(np.prod(SHAPE))).reshape(SHAPE).astype(bool)

    def components(self, key: str) -> Components | None:
        """Return the components of a map; None where there were too few early-stopping scans to make any."""
        if f"components/{key}" not in self._content:
            return None
        return Components(self._unpacked("components_mask"), self._content[f"components/{key}"])

    def statistics(self, key: str) -> Statistics:
        """Return the statistics of a map (``<method>/seed-<n>`` or ``statistical_atlas``)."""
        if key not in self.keys:
            raise NormctError(f"reference.npz knows nothing of {key}; it was made for {', '.join(self.keys)}")
        # outside every calibration brain the rim model alone speaks
        full = {name: np.zeros(SHAPE, np.float32) for name in _VOXELWISE}
        full["follow"][:] = 1.0
        full["weight"][self._mask] = self._content["weight"]
        for name in ("mean", "spread", "follow"):
            full[name][self._mask] = self._content[f"{name}/{key}"]
        rim = {
            name: self._content[f"{name}/{key}"].astype(np.float64) for name in ("rim_mean", "rim_variance")
        }
        return Statistics(**full, **rim)


class ReferenceWriter:
    """Collects the statistics of each map for ``reference.npz`` and their sums for leaving scans out."""

    def __init__(self, settings: dict[str, Any], patients: int) -> None:
        self._settings, self._patients = settings, patients
        self._keys: list[str] = []
        self._reference: dict[str, NDArray] = {}
        self._sums: dict[str, NDArray] = {}
        self._components: dict[str, NDArray] = {}
        self._mask: NDArray[np.bool_] = np.zeros(SHAPE, bool)

    def add(self, key: str, statistics: Statistics, sums: Sums) -> None:
        """Add one map: float16 of the statistics, float32 of the sums, voxels with calibration brain only."""
        if not self._keys:
            self._mask = (sums.count + sums.stop_count) > 0.5
            self._reference["weight"] = statistics.weight[self._mask].astype(np.uint16)
        self._keys.append(key)
        self._reference[f"mean/{key}"] = statistics.mean[self._mask].astype(np.float16)
        for name in ("spread", "follow"):
            self._reference[f"{name}/{key}"] = coarse(getattr(statistics, name)[self._mask])
        for name in _RIM:
            self._reference[f"{name}/{key}"] = getattr(statistics, name).astype(np.float32)
        for field in fields(Sums):
            values = getattr(sums, field.name)
            self._sums[f"{field.name}/{key}"] = values if field.name in _CELLS else values[self._mask]

    def add_components(self, key: str, components: Components) -> None:
        """Add the components of one map; the same voxels for all maps."""
        self._components["components_mask"] = np.packbits(components.mask)
        self._components[f"components/{key}"] = components.basis

    def write(self, reference: str | Path, sums: str | Path) -> None:
        """Write both files; the sums go in no bundle, so they are not packed."""
        record = {"settings": self._settings, "patients": self._patients, "keys": self._keys}
        shared = {"settings": np.array(json.dumps(record, sort_keys=True)), "mask": np.packbits(self._mask)}
        shared |= self._components
        save(reference, shared | self._reference)
        save(sums, shared | self._sums, packed=False)


class SumsFile(ReferenceFile):
    """Read-only view of ``reference_sums.npz``."""

    def sums(self, key: str) -> Sums:
        """Return the sums over all scans of a map, a copy that may be changed."""
        parts = {}
        for field in fields(Sums):
            values = self._content[f"{field.name}/{key}"]
            if field.name in _CELLS:
                parts[field.name] = values
            else:
                parts[field.name] = np.zeros(SHAPE, np.float32)
                parts[field.name][self._mask] = values
        return Sums(**parts)
