"""From raw measures to scores of slices and volumes; needs no network and no pandas.

The calibrated and fused scores are in :mod:`normct.score.calibrated`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from normct.common.registry import TRIVIAL
from normct.score.files import Raw
from normct.score.thesis import head_score, thesis_score

ENSEMBLE, NO_SEED = "all", "n/a"


@dataclass(frozen=True)
class Settings:
    """How raw measures become scores.

    Attributes
    ----------
    weight : float
        λ of eq. 6.2.
    combine : str
        Probability of the head from its three parts: mean or product.
    anomaly : str
        1-p, or p (literal).
    """

    weight: float
    combine: str = "mean"
    anomaly: str = "1-p"

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Settings:
        """Take the settings from the config's ``score`` section."""
        return cls(float(config["lambda"]), config["head"]["combine"], config["head"]["anomaly"])

    def as_dict(self) -> dict[str, Any]:
        """Return them as the config writes them."""
        values = asdict(self)
        return {"lambda": values.pop("weight"), "head": values}


@dataclass(frozen=True)
class SliceScore:
    """Scores of one method over all slices of a scan; ``per_slice`` has shape (155,)."""

    method: str
    score: str
    seed: str
    per_slice: NDArray[np.float64]


@dataclass(frozen=True)
class VolumeScore:
    """One score of a scan; ``channels`` holds what it says of denser and of less dense tissue alone."""

    method: str
    score: str
    seed: str
    value: float
    channels: Mapping[str, float] = field(default_factory=dict)


def slice_scores(raw: Raw, alpha: Mapping[str, Mapping[str, float]], settings: Settings) -> list[SliceScore]:
    """Return every slice score of a scan, networks first, each ensemble after its seeds.

    Parameters
    ----------
    raw : Raw
        Raw measures; nothing is returned for a scan that was set aside.
    alpha : mapping
        ``alpha`` of ``calibration.json``: method, seed (a string), scale.
    settings : Settings
        λ and how the head's probabilities are combined.

    Returns
    -------
    list of SliceScore
        ``thesis`` of each network (eq. 6.2 with a head, s_r without), with a head also ``head`` (s_c) and
        ``residual`` (s_r), with a variance head ``variance``, of VAE-KL and ceVAE ``kl_gradient``; seed
        ``all``, the mean over seeds of these, where there are several; ``trivial``.
    """
    result: list[SliceScore] = []
    if raw.set_aside:
        return result
    ensembles: dict[tuple[str, str], list[NDArray[np.float64]]] = {}
    for method, seed in raw.networks():
        scale, key = float(alpha[method][seed]), f"{method}/{seed}"
        l2 = raw.arrays[f"{key}/residual_l2"].astype(np.float64)
        if f"{key}/log_p" in raw.arrays:
            s_c = head_score(raw.arrays[f"{key}/log_p"], settings.combine, settings.anomaly)
            parts = {
                "thesis": thesis_score(s_c, l2, scale, settings.weight),
                "head": s_c,
                "residual": scale * l2,
            }
        else:
            parts = {"thesis": scale * l2}
        for score, measure in (("kl_gradient", "kl_gradient"), ("variance", "residual_over_variance")):
            if f"{key}/{measure}" in raw.arrays:
                parts[score] = raw.arrays[f"{key}/{measure}"].astype(np.float64)
        for score, values in parts.items():
            result.append(SliceScore(method, score, seed, values))
            ensembles.setdefault((method, score), []).append(values)
    for (method, score), members in ensembles.items():
        if len(members) > 1:
            result.append(SliceScore(method, score, ENSEMBLE, np.mean(members, axis=0)))
    for name, trivial in TRIVIAL.items():
        if trivial.slice_score:
            values = raw.arrays[f"trivial/{name}"].astype(np.float64)
            result.append(SliceScore(name, "trivial", NO_SEED, values))
    return result


def volume_scores(raw: Raw, slices: list[SliceScore]) -> list[VolumeScore]:
    """Return the scan's scores: means over usable slices, and the baselines that only a volume has.

    A baseline that was not measured (no acquisition values), or a scan without usable slices, has no score.
    """
    if raw.set_aside or not raw.arrays["usable"].any():
        return []
    usable = raw.arrays["usable"]
    result = [
        VolumeScore(s.method, s.score, s.seed, float(s.per_slice[usable].mean()))
        for s in slices
        if s.method not in TRIVIAL or TRIVIAL[s.method].volume_score
    ]
    distance = float(raw.arrays["acquisition"])
    if np.isfinite(distance):
        result.append(VolumeScore("acquisition", "trivial", NO_SEED, distance))
    return result


def mean_map(maps: Mapping[str, NDArray], method: str) -> NDArray[np.float32]:
    """Return a method's residual map averaged over its seeds, float32 (brain pixels,)."""
    members = [
        values.astype(np.float32) for name, values in maps.items() if name.startswith(f"{method}/seed-")
    ]
    return np.mean(members, axis=0, dtype=np.float32)
