"""What made a result: versions of the libraries that matter, and the commit of the code; no host, path or time."""

from __future__ import annotations

import platform
import re
import subprocess
from importlib import metadata
from pathlib import Path

LIBRARIES = ("normct", "torch", "numpy", "scipy", "antspyx", "nibabel", "nipype", "safetensors", "snakemake")


def versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries that decide what is computed."""
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def git_commit() -> str | None:
    """Return the commit of this code, ``-dirty`` when it was changed since; None outside a checkout."""
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
    commit = done.stdout.strip()
    return commit if re.fullmatch("[0-9a-f]{40,64}(-dirty)?", commit) else None
