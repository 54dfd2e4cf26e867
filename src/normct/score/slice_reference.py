"""Where a slice's score stands among the same level of healthy scans.

A level is a slice of the atlas grid. Each healthy calibration patient has one value a level and score: that of the
usable slice nearest to it, within ``score.calibrated.position_mm``, the highest one of several scans; none where no
slice is that near. So n is a number of people, and "higher than all" means every scan of theirs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from normct.common.registry import TRIVIAL
from normct.score.files_calibrated import save
from normct.score.percentile import level_standing
from normct.score.scores import SliceScore

ScoreKey = tuple[str, str, str]
"""Method, score, seed."""

Levels = dict[ScoreKey, NDArray[np.float32]]
"""Scores by level: (155,) of one patient, (patients, 155) of all; NaN where there is none."""

_NAMES, _OWN = "slice_scores", "slices"
NO_REFERENCE = (
    "this bundle was made before healthy slices were kept, so slices have no percentile; recalibrate it,"
    " or freeze the model anew"
)


def at_levels(values: NDArray, usable: NDArray[np.bool_], reach_mm: float) -> NDArray[np.float32]:
    """Return the value of the usable slice nearest to each level; NaN where none is within reach.

    Parameters
    ----------
    values : ndarray
        Shape (155,), 1 mm apart.
    usable : ndarray of bool
        Shape (155,).
    reach_mm : float
        0 for the very slice.
    """
    places, levels = np.flatnonzero(usable), np.arange(len(usable))
    if not len(places):
        return np.full(len(usable), np.nan, np.float32)
    above = np.searchsorted(places, levels).clip(max=len(places) - 1)
    below = (above - 1).clip(min=0)
    nearer = np.abs(places[below] - levels) <= np.abs(places[above] - levels)
    nearest = places[np.where(nearer, below, above)]
    return np.where(np.abs(nearest - levels) <= reach_mm, values[nearest], np.nan).astype(np.float32)


def by_patient(
    scans: Iterable[tuple[str, NDArray[np.bool_], Sequence[SliceScore]]], reach_mm: float
) -> dict[str, Levels]:
    """Return each patient's scores by level.

    Parameters
    ----------
    scans : iterable of (patient, usable slices, slice scores)
        Healthy calibration scans, each scored without its own patient.
    reach_mm : float
        As for :func:`at_levels`.
    """
    found: dict[str, Levels] = {}
    for patient, usable, scores in scans:
        own = found.setdefault(patient, {})
        for s in scores:
            # a slice's position is the same at one level of everybody
            if s.method in TRIVIAL and not TRIVIAL[s.method].volume_score:
                continue
            key, levels = (s.method, s.score, s.seed), at_levels(s.per_slice, usable, reach_mm)
            own[key] = np.fmax(own[key], levels) if key in own else levels
    return found


def write_healthy_slices(path: str | Path, patients: Mapping[str, Levels]) -> None:
    """Write what goes into a bundle: each level of each score sorted by itself, so that no row of it is a person."""
    keys = dict.fromkeys(key for levels in patients.values() for key in levels)
    save(
        path,
        {
            "/".join(key): np.sort(np.stack([v[key] for v in patients.values() if key in v]), axis=0)
            for key in keys
        },
    )


def read_healthy_slices(path: str | Path, keys: Iterable[ScoreKey]) -> Levels:
    """Read the levels of these scores; a score that no healthy scan has is left out."""
    with np.load(path, allow_pickle=False) as content:
        return {key: content["/".join(key)] for key in keys if "/".join(key) in content}


def own_slices(subjects: Mapping[str, str], patients: Mapping[str, Levels]) -> dict[str, NDArray]:
    """Return the arrays of ``left_out.npz`` that take a calibration scan's own patient out again.

    Parameters
    ----------
    subjects : mapping
        Participant ID of each calibration scan that is itself scored, to its patient.
    patients : mapping
        From :func:`by_patient`.
    """
    keys = list(dict.fromkeys(key for levels in patients.values() for key in levels))
    nothing = np.full(155, np.nan, np.float32)
    rows = {
        f"{_OWN}/{subject}": np.stack([patients[patient].get(key, nothing) for key in keys])
        for subject, patient in subjects.items()
        if patient in patients
    }
    return {_NAMES: np.array(["/".join(key) for key in keys]), **rows} if rows else {}


def read_own_slices(path: str | Path, subject: str) -> Levels:
    """Return what a calibration scan's own patient brought to the healthy slices; nothing for any other scan."""
    with np.load(path, allow_pickle=False) as content:
        if f"{_OWN}/{subject}" not in content:
            return {}
        names, rows = content[_NAMES].tolist(), content[f"{_OWN}/{subject}"]
    keys = (tuple(name.split("/", 2)) for name in names)
    return {(m, s, n): row for (m, s, n), row in zip(keys, rows, strict=True)}


def standings(
    scores: Sequence[SliceScore], usable: NDArray[np.bool_], healthy: Levels, own: Levels
) -> dict[str, NDArray]:
    """Return the columns of a scan's table that say where its slices stand, one score after another.

    Parameters
    ----------
    scores : sequence of SliceScore
        At least one.
    usable : ndarray of bool
        Shape (155,); no other slice is ranked.
    healthy : dict
        Shape (patients, 155).
    own : dict
        Shape (155,): the scan's own patient, where it is among them.
    """
    parts = []
    for s in scores:
        key = (s.method, s.score, s.seed)
        of_all = healthy.get(key, np.empty((0, len(usable)), np.float32))
        parts.append(level_standing(s.per_slice, usable, of_all, own.get(key)))
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
