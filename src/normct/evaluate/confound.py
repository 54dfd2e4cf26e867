"""Whether a score says where a slice lies, how large it is, or how it was scanned; and whether scans leak.

``confound.csv``: on healthy test slices, how much of each score slice position and brain area explain, in
patients left out of the fit; among healthy test scans, whether a score tells scanners or slice thickness apart;
whether healthy test scans score as the healthy calibration scans did, which thresholds rest on; and whether
acquisition alone tells abnormal from healthy scans. ``leaks.csv``: patients and files in two uses.
"""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from normct.common.cli import run
from normct.common.files import read_json
from normct.evaluate import protocols as pr
from normct.evaluate.aggregate import CALIBRATED
from normct.evaluate.apart import holm, of_score, tell_apart
from normct.evaluate.arguments import command_line
from normct.evaluate.data import (
    Scores,
    accepted_test,
    of_matrix,
    read_cohort,
    read_slice_scores,
    read_volume_scores,
)
from normct.evaluate.left_out import LeftOut, r2
from normct.evaluate.metrics import Counts, draw_patients, interval, totals
from normct.evaluate.strata import is_main, main_columns, numbers
from normct.evaluate.tables import write_csv

log = logging.getLogger(__name__)
_COLUMNS = [
    *("check", "detail", "method", "score", "n_seeds", "value", "value_low", "value_high"),
    *("p_value", "p_holm", "n_group", "n_others", "reason"),
]


def explained(slices: Scores, strata: pr.Strata, counts: Counts) -> list[dict[str, Any]]:
    """Return R² of position and of brain area, a row a method and score.

    Its interval draws patients anew; what is predicted for a patient does not change with the draw.
    """
    rows: list[dict[str, Any]] = []
    units = slices.units
    healthy = (units["group"] == "healthy").to_numpy(bool) if len(units) else np.zeros(0, bool)
    code, patient = np.unique(
        strata.code(units)[healthy] if len(units) else np.zeros(0, np.intp), return_inverse=True
    )
    checks = {"position_r2": "z", "area_r2": "brain_pixels"}
    errors: dict[str, list[NDArray[np.float64]]] = {check: [] for check in checks}
    nothing = np.full((len(code), 2), np.nan)
    splines = {
        check: LeftOut(units[name].to_numpy(np.float64)[healthy], patient)
        for check, name in checks.items()
        if len(code) > 1
    }
    for i in range(len(slices.columns)):
        values = slices.values(i)[healthy]
        complete = not np.isnan(values).any()
        for check, found in errors.items():
            found.append(splines[check].errors(values) if complete and check in splines else nothing)
    drawn = counts[:, code]
    for check, found in errors.items():
        value = np.array([r2(each.sum(axis=0)) if len(code) else np.nan for each in found])
        for (method, score), members in of_score(slices.columns).items():
            row: dict[str, Any] = {"method": method, "score": score, "n_seeds": len(members)}
            row["value"] = float(value[members].mean())
            samples = np.mean([r2(totals(drawn, found[i])) for i in members], axis=0)
            row["value_low"], row["value_high"] = interval(samples)
            whole = not any(np.isnan(found[i]).any() for i in members)
            reason = "" if whole else "not every slice has this score"
            reason = reason if len(code) > 1 else "fewer than two healthy test patients"
            more = {"check": check, "detail": f"{len(code)} healthy patients", "n_group": int(healthy.sum())}
            rows.append(row | more | {"reason": reason})
    return rows


def among_healthy(
    volumes: Scores, scans: pd.DataFrame, strata: pr.Strata, counts: Counts, seed: int
) -> list[dict[str, Any]]:
    """Return whether scores tell scanners, or thick from thin slices, apart among healthy test scans."""
    rows: list[dict[str, Any]] = []
    units = volumes.units
    if not len(units):
        return rows
    healthy, code = (units["group"] == "healthy").to_numpy(bool), strata.code(units)
    own = (
        units["participant_id"]
        .map(dict(zip(scans["participant_id"], scans["scanner"], strict=True)))
        .to_numpy(str)
    )
    named = healthy & ~np.isin(own, ["", "n/a"])
    scanners = sorted(set(own[named]))
    # of two scanners the second says the same with the sign turned
    for scanner in scanners[:1] if len(scanners) == 2 else scanners:
        if 0 < (own[named] == scanner).sum() < named.sum():
            rows += [
                {"check": "scanner", "detail": f"{scanner} against the others", **row}
                for row in tell_apart(volumes, own == scanner, named, code, counts, seed)
            ]
    of = dict(zip(scans["participant_id"], numbers(scans["slice_thickness_mm"]), strict=True))
    thickness = np.array([of[sub] for sub in units["participant_id"]])
    measured = healthy & ~np.isnan(thickness)
    if measured.any():
        middle = float(np.median(thickness[measured]))
        rows += [
            {"check": "slice_thickness", "detail": f"above {middle:.2g} mm against the others", **row}
            for row in tell_apart(volumes, thickness > middle, measured, code, counts, seed)
        ]
    return rows


def acquisition(volumes: Scores, strata: pr.Strata, counts: Counts, seed: int) -> list[dict[str, Any]]:
    """Return whether how scans were acquired tells abnormal from healthy ones."""
    keep = [i for i, (method, _, _) in enumerate(volumes.columns) if method == "acquisition"]
    if not keep or not len(volumes.units):
        return []
    part = volumes.pick(keep)
    group = volumes.units["group"].to_numpy(str)
    named = (group == "abnormal") | (group == "healthy")
    found = tell_apart(part, group == "abnormal", named, strata.code(part.units), counts, seed)
    return [{"check": "acquisition", "detail": "abnormal against healthy", **row} for row in found]


def transfer(
    volumes: Scores, healthy: dict[str, Any], strata: pr.Strata, counts: Counts, seed: int
) -> list[dict[str, Any]]:
    """Return how likely a healthy test scan scores higher than a healthy calibration scan; 0.5 is perfect transfer.

    Parameters
    ----------
    volumes : Scores
        Of the test scans.
    healthy : dict
        Of ``calibration.json``: method → score → seed → list, each scan scored without its own patient. The lists
        do not name scans: each counts as a patient, and the lists of several seeds are paired by rank, which makes
        the seeds agree most and the p-value err to the large side.
    strata, counts, seed
        As for :func:`among_healthy`.
    """
    if not len(volumes.units):
        return []
    place = np.flatnonzero((volumes.units["group"] == "healthy").to_numpy(bool))
    known = {
        column: np.sort(
            np.array(healthy.get(column[0], {}).get(column[1], {}).get(column[2], []), np.float64)
        )
        for column in volumes.columns
    }
    n = max(map(len, known.values()), default=0)
    matrix = np.full((len(place) + n, len(volumes.columns)), np.nan)
    matrix[: len(place)] = volumes.matrix()[place]
    for places in of_score(volumes.columns).values():
        lists = [known[volumes.columns[i]] for i in places]
        # ranks of lists of different lengths are of different scans
        if len({len(values) for values in lists}) == 1:
            matrix[len(place) : len(place) + len(lists[0]), places] = np.stack(lists, axis=1)
    tested = np.arange(len(matrix)) < len(place)
    patients = len(strata.patients)
    code = np.concatenate([strata.code(volumes.units)[place], patients + np.arange(n)]).astype(np.intp)
    # a stream of its own: the test patients' draws must not decide the calibration scans'
    more = draw_patients(np.zeros(n), len(counts), seed + 1)
    rows = tell_apart(
        of_matrix(pd.DataFrame(), volumes.columns, matrix),
        tested,
        np.ones(len(matrix), bool),
        code,
        np.concatenate([counts, more], axis=1),
        seed,
    )
    return [{"check": "transfer", "detail": "healthy test against calibration scans", **row} for row in rows]


def corrected(table: pd.DataFrame) -> pd.Series:
    """Return Holm's p-values, over the comparisons that one question takes.

    Scanners and slice thickness are one question, transfer is another; of each, calibrated and fused scores are one
    family and plain ones another.
    """
    question = table["check"].replace({"slice_thickness": "scanner"})
    result = pd.Series(np.nan, table.index)
    for _, part in table.dropna(subset=["p_value"]).groupby([question, table["score"].isin(CALIBRATED)]):
        result[part.index] = holm(part["p_value"].to_numpy(np.float64))
    return result


def leaks(cohort: pd.DataFrame) -> pd.DataFrame:
    """Return whether a patient, or a file of the same bytes, serves two uses (training, stopping, ...).

    Parameters
    ----------
    cohort : DataFrame
        From :func:`normct.evaluate.data.read_cohort`; files of scans without a hash are not compared.
    """
    rows = []
    used = cohort[cohort["role"] != "unlabelled"]
    for check, column in (("patient", "patient"), ("file", "sha256")):
        groups = [part for _, part in used[used[column].notna()].groupby(column)]
        listed = [
            " and ".join(f"{row.participant_id} ({row.role})" for row in part.itertuples())
            for part in groups
            if len(set(part["role"])) > 1
        ]
        rows.append(
            {"check": check, "n_checked": len(groups), "n_found": len(listed), "found": "; ".join(listed)}
        )
    return pd.DataFrame(rows, columns=["check", "n_checked", "n_found", "found"])


def evaluate(
    scans: pd.DataFrame,
    slices: Scores,
    volumes: Scores,
    calibration: dict[str, Any],
    settings: dict[str, Any],
) -> pd.DataFrame:
    """Return ``confound.csv``.

    Parameters
    ----------
    scans : DataFrame
        Accepted test scans.
    slices, volumes : Scores
        Slices: usable ones, for a blank slice has no position to speak of.
    calibration : dict
        ``calibration.json``: the transfer rows compare with its ``healthy`` distributions.
    settings : dict
        ``bootstrap`` and ``seed``.
    """
    slices, volumes = main_columns(slices), main_columns(volumes)
    strata = pr.make_strata(scans)
    counts = draw_patients(strata.stratum, settings["bootstrap"], settings["seed"])
    seed = settings["seed"]
    rows = acquisition(volumes, strata, counts, seed) + explained(slices, strata, counts)
    rows += among_healthy(volumes, scans, strata, counts, seed)
    rows += transfer(volumes, calibration["healthy"], strata, counts, seed)
    table = pd.DataFrame(rows, columns=_COLUMNS)
    table["p_holm"] = corrected(table)
    return table


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    p = command_line(
        __doc__, "normct.evaluate.confound", "collected", "calibration", settings="bootstrap, seed"
    )
    args = p.parse_args(argv)
    cohort = read_cohort(args.collected)
    scans = accepted_test(cohort)
    slices = read_slice_scores(args.collected, scans, only=is_main)
    volumes = read_volume_scores(args.collected, scans)
    table = evaluate(scans, slices, volumes, read_json(args.calibration), args.settings)
    write_csv(args.out / "confound.csv", table)
    write_csv(args.out / "leaks.csv", leaks(cohort))
    log.info("%d rows", len(table))


if __name__ == "__main__":
    run(main)
