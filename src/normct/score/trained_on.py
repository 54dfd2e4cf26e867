"""What the healthy training scans were like: the range outside of which a new scan is a stranger.

Ranges and short words only, so that a bundle tells nothing of a person or, by name, of a site.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any


def scanner_mark(name: str) -> str:
    """Return a short hash of a scanner's name: enough to tell a known one from a new one."""
    return hashlib.sha256(name.strip().lower().encode()).hexdigest()[:8]


def _range(values: Iterable[Any]) -> list[float] | None:
    known = [float(v) for v in values if isinstance(v, int | float)]
    return [min(known), max(known)] if known else None


def describe(
    acquisitions: list[dict[str, Any]], measures: list[dict[str, Any]], people: dict[str, Any]
) -> dict[str, Any]:
    """Summarise the training scans.

    Parameters
    ----------
    acquisitions : list of dict
        ``acquisition`` of each ``import.json``.
    measures : list of dict
        ``measures`` of each ``quality.json``.
    people : dict
        ``ages`` (numbers) and ``scanners`` (names), as far as the table knows them.

    Returns
    -------
    dict
        ``n``; ``age``, ``slice_thickness_mm``, ``noise_hu`` as [smallest, largest] or None where never known;
        ``kernels``, ``vendors``, ``scanners`` (hashed names), sorted.
    """

    def words(key: str) -> list[str]:
        return sorted({str(a[key]) for a in acquisitions if a.get(key)})

    return {
        "n": len(measures),
        "age": _range(people.get("ages", [])),
        "slice_thickness_mm": _range(m.get("slice_thickness_mm") for m in measures),
        "noise_hu": _range(m.get("noise_hu") for m in measures),
        "kernels": words("kernel"),
        "vendors": words("vendor"),
        "scanners": sorted({scanner_mark(name) for name in people.get("scanners", [])}),
    }
