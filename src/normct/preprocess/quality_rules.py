"""What makes a scan pass, need a look, or fail: one table of checks, limits from the configuration.

Each reason says what was measured, the limit, and what it may mean.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

RANK = {"fail": 0, "warn": 1, "pass": 2}
"""Verdicts, worst first."""

Finding = tuple[str, str]


def _volume(m: dict[str, Any], s: dict[str, Any]) -> Iterator[Finding]:
    value = m["brain_volume_ml"]
    for verdict in ("fail", "warn"):
        low, high = s["volume_ml"][verdict]
        if value < low:
            yield (
                verdict,
                (
                    f"Brain volume is {value:.0f} mL, below {low:.0f} mL: part of the brain may be missing, "
                    f"from the scan or from the skull strip."
                ),
            )
        elif value > high:
            yield (
                verdict,
                (
                    f"Brain volume is {value:.0f} mL, above {high:.0f} mL: a large head, or the skull strip took "
                    f"in other tissue, such as neck."
                ),
            )
        else:
            continue
        return


def _components(m: dict[str, Any], s: dict[str, Any]) -> Iterator[Finding]:
    if m["components"] > s["max_components"]:
        yield "warn", f"The brain mask is in {m['components']} parts; one is expected."


def _median(m: dict[str, Any], s: dict[str, Any]) -> Iterator[Finding]:
    low, high = s["median_hu"]
    if not low <= m["median_hu"] <= high:
        yield (
            "fail",
            (
                f"Median density inside the mask is {m['median_hu']:.0f} HU; brain without contrast lies "
                f"between {low:.0f} "
                f"and {high:.0f} HU. This may not be brain, or the HU scale is wrong."
            ),
        )


def _at_least(
    key: str, sentence: str, setting: str | None = None
) -> Callable[[dict[str, Any], dict[str, Any]], Iterator[Finding]]:
    """Check with two lower limits, ``{warn, fail}``, under the measure's name or ``setting``."""

    def check(m: dict[str, Any], s: dict[str, Any]) -> Iterator[Finding]:
        for verdict in ("fail", "warn"):
            limit = s[setting or key][verdict]
            if limit is not None and m[key] < limit:
                yield verdict, sentence.format(value=m[key], limit=limit)
                return

    return check


def _at_most(key: str, sentence: str) -> Callable[[dict[str, Any], dict[str, Any]], Iterator[Finding]]:
    """Check with two upper limits, ``{warn, fail}``, under the measure's own name in the settings."""

    def check(m: dict[str, Any], s: dict[str, Any]) -> Iterator[Finding]:
        for verdict in ("fail", "warn"):
            limit = s[key][verdict]
            if limit is not None and m[key] > limit:
                yield verdict, sentence.format(value=m[key], limit=limit)
                return

    return check


def _angle(m: dict[str, Any], s: dict[str, Any]) -> Iterator[Finding]:
    for name, what in (("pitch", "nodded"), ("roll", "tilted to one side"), ("yaw", "turned to one side")):
        value = m[f"{name}_deg"]
        if value is not None and abs(value) > s["max_angle_deg"]:
            yield (
                "warn",
                (
                    f"The head is {what} by {abs(value):.0f}° against the atlas ({name}; limit "
                    f"{s['max_angle_deg']:g}°): "
                    "look whether the registration is right."
                ),
            )


CHECKS: tuple[tuple[str, Callable[[dict[str, Any], dict[str, Any]], Iterator[Finding]]], ...] = (
    ("brain_volume_ml", _volume),
    ("components", _components),
    ("median_hu", _median),
    (
        "symmetry",
        _at_least(
            "symmetry",
            "Left and right halves of the brain mask agree by {value:.2f} (limit {limit:g}): brain may be "
            "missing on "
            "one side, or other tissue taken in.",
        ),
    ),
    (
        "border_contact_cm2",
        _at_most(
            "border_contact_cm2",
            "The brain touches the border of the scan over {value:.0f} cm² (limit {limit:g} cm²): part of "
            "it was not "
            "scanned.",
        ),
    ),
    (
        "vertex_in_view",
        _at_least(
            "vertex_in_view", "Only {value:.0%} of the brain's vertex is in the scan (limit {limit:.0%})."
        ),
    ),
    (
        "base_in_view",
        _at_least("base_in_view", "Only {value:.0%} of the brain's base is in the scan (limit {limit:.0%})."),
    ),
    (
        "overlap_share",
        _at_least(
            "overlap_share",
            "Registered brain and atlas overlap by {value:.0%} of what sizes allow (limit {limit:.0%}): "
            "the registration or the brain mask may be wrong.",
            setting="overlap",
        ),
    ),
    (
        "mi",
        _at_least(
            "mi",
            "Likeness of the registered brain to the atlas is {value:.2f} (mutual information; limit "
            "{limit:g}): the "
            "registration may be wrong.",
        ),
    ),
    (
        "mi_lead",
        _at_least(
            "mi_lead",
            "Another pose of the head fits almost as well (within {value:.1%}; limit {limit:.1%}): look "
            "whether the "
            "registration is right.",
        ),
    ),
    (
        "mi_peak",
        _at_least(
            "mi_peak",
            "Turning the head by 10° lowers its likeness to the atlas by {value:.0%} (limit {limit:.0%}: "
            "the registration may be wrong.",
        ),
    ),
    ("pitch_deg", _angle),
    ("noise_hu", _at_most("noise_hu", "Noise is {value:.0f} HU (limit {limit:g} HU).")),
    (
        "slice_thickness_mm",
        _at_most(
            "slice_thickness_mm",
            "Slices are {value:.1f} mm thick (limit {limit:g} mm): small findings are averaged out.",
        ),
    ),
    ("n_slices", _at_least("n_slices", "The scan has {value} slices (limit {limit:g}).")),
)
"""Measure and check, in the order reasons are given; a measure that could not be taken is not judged."""


def judge(measures: dict[str, Any], settings: dict[str, Any]) -> tuple[str, list[str]]:
    """Return the verdict and the reasons, failures first.

    Parameters
    ----------
    measures : dict
        As in ``quality.json``; a missing or null measure is not judged, but a brain without registration
        fails.
    settings : dict
        ``preprocess.quality`` of the configuration.
    """
    findings = [
        f for key, check in CHECKS if measures.get(key) is not None for f in check(measures, settings)
    ]
    if measures.get("mi") is None:
        findings.append(("fail", "There is no registration to the atlas: too little brain was found."))
    findings.sort(key=lambda f: RANK[f[0]])
    verdict = findings[0][0] if findings else "pass"
    return verdict, [sentence for _, sentence in findings]
