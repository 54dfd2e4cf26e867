"""What made a hand-off: versions, settings, checksums; no host, no path, no time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from normct.common.files import sha256
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
