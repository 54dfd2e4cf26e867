"""What made a hand-off: versions, settings, checksums; no host, no path, no time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from normct.common.files import read_json, sha256
from normct.common.provenance import versions

# values that are places on someone's disk
PLACES = {"results_dir", "new", "healthy", "bundle", "participants", "atlas"}


def without_places(config: Any) -> Any:
    """Return the configuration without paths; an own file is noted as given."""
    if not isinstance(config, dict):
        return config
    return {
        key: ("given" if value else None) if key in PLACES else without_places(value)
        for key, value in config.items()
    }


def provenance(settings: dict[str, Any], weights: list[Path], bundle: Path | None) -> dict[str, Any]:
    """Return what made this hand-off: no host, no path, no time."""
    return {
        "versions": versions(),
        "config": without_places(settings["config"]),
        "code": settings["code"],
        "method": settings["method"],
        "score": settings["score"],
        "seeds": settings["seeds"],
        "weights_sha256": {f"{p.parent.parent.name}/{p.parent.name}": sha256(p) for p in sorted(weights)},
        "bundle_sha256": sha256(bundle / "bundle.json") if bundle else None,
    }


def input_sums(cohort: Path, groups: dict[str, list[dict[str, Any]]]) -> dict[str, str | None]:
    """Return each listed scan's hash of its source, set aside and failed ones included; None where none was taken.

    Parameters
    ----------
    cohort : Path
        Folder with ``<sub>/import.json``.
    groups : dict
        ``scored``, ``aside`` and ``failed`` records.
    """
    sums = {}
    for record in (r for name in ("scored", "aside", "failed") for r in groups[name]):
        subject, path = record["participant_id"], cohort / record["participant_id"] / "import.json"
        if "input_sha256" in record:  # what the page was made of
            sums[subject] = record["input_sha256"]
        else:
            sums[subject] = read_json(path).get("sha256") if path.is_file() else None
    return sums
