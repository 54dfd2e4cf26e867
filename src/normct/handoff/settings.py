"""What a patient's folder is made from: files of the earlier stages, and the settings of the hand-off."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from normct.common.registry import FUSED


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
    slice_scores: Path
    maps: Path
    z_maps: Path
    calibration: Path


@dataclass(frozen=True)
class Settings:
    """What the page depends on besides the files.

    Attributes
    ----------
    method : str
        Method that draws the overlay and gives the score: a network, ``statistical_atlas`` or ``fused``.
    score : str
        ``calibrated`` (the map is a z against healthy scans) or ``thesis`` (the map is the residual).
    windows : dict
        Name to [level, width] in HU.
    min_finding_ml : float
    title : str
    synthetic : bool
    trained_on_synthetic : bool
        Whether the model has seen generated scans only: said on every page.
    hu_range : list of float or None
        HU mapped to [0, 1] by preprocessing; None where there is no fixed window: differences have no unit.
    voxel_fpr : float
        Share of healthy voxels above the calibrated threshold.
    threshold_factor : float
        Threshold of map and findings, as a multiple of the calibrated one.
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
    score: str
    windows: dict[str, list[float]]
    min_finding_ml: float
    title: str
    synthetic: bool
    trained_on_synthetic: bool
    hu_range: list[float] | None
    voxel_fpr: float
    threshold_factor: float
    viewer: dict[str, Any]
    dicom: dict[str, Any]
    person: dict[str, Any] = field(default_factory=dict)
    dicom_source: str | None = None

    @property
    def calibrated(self) -> bool:
        """Whether the map is in standard deviations of healthy scans."""
        return self.score != "thesis"

    @property
    def score_name(self) -> str:
        """Name of the score in the tables: what is fused has one only."""
        return FUSED if self.method == FUSED else self.score

    @property
    def intensity(self) -> float:
        """Shown units of intensity (HU with a fixed window) per unit of the stored slices."""
        return self.hu_range[1] - self.hu_range[0] if self.hu_range else 100.0

    @property
    def scale(self) -> float:
        """Shown units per unit of the stored map: z maps are stored in standard deviations."""
        return 1.0 if self.calibrated else self.intensity

    @property
    def span(self) -> float:
        """Largest difference shown; beyond 12 SD nothing is told apart."""
        return 12.0 if self.calibrated else self.intensity

    @property
    def unit(self) -> str:
        """Unit of the shown difference."""
        if self.calibrated:
            return "SD"
        return "HU" if self.hu_range else "% of range"

    @property
    def step(self) -> float:
        """Smallest difference shown: a tenth of an SD, or 1 HU with the default window."""
        return 0.1 if self.calibrated else self.intensity / 80

    @property
    def decimals(self) -> int:
        """Digits after the point that a difference is given with."""
        return 0 if self.step >= 1 else 1
