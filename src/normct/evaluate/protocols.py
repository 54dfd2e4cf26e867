"""Who is positive and who negative under each protocol (thesis 6.3; METHOD 7)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

LEFT_OUT, NEGATIVE, POSITIVE = -1, 0, 1


def classes(units: pd.DataFrame, protocol: str) -> NDArray[np.int8]:
    """Return 1 (positive), 0 (negative) or -1 (left out) for each unit.

    Parameters
    ----------
    units : DataFrame
        One row a slice (or a scan, for ``volume``) with ``group``, ``has_lesion_mask``, ``lesion_pixels``.
    protocol : {"slice", "slice_healthy", "clinical", "volume"}
        ``slice``: lesion pixels against every other slice; abnormal scans without a mask are left out, since
        nobody said where their lesion is. ``slice_healthy``: against slices of healthy scans only.
        ``clinical``: every slice of an abnormal scan is positive. ``volume``: the same, of scans.
    """
    abnormal = (units["group"] == "abnormal").to_numpy(bool)
    healthy = (units["group"] == "healthy").to_numpy(bool)
    result = np.full(len(units), LEFT_OUT, np.int8)
    result[healthy] = NEGATIVE
    if protocol in {"clinical", "volume"}:
        result[abnormal] = POSITIVE
    elif protocol in {"slice", "slice_healthy"}:
        marked = abnormal & units["has_lesion_mask"].to_numpy(bool)
        lesion = marked & (units["lesion_pixels"].to_numpy() > 0)
        if protocol == "slice":
            result[marked] = NEGATIVE
        result[lesion] = POSITIVE
    else:
        raise ValueError(f"unknown protocol {protocol!r}")
    return result


def pathology_classes(units: pd.DataFrame, pathology: str) -> NDArray[np.int8]:
    """Return classes for one pathology: its lesion slices against slices of healthy scans."""
    result = classes(units, "slice_healthy")
    result[(result == POSITIVE) & (units["pathology"] != pathology).to_numpy(bool)] = LEFT_OUT
    return result


def one_class_reason(protocol: str, n_pos: int, n_neg: int) -> str:
    """Say why a protocol cannot be computed; empty when it can."""
    parts = []
    if n_pos == 0:
        marked = protocol in {"slice", "slice_healthy"}
        lesion = "no slice with lesion pixels (no abnormal test scan, or none with a lesion mask)"
        parts.append(lesion if marked else "no abnormal test scan")
    if n_neg == 0:
        parts.append("no slice without a lesion" if protocol == "slice" else "no healthy test scan")
    return "; ".join(parts)


@dataclass(frozen=True)
class Strata:
    """Patients of the bootstrap.

    Attributes
    ----------
    patients : list of str
        Sorted; the order of the draws' columns.
    stratum : ndarray of str
        Shape (patients,): ``healthy`` or the patient's pathologies joined by ``+``.
    """

    patients: list[str]
    stratum: NDArray

    @property
    def single(self) -> list[str]:
        """Strata of one patient, which no resampling can vary."""
        names, sizes = np.unique(self.stratum, return_counts=True)
        return [str(name) for name, size in zip(names, sizes, strict=True) if size == 1]

    def code(self, units: pd.DataFrame) -> NDArray[np.intp]:
        """Return the column of each unit's patient."""
        named = pd.Categorical(units["patient"])  # of few patients, where units may be a million slices
        place = pd.Index(self.patients).get_indexer(named.categories.astype(str))
        return place[named.codes].astype(np.intp)


def make_strata(scans: pd.DataFrame) -> Strata:
    """Return the patients of ``scans``, all scans of a patient together, by healthy and each pathology."""
    patients, strata = [], []
    for patient, group in scans.groupby("patient", sort=True):
        found = sorted(set(group.loc[group["group"] == "abnormal", "pathology"]))
        patients.append(str(patient))
        strata.append("+".join(found) or "healthy")
    return Strata(patients, np.array(strata, dtype=str))


class Intervals(NamedTuple):
    """Whether the bootstrap can give an interval, and what a reader must know about it."""

    allowed: bool
    note: str


def judge_intervals(strata: Strata, positives: NDArray[np.intp]) -> Intervals:
    """Say whether the bootstrap can vary both classes; a stratum of one patient cannot be resampled.

    Parameters
    ----------
    strata : Strata
    positives : ndarray of int
        Codes of the patients that carry positives.
    """
    single = set(strata.single)
    names = {str(strata.stratum[p]) for p in np.unique(positives)}
    alone = ", ".join(sorted(names & single))
    if names and names <= single:
        where = "stratum" if len(names) == 1 else "each of the strata"
        return Intervals(False, f"no interval: one patient only in {where} {alone}")
    if "healthy" in single:
        return Intervals(False, "no interval: one healthy patient only")
    note = f"the interval leaves out the variation within strata of one patient ({alone})" if alone else ""
    return Intervals(True, note)
