"""What a bundle reached, as Markdown for its model card."""

from __future__ import annotations

from dataclasses import dataclass

from normct.common.binomial import exact_interval
from normct.common.cautions import RANKING
from normct.score.card_tables import (
    CALIBRATED,
    Group,
    Row,
    Shown,
    auroc,
    count,
    groups,
    markdown,
    number,
    percent,
)

OVERLAP, SMALLEST_ML = 0.1, 0.1
"""When a lesion counts as found, as the evaluation has it (a test compares them)."""


def _found(row: Row | None) -> str:
    """Return lesions found, of how many."""
    share, lesions = number(row, "sensitivity"), number(row, "n_lesions")
    return "–" if share is None or lesions is None else f"{share * lesions:.0f} of {lesions:.0f}"


def _of_groups(found: Shown) -> list[str]:
    overall = {p: found.first("detection_summary", protocol=p) for p in ("slice_healthy", "volume")}
    points = _points(found)
    focal = found.first("froc", subset="focal", false_per_scan=CALIBRATED)
    total = Group("all", "**All**", overall["slice_healthy"], overall["volume"], focal)
    tested = groups(found)
    rows = []
    for group in [total, *tested] if any(overall.values()) else tested:
        patients = "; ".join(group.patients) or "–"
        flagged = number(group.scans, "sensitivity")
        if group is total:
            patients = f"{count(group.scans, 'n_pos')} scans" if group.scans else "–"
            flagged = points[0].sensitivity if points else None
        rows.append(
            [
                group.name,
                patients,
                auroc(group.slices),
                auroc(group.scans),
                percent(flagged),
                _found(group.lesions),
            ]
        )
    rate = number(focal, "false_per_healthy_scan")
    lesions = "lesions found" if rate is None else f"lesions found, {rate:.3g} false a healthy scan"
    return markdown(["to be found", "patients", "slice AUROC", "scan AUROC", "scans flagged", lesions], rows)


@dataclass(frozen=True)
class _Point:
    """An operating point: specificity aimed at, and over seeds what was reached; a row with the counts."""

    target: float
    sensitivity: float | None
    specificity: float | None
    row: Row


def _mean(rows: list[Row], name: str) -> float | None:
    values = [value for row in rows if (value := number(row, name)) is not None]
    return sum(values) / len(values) if values else None


def _points(found: Shown) -> list[_Point]:
    """Return the operating points that were reached on test scans."""
    result = []
    for target in dict.fromkeys(row["target_specificity"] for row in found.rows("operating_points")):
        rows = found.rows("operating_points", target_specificity=target)
        result.append(_Point(float(target), _mean(rows, "sensitivity"), _mean(rows, "specificity"), rows[0]))
    return [point for point in result if point.sensitivity is not None or point.specificity is not None]


def _share(value: float | None, row: Row, of: str) -> str:
    """Return a share of scans with its exact interval, patients as their number as the report has it."""
    n = number(row, f"{of}_patients") or number(row, of)
    if value is None or not n:
        return "–"
    low, high = exact_interval(value * n, int(n))
    return f"{100 * value:.0f} % ({100 * low:.0f} to {100 * high:.0f} %)"


def _operating(found: Shown, warning: list[str]) -> list[str]:
    points = _points(found)
    if not points:
        return []
    first = points[0].row
    notes = [f"{note}." for note in dict.fromkeys(point.row.get("reason") for point in points) if note]
    return [
        "",
        f"Whole scans at the thresholds that {count(first, 'n_calibrate')} healthy calibration scans gave "
        f"({count(first, 'n_abnormal')} abnormal and {count(first, 'n_healthy')} healthy test scans):",
        *warning,
        "",
        *markdown(
            ["specificity aimed at", "sensitivity", "specificity reached", "flags per 100 healthy scans"],
            [
                [
                    percent(point.target),
                    _share(point.sensitivity, point.row, "n_abnormal"),
                    _share(point.specificity, point.row, "n_healthy"),
                    "–" if point.specificity is None else f"{100 * (1 - point.specificity):.0f}",
                ]
                for point in points
            ],
        ),
        *([""] if notes else []),
        *notes,
    ]


def _lesions(found: Shown, warning: list[str]) -> list[str]:
    rows = [row for row in found.rows("froc", subset="focal") if number(row, "sensitivity") is not None]
    if not rows:
        return []
    first = rows[0]
    # the bundle's own threshold first
    rows.sort(key=lambda row: row["false_per_scan"] != CALIBRATED)
    lines = []
    for row in rows:
        own = row["false_per_scan"] == CALIBRATED
        rate = number(row, "false_per_healthy_scan")
        low, high = number(row, "sensitivity_low"), number(row, "sensitivity_high")
        text = percent(number(row, "sensitivity"))
        text += f" ({100 * low:.0f} to {100 * high:.0f} %)" if low is not None and high is not None else ""
        lines.append(
            [
                "the bundle's" if own else f"at most {row['false_per_scan']} false",
                text,
                "–" if rate is None else f"{rate:.3g}",
            ]
        )
    return [
        "",
        f"Lesions found on the map ({count(first, 'n_lesions')} with a focus, in {count(first, 'n_scans')} scans), and "
        f"false findings in {count(first, 'n_healthy')} healthy scans. A lesion is found when one connected region, of "
        f"{SMALLEST_ML} mL or more, overlaps it with at least {OVERLAP} of their union.",
        *warning,
        "",
        *markdown(["threshold of the map", "lesions found", "false findings a healthy scan"], lines),
    ]


def _by_scanner(found: Shown, warning: list[str]) -> list[str]:
    rows = found.rows("subgroups", kind="scanner", protocol="volume")
    if not rows:
        return ["", "By scanner: not known (the table of participants names none, or one only)."]
    return [
        "",
        "Whole scans, by scanner; healthy and abnormal scans of the same one:",
        *warning,
        "",
        *markdown(
            ["scanner", "abnormal patients", "healthy patients", "AUROC"],
            [
                [
                    f"scanner {n}",
                    count(row, "n_patients"),
                    count(row, "n_healthy_patients"),
                    auroc(row),
                ]
                for n, row in enumerate(rows, start=1)
            ],
        ),
    ]


def results(found: Shown, synthetic: bool = False) -> list[str]:
    """Return the card's results, as lines of Markdown.

    Parameters
    ----------
    found : Shown
        From :func:`normct.score.card_tables.shown`.
    synthetic : bool
        Whether the scans were generated: each table then says that patients may rank otherwise.
    """
    warning = ["", f"**{RANKING}**"] if synthetic else []
    overall, points = found.first("detection_summary", protocol="volume"), _points(found)
    healthy, seeds = count(overall, "n_neg"), number(overall, "n_seeds")
    said = [
        f"AUROC of {found.name} with its 95 % interval over patients; 0.5 is chance. Slices with the lesion are compared "
        f"with slices of healthy test scans, whole scans with {'' if healthy == '–' else f'the {healthy} '}healthy ones."
    ]
    if points:
        reached = points[0].specificity
        so = "" if reached is None else f"; so are {percent(1 - reached)} of the healthy"
        said.append(f"Flagged: above the threshold for {percent(points[0].target)} specificity{so}.")
    if any(len(group.patients) > 1 for group in groups(found)):
        said.append("Two numbers of patients: those with a lesion mask; all.")
    if seeds and seeds > 1:
        said.append(f"AUROC and shares are means over {seeds:.0f} seeds; maps are averaged over them first.")
    return [
        " ".join(said),
        *warning,
        "",
        *_of_groups(found),
        *_operating(found, warning),
        *_lesions(found, warning),
        *_by_scanner(found, warning),
    ]
