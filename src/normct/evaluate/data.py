"""What evaluation reads of the collected tables: the cohort, verdicts, and scores of the test scans."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
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
"""What :mod:`normct.evaluate.scans` writes, and :mod:`normct.evaluate.collect`."""
_SCAN = ["participant_id", "group", "pathology", "subtype", "patient", "has_lesion_mask"]
_SLICE = ["z", "brain_pixels", "lesion_pixels", "usable"]


@dataclass(frozen=True)
class Scores:
    """Scores of many units (slices or scans) by many columns.

    Attributes
    ----------
    units : DataFrame
        One row a unit: ``participant_id group pathology subtype patient has_lesion_mask`` and, for slices,
        ``z brain_pixels lesion_pixels usable``. Names are categories.
    columns : list of (method, score, seed)
    read : callable
        Gives :meth:`values` of a column by its place. Of a million slices only one column is in memory.
    """

    units: pd.DataFrame
    columns: list[Column]
    read: Callable[[int], NDArray[np.float64]]

    def values(self, place: int) -> NDArray[np.float64]:
        """Return the scores of a column, shape (units,); NaN where a unit has none."""
        return self.read(place)

    def pick(self, places: Sequence[int]) -> Scores:
        """Return some columns of the same units."""
        return Scores(self.units, [self.columns[i] for i in places], lambda i: self.read(places[i]))

    def matrix(self) -> NDArray[np.float64]:
        """Return all scores at once, shape (units, columns): for scans, or a few columns."""
        result = np.empty((len(self.units), len(self.columns)))
        for i in range(len(self.columns)):
            result[:, i] = self.read(i)
        return result


def of_matrix(units: pd.DataFrame, columns: list[Column], matrix: NDArray[np.float64]) -> Scores:
    """Return scores that are in memory already, shape (units, columns)."""
    return Scores(units, columns, lambda i: matrix[:, i])


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
        Folder ``R/evaluate/collected``; :mod:`normct.evaluate.scans` writes this table.

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


def _facts(scans: pd.DataFrame, place: NDArray[np.intp]) -> pd.DataFrame:
    """Return what is known of the scan of each unit; a name is kept once, not once a unit."""
    names = dict.fromkeys((name for name in _SCAN if name != "has_lesion_mask"), "category")
    return scans[_SCAN].astype(names).iloc[place].reset_index(drop=True)


def _nothing() -> Scores:
    return of_matrix(pd.DataFrame(), [], np.zeros((0, 0)))


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
    path = Path(collected) / SLICES
    with pq.ParquetFile(path, read_dictionary=["participant_id"]) as file:
        units = file.read(columns=["participant_id", *_SLICE], use_threads=False).to_pandas()
        names = units["participant_id"].cat
        place = pd.Index(scans["participant_id"]).get_indexer(names.categories)[names.codes]
        keep = (place >= 0) & (units["usable"].to_numpy() | (slices == "all"))
        if not keep.any():
            return _nothing()
        named = [tuple(name.split("/", 2)) for name in file.schema_arrow.names if "/" in name]
        columns = [column for column in named if only is None or only(column)]
        columns = [column for column in columns if _has_any(file, column, keep)]
    units = pd.concat([_facts(scans, place[keep]), units.loc[keep, _SLICE].reset_index(drop=True)], axis=1)

    def read(index: int) -> NDArray[np.float64]:
        with pq.ParquetFile(path) as file:
            values = file.read(columns=[column_name(columns[index])], use_threads=False).column(0)
            return values.to_numpy()[keep]

    return Scores(units, columns, read)


def _has_any(file: pq.ParquetFile, column: Column, keep: NDArray[np.bool_]) -> bool:
    """Whether one of the slices has such a score: a column of nulls only is of other scans."""
    place = file.schema_arrow.get_field_index(column_name(column))
    groups = (file.metadata.row_group(i).column(place).statistics for i in range(file.num_row_groups))
    if all(group is not None and group.has_null_count and not group.null_count for group in groups):
        return True
    values = file.read(columns=[column_name(column)], use_threads=False).column(0)
    return bool(values.is_valid().to_numpy()[keep].any())


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
    return of_matrix(_facts(scans, found), columns, matrix)
