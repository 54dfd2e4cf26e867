"""What made a hand-off: versions, settings, checksums; no host, no path, no time."""

from __future__ import annotations

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from normct.common.files import sha256

PACKAGES = ("normct", "numpy", "scipy", "nibabel", "torch", "antspyx", "nipype", "snakemake")
# values that are places on someone's disk
PLACES = {"results_dir", "new", "bundle", "participants", "atlas"}


def git_commit() -> str | None:
    """Return the commit of the code, or None outside a checkout; ``-dirty`` when files differ from it."""
    here = Path(__file__)
    git = ["git", "-C", str(here.parent)]
    try:
        # an installed copy may lie inside somebody else's repository
        subprocess.run(
            [*git, "ls-files", "--error-unmatch", here.name], capture_output=True, check=True, timeout=60
        )
        describe = [*git, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
        done = subprocess.run(describe, capture_output=True, text=True, check=True, timeout=60)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that make results."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


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
