"""What a bundle cannot see, as far as its evaluation shows it, as sentences for its model card."""

from __future__ import annotations

from normct.common.registry import PATHOLOGIES, label
from normct.score.card_tables import OTHERS, Group, Row, Shown, auroc, count, groups, number, scanners

WEAK = 0.7
"""AUROC under which what was to be found is called a blind spot."""
CHANCE = 0.5
FEW_PATIENTS = 10
APART = (0.3, 0.7)
"""AUROC among healthy scans outside which a score tells scanners or slice thickness apart, as the report has it."""
_CHECKS = {
    "scanner": "Healthy scans of {scanner} score {{way}} than the others",
    "slice_thickness": "Healthy scans with slices {what} score {{way}} than the others",
    "transfer": "Healthy test scans score {{way}} than the calibration scans, which thresholds come from",
}
SURE = 0.05
"""p below which acquisition alone separates abnormal from healthy scans, as the report has it."""


def _weak(group: Group) -> str:
    """Return why what was to be found is a blind spot, or nothing."""
    parts, chance = [], []
    for words, row in (("slices", group.slices), ("whole scans", group.scans)):
        value, low = number(row, "auroc_mean"), number(row, "auroc_low")
        unsure = low is not None and low < CHANCE
        if value is not None and (value < WEAK or unsure):
            parts.append(f"{words} {auroc(row)}")
            chance += [words] if unsure else []
    if not parts:
        return ""
    text = f"{group.name}: {', '.join(parts)}"
    if chance:
        text += (
            f"; not shown to be better than chance{' on ' + chance[0] if len(chance) < len(parts) else ''}"
        )
    return f"{text}."


def _compared(row: Row, value: float) -> str:
    """Return what a row of ``confound.csv`` found, p corrected over the comparisons where the table has it."""
    low, high = number(row, "value_low"), number(row, "value_high")
    text = f"AUROC {value:.2f}"
    text += f" ({low:.2f} to {high:.2f})" if low is not None and high is not None else ""
    text += f"; {count(row, 'n_group')} against {count(row, 'n_others')} scans"
    holm, p = number(row, "p_holm"), number(row, "p_value")
    if holm is not None:
        return f"{text}; p = {holm:.2g}, corrected over the comparisons"
    return text if p is None else f"{text}; p = {p:.2g}"


def _apart(found: Shown) -> list[str]:
    """Return scanners, slice thicknesses and whole cohorts whose healthy scans score apart."""
    numbered = scanners(found)
    said = []
    for row in [row for check in _CHECKS for row in found.rows("confound", check=check)]:
        value = number(row, "value")
        if value is None or APART[0] <= value <= APART[1]:
            continue
        what = row["detail"].removesuffix(OTHERS)
        scanner = f"scanner {numbered.index(what) + 1}" if what in numbered else ""
        who = _CHECKS[row["check"]].format(scanner=scanner, what=what)
        way, so = ("lower", "high") if value < CHANCE else ("higher", "low")
        said.append(
            f"{who.format(way=way)} ({_compared(row, value)}): the common threshold is too {so} for them."
        )
    return said


def _acquired(found: Shown) -> list[str]:
    """Say so where how scans were made separates abnormal from healthy ones."""
    for row in found.rows("acquisition"):
        value, p = number(row, "value"), number(row, "p_value")
        if value is not None and p is not None and p < SURE:
            return [
                "Slice thickness, noise, pitch and registration alone separate abnormal from healthy test scans (AUROC "
                f"{value:.2f}, p = {p:.2g}): the results above may show how a scan was made rather than what is in it."
            ]
    return []


def blind_spots(found: Shown) -> list[str]:
    """Return what is found badly or not shown to be found, what healthy scans score apart, and what was not tested.

    Parameters
    ----------
    found : Shown
        From :func:`normct.score.card_tables.shown`.
    """
    tested = groups(found)
    spots = [text for group in tested if (text := _weak(group))]
    spots += _apart(found) + _acquired(found)
    few = [g.name for g in tested if any(int(n) < FEW_PATIENTS for n in g.patients)]
    if few:
        spots.append(f"Tested on fewer than {FEW_PATIENTS} patients each: {', '.join(few)}.")
    names = {group.name for group in tested}
    untested = [label(p) for p in PATHOLOGIES if label(p) not in names]
    if untested:
        spots.append(f"Not tested at all: {', '.join(untested)}.")
    return spots
