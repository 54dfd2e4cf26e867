"""Detection by what is to be found and by how it was scanned.

``strata.csv``: lesion volume (atrophy left out), third of the brain, subtype, and pathology of whole scans, each
against all healthy scans (a third: against the same third of them). ``subgroups.csv``: scanner, slice thickness and
age, healthy and abnormal scans of the same subgroup against each other.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from normct.common.cli import run
from normct.common.files import read_json
from normct.common.slices import DEPTH
from normct.evaluate import protocols as pr
from normct.evaluate.aggregate import CALIBRATED, evaluate_protocol, summarise
from normct.evaluate.arguments import command_line
from normct.evaluate.data import (
    Column,
    Scores,
    accepted_test,
    ordered_pathologies,
    read_cohort,
    read_slice_scores,
    read_volume_scores,
)
from normct.evaluate.dice_tables import DIFFUSE
from normct.evaluate.metrics import Counts, draw_patients
from normct.evaluate.operating import threshold_at
from normct.evaluate.tables import write_tables

log = logging.getLogger(__name__)
LESION_ML: dict[str, tuple[float, float]] = {
    "under 1 mL": (0, 1),
    "1 to 5 mL": (1, 5),
    "5 to 20 mL": (5, 20),
    "over 20 mL": (20, np.inf),
}
"""Strata of lesion volume: the thesis claims (7.1) that its combined score catches small anomalies."""
THIRDS = ("base", "centre", "vertex")
"""Thirds of the atlas's 155 slices; the atlas's brain spans all of them."""
BANDS: dict[str, dict[str, tuple[float, float]]] = {
    "slice_thickness_mm": {"under 2 mm": (0, 2), "2 to 4 mm": (2, 4), "4 mm and more": (4, np.inf)},
    "age": {"under 50 years": (0, 50), "50 to 69 years": (50, 70), "70 years and more": (70, np.inf)},
}
SCORED = ("thesis", "trivial", *CALIBRATED)
_MISSING = ("", "n/a")

Part = tuple[str, str, str, NDArray[np.bool_], NDArray[np.bool_]]
"""Kind, stratum, protocol, and which positives and which negatives are in it."""


def is_main(column: Column) -> bool:
    """Return whether the main tables show a score: no parts of a score, no ensembles."""
    return column[1] in SCORED and column[2] != "all"


def main_columns(scores: Scores) -> Scores:
    """Return the scores that the main tables show."""
    keep = [i for i, column in enumerate(scores.columns) if is_main(column)]
    return scores.pick(keep)


def numbers(values: pd.Series) -> NDArray[np.float64]:
    """Return ages or measures as numbers, ``89+`` as 89 and NaN for what is missing."""
    text = values.astype(str).str.rstrip("+")
    return pd.to_numeric(text, errors="coerce").to_numpy(np.float64)


def banded(values: NDArray[np.float64], bands: dict[str, tuple[float, float]]) -> NDArray:
    """Return the name of each value's band, ``n/a`` outside all; the lower end belongs to a band."""
    names = np.full(len(values), "n/a", dtype=object)
    for name, (low, high) in bands.items():
        names[(values >= low) & (values < high)] = name
    return names


def lesion_volumes(slices: Scores) -> dict[str, float]:
    """Return each scan's lesion volume in mL, on usable slices; only of scans with a marked focal lesion.

    The mask of a diffuse pathology marks widened CSF spaces: its volume is no lesion's size.
    """
    units = slices.units
    if not len(units):
        return {}
    marked = units[
        units["has_lesion_mask"] & (units["group"] == "abnormal") & ~units["pathology"].isin(DIFFUSE)
    ]
    totals = marked.groupby("participant_id", observed=True)["lesion_pixels"].sum() / 1000.0
    return {str(sub): float(ml) for sub, ml in totals.items() if ml > 0}


def _of_scans(units: pd.DataFrame, names: Mapping[str, Any]) -> pd.Categorical:
    """Return what each unit's scan is called, named once a scan: of slices there may be a million."""
    scans = units["participant_id"].array
    return pd.Categorical([names[sub] for sub in scans.categories]).take(scans.codes)


def _by_name(kind: str, names: pd.Categorical, order: Sequence[str], protocol: str) -> Iterator[Part]:
    everyone = np.ones(len(names), bool)
    for name in order:
        yield kind, name, protocol, np.asarray(names == name), everyone


def strata_parts(slices: Scores, volumes: Scores) -> Iterator[tuple[Scores, Part]]:
    """Yield every stratum: which positives are in it, and which negatives it is compared with."""
    sizes = lesion_volumes(slices)
    for scores, protocol in ((slices, "slice_healthy"), (volumes, "volume")):
        units = scores.units
        if not len(units):
            continue
        scans = units.drop_duplicates("participant_id").set_index("participant_id")
        ml = banded(np.array([sizes.get(sub, np.nan) for sub in scans.index], np.float64), LESION_ML)
        names = _of_scans(units, dict(zip(scans.index, ml, strict=True)))
        for part in _by_name("lesion_volume", names, list(LESION_ML), protocol):
            yield scores, part
        abnormal = scans[scans["group"] == "abnormal"]
        if protocol == "volume":
            order = ordered_pathologies(abnormal["pathology"])
            for part in _by_name("pathology", units["pathology"].array, order, protocol):
                yield scores, part
        typed = dict.fromkeys(scans.index, "n/a") | {
            row.Index: f"{row.pathology}: {row.subtype}"
            for row in abnormal.itertuples()
            if row.subtype not in _MISSING
        }
        order = sorted(set(typed.values()) - {"n/a"})
        for part in _by_name("subtype", _of_scans(units, typed), order, protocol):
            yield scores, part
        if protocol == "slice_healthy":
            third = np.minimum(units["z"].to_numpy() * 3 // DEPTH, 2)
            for i, name in enumerate(THIRDS):
                yield scores, ("third", name, protocol, third == i, third == i)


def subgroup_parts(slices: Scores, volumes: Scores, scans: pd.DataFrame) -> Iterator[tuple[Scores, Part]]:
    """Yield every subgroup: healthy and abnormal alike are of it."""
    groups = {"scanner": scans["scanner"].to_numpy(object)}
    groups |= {kind: banded(numbers(scans[kind]), bands) for kind, bands in BANDS.items()}
    for kind, found in groups.items():
        of = dict(zip(scans["participant_id"], found, strict=True))
        names = list(BANDS[kind]) if kind in BANDS else sorted(set(found) - set(_MISSING))
        for scores, protocol in ((slices, "slice_healthy"), (volumes, "volume")):
            if not len(scores.units):
                continue
            own = _of_scans(scores.units, of)
            for name in names:
                inside = np.asarray(own == name)
                if inside.any():
                    yield scores, (kind, name, protocol, inside, inside)


def sensitivity(
    scores: Scores, positive: NDArray[np.bool_], healthy: dict[str, Any], target: float
) -> dict[tuple[str, str], float]:
    """Return the share of abnormal scans flagged at the calibration threshold, a method and score, over seeds."""
    found: dict[tuple[str, str], list[float]] = {}
    for index, (method, score, seed) in enumerate(scores.columns):
        source = healthy.get(method, {}).get(score, {}).get(seed, [])
        values = scores.values(index)[positive]
        values = values[~np.isnan(values)]
        if len(source) and len(values):
            limit = threshold_at(np.array(source, float), target)
            found.setdefault((method, score), []).append(float((values > limit).mean()))
    return {key: float(np.mean(values)) for key, values in found.items()}


def rows_of(
    parts: Iterator[tuple[Scores, Part]],
    strata: pr.Strata,
    counts: Counts,
    healthy: dict[str, Any],
    target: float,
) -> list[dict[str, Any]]:
    """Return a row a stratum, method and score."""
    rows: list[dict[str, Any]] = []
    for scores, (kind, stratum, protocol, positives, negatives) in parts:
        classes = pr.classes(scores.units, protocol)
        classes[(classes == pr.POSITIVE) & ~positives] = pr.LEFT_OUT
        classes[(classes == pr.NEGATIVE) & ~negatives] = pr.LEFT_OUT
        code = strata.code(scores.units)
        carriers = np.unique(code[classes == pr.POSITIVE])
        against = np.unique(code[classes == pr.NEGATIVE])
        blocked = pr.judge_intervals(strata, carriers)
        if min(len(carriers), len(against)) == 1:
            who = "healthy" if len(against) == 1 else "abnormal"
            blocked = pr.Intervals(False, f"no interval: one {who} patient only")
        per_seed, samples = evaluate_protocol(scores, classes, protocol, strata, counts)
        flagged = {}
        if protocol == "volume":
            flagged = sensitivity(scores, classes == pr.POSITIVE, healthy, target)
        for row in summarise(per_seed, samples, blocked) if per_seed else []:
            row |= {"kind": kind, "stratum": stratum, "protocol": protocol}
            row |= {"n_patients": len(carriers), "n_healthy_patients": len(against)}
            if not len(carriers):
                row["note"] = "nothing of this kind in the cohort"
            row["sensitivity"] = flagged.get((row["method"], row["score"]), float("nan"))
            rows.append(row)
    return rows


_COLUMNS = [
    *("kind", "stratum", "protocol", "method", "score", "n_seeds"),
    *("auroc_mean", "auroc_sd", "auroc_low", "auroc_high", "sensitivity"),
    *("prevalence", "n_pos", "n_neg", "n_patients", "n_healthy_patients", "note"),
]


def evaluate(
    scans: pd.DataFrame,
    slices: Scores,
    volumes: Scores,
    calibration: dict[str, Any],
    settings: dict[str, Any],
) -> dict[str, pd.DataFrame]:
    """Return both tables by file name.

    Parameters
    ----------
    scans : DataFrame
        Accepted test scans.
    slices, volumes : Scores
    calibration : dict
        ``calibration.json``: thresholds of the sensitivity come from its ``healthy`` distributions.
    settings : dict
        ``bootstrap``, ``seed``, ``specificities``; the first of these is the sensitivity's.
    """
    slices, volumes = main_columns(slices), main_columns(volumes)
    strata = pr.make_strata(scans)
    counts = draw_patients(strata.stratum, settings["bootstrap"], settings["seed"])
    result = {}
    for name, parts in (
        ("strata", strata_parts(slices, volumes)),
        ("subgroups", subgroup_parts(slices, volumes, scans)),
    ):
        rows = rows_of(parts, strata, counts, calibration["healthy"], settings["specificities"][0])
        result[name] = pd.DataFrame(rows, columns=_COLUMNS)
    return result


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    p = command_line(
        __doc__,
        "normct.evaluate.strata",
        "collected",
        "calibration",
        settings="slices, bootstrap, seed, specificities",
    )
    args = p.parse_args(argv)
    scans = accepted_test(read_cohort(args.collected))
    slices = read_slice_scores(args.collected, scans, args.settings["slices"], only=is_main)
    volumes = read_volume_scores(args.collected, scans)
    tables = evaluate(scans, slices, volumes, read_json(args.calibration), args.settings)
    write_tables(args.out, tables)
    log.info("%d rows of strata, %d of subgroups", *(len(table) for table in tables.values()))


if __name__ == "__main__":
    run(main)
