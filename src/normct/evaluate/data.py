"""What evaluation reads of the collected tables: the cohort, verdicts, and scores of the test scans as one matrix."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from numpy.typing import NDArray

from normct.common.registry import FUSED, METHODS, PATHOLOGIES, SCORES, TRIVIAL

Column = tuple[str, str, str]
"""Method, score, seed."""

KEY = ("method", "score", "seed")
SCANS, SLICES, VOLUMES = "scans.parquet", "slices.parquet", "volumes.parquet"
"""What :mod:`normct.evaluate.collect` writes."""
_SCAN = ["participant_id", "group", "pathology", "subtype", "patient", "has_lesion_mask"]
_SLICE = ["z", "brain_pixels", "lesion_pixels", "usable"]


@dataclass(frozen=True)
class Scores:
    """Scores of many units (slices or scans) by many columns.

    Attributes
    ----------
    units : DataFrame
        One row a unit: ``participant_id group pathology subtype patient has_lesion_mask`` and, for slices,
        ``z brain_pixels lesion_pixels usable``.
    columns : list of (method, score, seed)
    matrix : ndarray
        Shape (units, columns); NaN where a unit has no score.
    """

    units: pd.DataFrame
    columns: list[Column]
    matrix: NDArray[np.float64]


def column_name(column: Column) -> str:
    """Return a column's name in ``slices.parquet``; a method's and a score's name have no stroke, a seed's may."""
    return "/".join(column)


def _order(column: Column) -> tuple[int, int, str, str, int, str]:
    """Registry's order; names it does not know come after, alphabetically."""
    method, score, seed = column
    methods, scores = [*METHODS, FUSED, *TRIVIAL], list(SCORES)
    rank = methods.index(method) if method in methods else len(methods)
    place = scores.index(score) if score in scores else len(scores)
    return rank, place, method, score, int(seed) if seed.isdigit() else sys.maxsize, seed


def ordered(columns: Iterable[Column]) -> list[Column]:
    """Return columns in the order in which every table and figure shows them."""
    return sorted(set(columns), key=_order)


def ordered_pathologies(names: Iterable[str]) -> list[str]:
    """Return pathologies in the registry's order, the user's own after them."""
    known = list(PATHOLOGIES)
    return sorted(set(names), key=lambda n: (known.index(n) if n in known else len(known), n))


def read_cohort(collected: str | Path) -> pd.DataFrame:
    """Read ``scans.parquet``.

    Parameters
    ----------
    collected : str or Path
        Folder ``R/evaluate/collected``, written by :mod:`normct.evaluate.collect`.

    Returns
    -------
    DataFrame
        The columns of ``participants.tsv`` as text, ``has_lesion_mask`` as bool, ``verdict``, ``reasons`` (one
        sentence), ``slice_thickness_mm`` (NaN where it was not measured) and ``sha256`` of the source (None where
        there is none). A table without ``patient``, ``subtype``, ``scanner`` or ``age`` gets them, as ``n/a``.
    """
    return pd.read_parquet(Path(collected) / SCANS)


def accepted_test(cohort: pd.DataFrame) -> pd.DataFrame:
    """Return the labelled test scans that quality control did not set aside."""
    keep = (
        (cohort["role"] == "test")
        & (cohort["verdict"] != "fail")
        & cohort["group"].isin(["healthy", "abnormal"])
    )
    return cohort[keep].reset_index(drop=True)


def _nothing() -> Scores:
    return Scores(pd.DataFrame(), [], np.zeros((0, 0)))


def read_slice_scores(
    collected: str | Path,
    scans: pd.DataFrame,
    slices: str = "usable",
    only: Callable[[Column], bool] | None = None,
) -> Scores:
    """Read the slice scores of ``scans`` from ``slices.parquet``.

    Parameters
    ----------
    collected : str or Path
        Folder ``R/evaluate/collected``.
    scans : DataFrame
        From :func:`accepted_test`.
    slices : {"usable", "all"}
        ``all`` repeats the thesis's counting: the blank slices of the 155 too.
    only : callable, optional
        Which columns to read; all of them by default.
    """
    with pq.ParquetFile(Path(collected) / SLICES) as file:
        columns = [tuple(name.split("/", 2)) for name in file.schema_arrow.names if "/" in name]
        columns = [column for column in columns if only is None or only(column)]
        units = file.read(columns=["participant_id", *_SLICE], use_threads=False).to_pandas()
        place = pd.Index(scans["participant_id"]).get_indexer(units["participant_id"])
        keep = (place >= 0) & (units["usable"].to_numpy() | (slices == "all"))
        if not keep.any():
            return _nothing()
        matrix = np.empty((keep.sum(), len(columns)))
        known = np.ones(len(columns), bool)
        # one column at a time: the matrix is the only copy of all of them
        for i, column in enumerate(columns):
            values = file.read(columns=[column_name(column)], use_threads=False).column(0)
            matrix[:, i] = values.to_numpy()[keep]
            if values.null_count:
                known[i] = values.is_valid().to_numpy()[keep].any()
    facts = scans[_SCAN].iloc[place[keep]].reset_index(drop=True)
    units = pd.concat([facts, units.loc[keep, _SLICE].reset_index(drop=True)], axis=1)
    if known.all():
        return Scores(units, columns, matrix)
    # nulls only: no scan that is asked for has such a score
    return Scores(units, [c for c, has in zip(columns, known, strict=True) if has], matrix[:, known])


def read_volumes(collected: str | Path) -> pd.DataFrame:
    """Read ``volumes.parquet``: ``participant_id method score seed value uncertainty uncertainty_of``."""
    return pd.read_parquet(Path(collected) / VOLUMES)


def read_volume_scores(collected: str | Path, scans: pd.DataFrame) -> Scores:
    """Read the scan scores of ``scans`` from ``volumes.parquet``."""
    table = read_volumes(collected)
    place = pd.Index(scans["participant_id"]).get_indexer(table["participant_id"])
    table, place = table[place >= 0], place[place >= 0]
    if table.empty:
        return _nothing()
    keys = list(zip(*(table[name] for name in KEY), strict=True))
    columns = ordered(keys)
    at = {column: i for i, column in enumerate(columns)}
    found, rows = np.unique(place, return_inverse=True)
    matrix = np.full((len(found), len(columns)), np.nan)
    matrix[rows, [at[key] for key in keys]] = table["value"].to_numpy(np.float64)
    return Scores(scans[_SCAN].iloc[found].reset_index(drop=True), columns, matrix)
