"""What a patient's folder is made from: files of the earlier stages, and the settings of the hand-off."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Sources:
    """Files of one scan, as the earlier stages left them (docs/contracts.md)."""

    ct: Path
    record: Path
    private: Path
    transform: Path
    atlas: Path
    statistical_atlas: Path
    quality: Path
    picture: Path
    slices: Path
    brain_mask: Path
    scores: Path
    maps: Path
    calibration: Path


@dataclass(frozen=True)
class Settings:
    """What the page depends on besides the files.

    Attributes
    ----------
    method : str
        Method that draws the overlay and gives the score.
    windows : dict
        Name to [level, width] in HU.
    min_finding_ml : float
    title : str
    synthetic : bool
    hu_range : list of float or None
        HU mapped to [0, 1] by preprocessing; None where there is no fixed window: differences have no unit.
    voxel_fpr : float
        Share of healthy voxels above the threshold.
    viewer : dict
        ``pixels``, ``max_slices``, ``max_mb``.
    dicom : dict
        ``write``, ``uid_root``, ``copy_patient``.
    person : dict
        ``age`` and ``scanner`` of the participants table, None where not given.
    dicom_source : str or None
        Folder of the source instances; given only where ``dicom.copy_patient`` is on.
    """

    method: str
    windows: dict[str, list[float]]
    min_finding_ml: float
    title: str
    synthetic: bool
    hu_range: list[float] | None
    voxel_fpr: float
    viewer: dict[str, Any]
    dicom: dict[str, Any]
    person: dict[str, Any] = field(default_factory=dict)
    dicom_source: str | None = None

    @property
    def scale(self) -> float:
        """Units of the shown difference per unit of the stored residual."""
        return self.hu_range[1] - self.hu_range[0] if self.hu_range else 100.0

    @property
    def unit(self) -> str:
        """Unit of the shown difference."""
        return "HU" if self.hu_range else "% of range"

    @property
    def step(self) -> float:
        """Smallest difference shown: 1 HU with the default window."""
        return self.scale / 80
