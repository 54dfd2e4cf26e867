"""Whether a score says where a slice lies, how large it is, or how it was scanned; and whether scans leak.

``confound.csv``: on healthy test slices, how much of each score slice position and brain area explain, in
patients left out of the fit; among healthy test scans, whether a score tells scanners or slice thickness apart;
and whether acquisition alone tells abnormal from healthy scans. ``leaks.csv``: patients and files in two uses.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from normct.common.cli import run
from normct.evaluate import protocols as pr
from normct.evaluate.arguments import command_line
from normct.evaluate.data import Scores, accepted_test, read_cohort, read_slice_scores, read_volume_scores
from normct.evaluate.left_out import LeftOut, r2
from normct.evaluate.metrics import Counts, draw_patients, interval, resampled, totals
from normct.evaluate.strata import is_main, main_columns, numbers
from normct.evaluate.tables import write_csv

log = logging.getLogger(__name__)
FEW = 2
"""Scans on either side below which two groups are not compared."""
_COLUMNS = [
    *("check", "detail", "method", "score", "n_seeds", "value", "value_low", "value_high", "p_value"),
    *("n_group", "n_others", "reason"),
]


def _over_seeds(
    scores: Scores, values: NDArray[np.float64]
) -> Iterator[tuple[dict[str, Any], NDArray[np.intp]]]:
    """Yield a row a method and score, the mean of its seeds' values, and which columns it is of."""
    keys = [(method, score) for method, score, _ in scores.columns]
    for key in dict.fromkeys(keys):
        members = np.array([i for i, other in enumerate(keys) if other == key])
        row = {
            "method": key[0],
            "score": key[1],
            "n_seeds": len(members),
            "value": float(values[members].mean()),
        }
        yield row, members


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
        for row, members in _over_seeds(slices, value):
            samples = np.mean([r2(totals(drawn, found[i])) for i in members], axis=0)
            row["value_low"], row["value_high"] = interval(samples)
            whole = not any(np.isnan(found[i]).any() for i in members)
            reason = "" if whole else "not every slice has this score"
            reason = reason if len(code) > 1 else "fewer than two healthy test patients"
            more = {"check": check, "detail": f"{len(code)} healthy patients", "n_group": int(healthy.sum())}
            rows.append(row | more | {"reason": reason})
    return rows


def tell_apart(
    scores: Scores,
    inside: NDArray[np.bool_],
    keep: NDArray[np.bool_],
    strata: pr.Strata,
    counts: Counts,
) -> Iterator[dict[str, Any]]:
    """Yield how well each score tells scans ``inside`` a group from the others of ``keep``: AUROC, interval, p.

    The p-value is Mann and Whitney's, two-sided and exact in small samples; it takes scans as independent.
    """
    from scipy.stats import mannwhitneyu

    code = strata.code(scores.units)
    values = np.full(len(scores.columns), np.nan)
    low, high, p = values.copy(), values.copy(), values.copy()
    for index in range(len(scores.columns)):
        found = scores.values(index)
        known = keep & ~np.isnan(found)
        own, others = found[known & inside], found[known & ~inside]
        if min(len(own), len(others)) < FEW:
            continue
        test = mannwhitneyu(own, others)
        values[index], p[index] = test.statistic / (len(own) * len(others)), test.pvalue
        sample = resampled(found[known], inside[known], code[known], counts)[0]
        low[index], high[index] = interval(sample)
    for row, members in _over_seeds(scores, values):
        row |= {"value_low": float(low[members].min()), "value_high": float(high[members].max())}
        row |= {"p_value": float(p[members].min()), "n_group": int((keep & inside).sum())}
        row |= {"n_others": int((keep & ~inside).sum())}
        reason = f"fewer than {FEW} scored scans on one side" if np.isnan(row["value"]) else ""
        yield row | {"reason": reason}


def among_healthy(
    volumes: Scores, scans: pd.DataFrame, strata: pr.Strata, counts: Counts
) -> list[dict[str, Any]]:
    """Return whether scores tell scanners, or thick from thin slices, apart among healthy test scans."""
    rows: list[dict[str, Any]] = []
    units = volumes.units
    if not len(units):
        return rows
    healthy = (units["group"] == "healthy").to_numpy(bool)
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
                for row in tell_apart(volumes, own == scanner, named, strata, counts)
            ]
    of = dict(zip(scans["participant_id"], numbers(scans["slice_thickness_mm"]), strict=True))
    thickness = np.array([of[sub] for sub in units["participant_id"]])
    measured = healthy & ~np.isnan(thickness)
    if measured.any():
        middle = float(np.median(thickness[measured]))
        rows += [
            {"check": "slice_thickness", "detail": f"above {middle:.2g} mm against the others", **row}
            for row in tell_apart(volumes, thickness > middle, measured, strata, counts)
        ]
    return rows


def acquisition(volumes: Scores, strata: pr.Strata, counts: Counts) -> list[dict[str, Any]]:
    """Return whether how scans were acquired tells abnormal from healthy ones."""
    keep = [i for i, (method, _, _) in enumerate(volumes.columns) if method == "acquisition"]
    if not keep or not len(volumes.units):
        return []
    part = volumes.pick(keep)
    group = volumes.units["group"].to_numpy(str)
    named = (group == "abnormal") | (group == "healthy")
    found = tell_apart(part, group == "abnormal", named, strata, counts)
    return [{"check": "acquisition", "detail": "abnormal against healthy", **row} for row in found]


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


def evaluate(scans: pd.DataFrame, slices: Scores, volumes: Scores, settings: dict[str, Any]) -> pd.DataFrame:
    """Return ``confound.csv``.

    Parameters
    ----------
    scans : DataFrame
        Accepted test scans.
    slices, volumes : Scores
        Slices: usable ones, for a blank slice has no position to speak of.
    settings : dict
        ``bootstrap`` and ``seed``.
    """
    slices, volumes = main_columns(slices), main_columns(volumes)
    strata = pr.make_strata(scans)
    counts = draw_patients(strata.stratum, settings["bootstrap"], settings["seed"])
    rows = acquisition(volumes, strata, counts) + explained(slices, strata, counts)
    return pd.DataFrame(rows + among_healthy(volumes, scans, strata, counts), columns=_COLUMNS)


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    p = command_line(__doc__, "normct.evaluate.confound", "collected", settings="bootstrap, seed")
    args = p.parse_args(argv)
    cohort = read_cohort(args.collected)
    scans = accepted_test(cohort)
    slices = read_slice_scores(args.collected, scans, only=is_main)
    table = evaluate(scans, slices, read_volume_scores(args.collected, scans), args.settings)
    write_csv(args.out / "confound.csv", table)
    write_csv(args.out / "leaks.csv", leaks(cohort))
    log.info("%d rows", len(table))


if __name__ == "__main__":
    run(main)
