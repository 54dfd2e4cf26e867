"""The calibrated score: from pooled z to scores of slices and volumes; needs neither maps nor networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from normct.common.registry import FUSED
from normct.score.files_calibrated import Key, save
from normct.score.pooling import CHANNELS, top_mean
from normct.score.positions import channel_scores, position_statistics
from normct.score.scores import ENSEMBLE, SliceScore, VolumeScore

Positions = dict[Key, NDArray[np.float64]]
"""Mean and SD of each channel at each slice: shape (2, channels, 155)."""

Healthy = tuple[str, Mapping[Key, NDArray[np.float32]], NDArray[np.bool_]]
"""Patient, pooled values and usable slices of a calibration scan."""


@dataclass(frozen=True)
class CalibratedSettings:
    """How pooled z become scores: ``score.calibrated``, the part after the maps.

    Attributes
    ----------
    position_mm, slice_smooth_mm : float
        SD along z of the neighbourhood that standardises a slice, and of the smoothing of its score.
    pool_share : float
        Share of a slice's brain pixels, the highest ones, that make its value.
    volume_share : float
        Share of a scan's usable slices, the highest ones, whose mean is its score.
    """

    pool_share: float
    position_mm: float
    slice_smooth_mm: float
    volume_share: float

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> CalibratedSettings:
        """Take them from the config's ``score`` section."""
        return cls(**{name: float(config["calibrated"][name]) for name in cls.__dataclass_fields__})

    def as_dict(self) -> dict[str, float]:
        """Return them as the config writes them."""
        return asdict(self)


def score_name(method: str) -> str:
    """Return the name of the score of a method's rows."""
    return "fused" if method == FUSED else "calibrated"


def positions_of(scans: Sequence[Healthy], settings: CalibratedSettings) -> Positions:
    """Return the position statistics of every map over healthy scans; empty without any."""
    if not scans:
        return {}
    return {
        key: np.stack(position_statistics([(p[key], usable) for _, p, usable in scans], settings.position_mm))
        for key in scans[0][1]
    }


def left_out(scans: Mapping[str, Healthy], settings: CalibratedSettings) -> dict[str, Positions]:
    """Return, for each calibration scan, the position statistics of the scans of all other patients."""
    return {
        subject: positions_of([scan for scan in scans.values() if scan[0] != own[0]], settings)
        for subject, own in scans.items()
    }


def write_left_out(
    path: str | Path, positions: Mapping[str, Positions], slices: Mapping[str, NDArray] | None = None
) -> None:
    """Write the statistics that calibration scans themselves are scored with, and their slices' own levels."""
    save(
        path,
        {
            f"{subject}/{method}/{seed}": values.astype(np.float32)
            for subject, found in positions.items()
            for (method, seed), values in found.items()
        }
        | dict(slices or {}),
    )


def read_left_out(path: str | Path, subject: str) -> Positions | None:
    """Return a calibration scan's own statistics; None for any other scan."""
    with np.load(path, allow_pickle=False) as content:
        names = [name for name in content.files if name.startswith(f"{subject}/")]
        found = {tuple(name.split("/", 2)[1:]): content[name] for name in names}
    return {(m, s): values for (m, s), values in found.items()} or None


def positions_record(positions: Positions) -> dict[str, dict[str, dict[str, Any]]]:
    """Return statistics as ``calibration.json`` keeps them: method, seed, mean and sd, channels, slices."""
    record: dict[str, dict[str, dict[str, Any]]] = {}
    for (method, seed), (mean, sd) in positions.items():
        entry = {"mean": np.round(mean, 5).tolist(), "sd": np.round(sd, 5).tolist()}
        record.setdefault(method, {})[seed] = entry
    return record


def positions_from_record(record: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> Positions:
    """Return what :func:`positions_record` made a record of."""
    return {
        (method, seed): np.array([entry["mean"], entry["sd"]])
        for method, seeds in record.items()
        for seed, entry in seeds.items()
    }


def calibrated_scores(
    pooled: Mapping[Key, NDArray[np.float32]],
    usable: NDArray[np.bool_],
    positions: Positions,
    settings: CalibratedSettings,
) -> tuple[list[SliceScore], list[VolumeScore]]:
    """Return slice and volume scores of every map of a scan.

    Each channel in healthy SDs at its position, smoothed over neighbouring slices; the two added. The scan's
    score is the mean of its highest slices. Seed ``all``, with several seeds, scores the mean of theirs.

    Parameters
    ----------
    pooled : mapping
        (method, seed) to (channels, 155).
    usable : ndarray of bool
        Shape (155,).
    positions : dict
        Made without the scan's own patient; empty when there is nobody to compare with.
    settings : CalibratedSettings
    """
    if not positions or not usable.any():
        return [], []
    channels: dict[Key, NDArray[np.float64]] = {}
    for key, values in pooled.items():
        if key in positions:
            mean, sd = positions[key]
            channels[key] = channel_scores(values, usable, mean, sd, settings.slice_smooth_mm)
    methods: dict[str, list[NDArray[np.float64]]] = {}
    for (method, _), found in channels.items():
        methods.setdefault(method, []).append(found)
    ensembles = {(m, ENSEMBLE): np.mean(found, axis=0) for m, found in methods.items() if len(found) > 1}
    slices, volumes = [], []
    for (method, seed), found in (channels | ensembles).items():
        name, total = score_name(method), found.sum(axis=0)
        parts = {c: top_mean(v[usable], settings.volume_share) for c, v in zip(CHANNELS, found, strict=True)}
        slices.append(SliceScore(method, name, seed, total))
        value = top_mean(total[usable], settings.volume_share)
        volumes.append(VolumeScore(method, name, seed, value, parts))
    return slices, volumes
