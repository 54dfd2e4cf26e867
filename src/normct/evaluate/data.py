"""What evaluation reads: the cohort, verdicts, and scores of the test scans as one matrix."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from normct.common.files import read_json
from normct.common.registry import FUSED, METHODS, PATHOLOGIES, SCORES, TRIVIAL

Column = tuple[str, str, str]
"""Method, score, seed."""

_COLUMNS = ["z", "method", "score", "seed", "value", "brain_pixels", "lesion_pixels", "usable"]


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


def read_cohort(participants: str | Path, preprocess: str | Path) -> pd.DataFrame:
    """Read ``participants.tsv`` and each scan's verdict.

    Parameters
    ----------
    participants : str or Path
        ``R/cohort/participants.tsv``.
    preprocess : str or Path
        Folder ``R/preprocess``, one ``<sub>/quality.json`` a scan.

    Returns
    -------
    DataFrame
        The table's columns as text, ``has_lesion_mask`` as bool, ``verdict``, ``reasons`` (one sentence) and
        ``slice_thickness_mm`` (NaN where it was not measured). A table without ``patient``, ``subtype``,
        ``scanner`` or ``age`` gets them, as ``n/a``.
    """
    table = pd.read_csv(participants, sep="\t", dtype=str, keep_default_na=False)
    table["has_lesion_mask"] = table["has_lesion_mask"].str.lower().isin(["true", "1", "yes"])
    for name in ("patient", "subtype", "scanner", "age"):
        if name not in table:
            table[name] = "n/a"
    unnamed = table["patient"].isin(["", "n/a"])
    table.loc[unnamed, "patient"] = table.loc[unnamed, "participant_id"]
    records = [read_json(Path(preprocess) / sub / "quality.json") for sub in table["participant_id"]]
    table["verdict"] = [record["verdict"] for record in records]
    table["reasons"] = [" ".join(record.get("reasons", [])) for record in records]
    thickness = [record.get("measures", {}).get("slice_thickness_mm") for record in records]
    table["slice_thickness_mm"] = np.array(thickness, np.float64)  # None becomes NaN
    return table


def accepted_test(cohort: pd.DataFrame) -> pd.DataFrame:
    """Return the labelled test scans that quality control did not set aside."""
    keep = (
        (cohort["role"] == "test")
        & (cohort["verdict"] != "fail")
        & cohort["group"].isin(["healthy", "abnormal"])
    )
    return cohort[keep].reset_index(drop=True)


def _stack(blocks: list[tuple[pd.DataFrame, dict[Column, NDArray[np.float64]]]]) -> Scores:
    columns = ordered(column for _, values in blocks for column in values)
    if not blocks:
        return Scores(pd.DataFrame(), columns, np.zeros((0, len(columns))))
    rows = []
    for units, values in blocks:
        empty = np.full(len(units), np.nan)
        rows.append(np.stack([values.get(column, empty) for column in columns], axis=1))
    return Scores(pd.concat([units for units, _ in blocks], ignore_index=True), columns, np.concatenate(rows))


def _unit_rows(scan: Any, n: int) -> dict[str, list[Any]]:
    names = ("participant_id", "group", "pathology", "subtype", "patient", "has_lesion_mask")
    return {name: [getattr(scan, name)] * n for name in names}


def read_slice_scores(folder: str | Path, scans: pd.DataFrame, slices: str = "usable") -> Scores:
    """Read the slice scores of ``scans``.

    Parameters
    ----------
    folder : str or Path
        ``R/score/subjects`` with one ``<sub>.parquet`` a scan, a row a slice, method, score and seed.
    scans : DataFrame
        From :func:`accepted_test`.
    slices : {"usable", "all"}
        ``all`` repeats the thesis's counting: the blank slices of the 155 too.
    """
    blocks: list[tuple[pd.DataFrame, dict[Column, NDArray[np.float64]]]] = []
    for scan in scans.itertuples():
        rows = pd.read_parquet(Path(folder) / f"{scan.participant_id}.parquet", columns=_COLUMNS)
        if slices == "usable":
            rows = rows[rows["usable"].astype(bool)]
        if rows.empty:
            continue
        facts = rows.drop_duplicates("z").sort_values("z")
        z = facts["z"].to_numpy()
        units = pd.DataFrame(_unit_rows(scan, len(z)))
        for name in ("z", "brain_pixels", "lesion_pixels", "usable"):
            units[name] = facts[name].to_numpy()
        values: dict[Column, NDArray[np.float64]] = {}
        for key, group in rows.groupby(["method", "score", "seed"], sort=False, observed=True):
            column = np.full(len(z), np.nan)
            column[np.searchsorted(z, group["z"].to_numpy())] = group["value"].to_numpy(float)
            method, score, seed = key
            values[str(method), str(score), str(seed)] = column
        blocks.append((units, values))
    return _stack(blocks)


def read_volume_scores(folder: str | Path, scans: pd.DataFrame) -> Scores:
    """Read the scan scores of ``scans`` from ``R/score/subjects/<sub>.json``."""
    blocks: list[tuple[pd.DataFrame, dict[Column, NDArray[np.float64]]]] = []
    for scan in scans.itertuples():
        record = read_json(Path(folder) / f"{scan.participant_id}.json")
        values = {
            (str(v["method"]), str(v["score"]), str(v["seed"])): np.array(
                [np.nan if v["value"] is None else float(v["value"])]
            )
            for v in record.get("volumes", [])
        }
        if values:
            blocks.append((pd.DataFrame(_unit_rows(scan, 1)), values))
    return _stack(blocks)
