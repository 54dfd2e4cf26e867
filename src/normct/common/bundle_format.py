"""What a model bundle is made of: the manifest's schema, the names of its parts, and the error that refuses one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from normct.common.errors import NormctError

FORMAT = 1
MANIFEST = "bundle.json"
SECTIONS = ("preprocess", "score", "train")
SUFFIXES = (".json", ".md", ".nii.gz", ".npz", ".safetensors")
REQUIRED = ("atlas.nii.gz", "atlas_mask.nii.gz", "statistical_atlas.npz", "reference.npz",
            "calibration.json", "model_card.md")  # fmt: skip
MEAN_BRAIN = ("mean_brain.nii.gz", "mean_brain_mask.nii.gz")  # required where the second pass is on

_TEXT, _COUNT = {"type": "string"}, {"type": "integer", "minimum": 0}
SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": [
        "format",
        "name",
        "created_by",
        "config",
        "methods",
        "seeds",
        "files",
        "versions",
        "commit",
        "training",
    ],
    "additionalProperties": False,
    "properties": {
        "format": {"const": FORMAT},
        "name": {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9_.-]*$"},
        "created_by": _TEXT,
        "config": {
            "type": "object",
            "required": list(SECTIONS),
            "properties": {section: {"type": "object"} for section in SECTIONS},
            "additionalProperties": False,
        },
        "methods": {"type": "array", "items": {"type": "string", "pattern": "^[a-z0-9_]+$"}, "minItems": 1},
        "seeds": {"type": "array", "items": {"type": "integer"}, "minItems": 1},
        "files": {
            "type": "object",
            "additionalProperties": {
                "type": "object",
                "required": ["size", "sha256"],
                "additionalProperties": False,
                "properties": {"size": _COUNT, "sha256": {"type": "string", "pattern": "^[0-9a-f]{64}$"}},
            },
        },
        "versions": {"type": "object", "additionalProperties": _TEXT},
        "commit": {"type": ["string", "null"]},
        "training": {"type": "object"},
        # the bundle whose networks a recalibrated one holds
        "parent": {
            "type": "object",
            "required": ["name", "checksum"],
            "additionalProperties": False,
            "properties": {"name": _TEXT, "checksum": {"type": "string", "pattern": "^[0-9a-f]{64}$"}},
        },
    },
}


class BundleError(NormctError):
    """A bundle that is not whole, was changed, or holds what it must not."""

    def __init__(self, faults: list[str]) -> None:
        self.faults = faults
        title = "The model bundle is refused; copy it again from where it was made, or make it anew:"
        super().__init__("\n".join([title, *(f"  - {fault}" for fault in faults)]))


@dataclass(frozen=True)
class BundlePaths:
    """Where the parts of a bundle lie."""

    folder: Path

    @property
    def manifest(self) -> Path:
        """``bundle.json``."""
        return self.folder / MANIFEST

    @property
    def atlas(self) -> Path:
        """The atlas on 240×240×155 at 1 mm."""
        return self.folder / "atlas.nii.gz"

    @property
    def atlas_mask(self) -> Path:
        """The atlas's brain mask."""
        return self.folder / "atlas_mask.nii.gz"

    @property
    def mean_brain(self) -> Path:
        """The mean of the training brains on the same grid; only where a second pass registers to it."""
        return self.folder / "mean_brain.nii.gz"

    @property
    def mean_brain_mask(self) -> Path:
        """The mean brain's mask."""
        return self.folder / "mean_brain_mask.nii.gz"

    @property
    def statistical_atlas(self) -> Path:
        """Voxelwise healthy mean and SD."""
        return self.folder / "statistical_atlas.npz"

    @property
    def reference(self) -> Path:
        """What residual is usual at each voxel, for the calibrated score."""
        return self.folder / "reference.npz"

    @property
    def calibration(self) -> Path:
        """Alpha, thresholds, healthy distributions."""
        return self.folder / "calibration.json"

    @property
    def healthy_slices(self) -> Path:
        """Slice scores of healthy patients by level, sorted; bundles made before they were kept have none."""
        return self.folder / "healthy_slices.npz"

    def weights(self, method: str, seed: int | str) -> Path:
        """Weights of one trained network."""
        return self.folder / "weights" / f"{method}__seed-{seed}.safetensors"
