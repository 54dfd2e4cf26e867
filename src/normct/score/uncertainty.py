"""How unsure a score is: networks of other seeds, or decodings with channels dropped, say something else."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from normct.score.files import Raw
from normct.score.scores import ENSEMBLE, NO_SEED, SliceScore, VolumeScore

Key = tuple[str, str, str]


def _members(scores: Sequence[SliceScore] | Sequence[VolumeScore]) -> dict[tuple[str, str], list]:
    found: dict[tuple[str, str], list] = {}
    for s in scores:
        if s.seed not in {ENSEMBLE, NO_SEED}:
            found.setdefault((s.method, s.score), []).append(s)
    return found


def uncertainties(raw: Raw, scores: Sequence[VolumeScore]) -> dict[Key, tuple[float, str]]:
    """Return how unsure a scan's scores are, and what says so, by method, score and seed.

    ``seeds``: SD over the networks of different seeds, of their mean's score (seed ``all``). ``dropout``: SD
    over decodings with channels dropped, mean over the brain and the usable slices. None for one network
    without dropout.
    """
    found: dict[Key, tuple[float, str]] = {}
    for (method, score), members in _members(scores).items():
        for v in members:
            spread = raw.arrays.get(f"{method}/{v.seed}/uncertainty")
            if spread is not None:
                found[method, score, v.seed] = float(spread[raw.arrays["usable"]].mean()), "dropout"
        if len(members) > 1:
            found[method, score, ENSEMBLE] = float(np.std([v.value for v in members], ddof=1)), "seeds"
    return found


def slice_uncertainties(raw: Raw, scores: Sequence[SliceScore]) -> dict[Key, tuple[NDArray, str]]:
    """Return the same of every slice, shape (155,): of dropout the mean over the slice's brain."""
    found: dict[Key, tuple[NDArray, str]] = {}
    for (method, score), members in _members(scores).items():
        for s in members:
            spread = raw.arrays.get(f"{method}/{s.seed}/uncertainty")
            if spread is not None:
                found[method, score, s.seed] = spread.astype(np.float64), "dropout"
        if len(members) > 1:
            found[method, score, ENSEMBLE] = np.std([s.per_slice for s in members], axis=0, ddof=1), "seeds"
    return found


def uncertainty_columns(raw: Raw, scores: Sequence[SliceScore]) -> dict[str, NDArray]:
    """Return the columns ``uncertainty`` (NaN: none) and ``uncertainty_of`` of a scan's table of slices."""
    found, usable = slice_uncertainties(raw, scores), raw.arrays["usable"]
    nothing = np.full(len(usable), np.nan)
    values, words = [], []
    for s in scores:
        spread, of = found.get((s.method, s.score, s.seed), (nothing, ""))
        values.append(np.where(usable, spread, np.nan))
        words.append(np.where(usable, of, ""))
    return {"uncertainty": np.concatenate(values), "uncertainty_of": np.concatenate(words)}
