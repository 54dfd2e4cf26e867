"""What made a result: versions of the libraries that matter, and the commit of the code; no host, path or time."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from importlib import metadata
from pathlib import Path

LIBRARIES = (
    *("normct", "torch", "numpy", "scipy", "antspyx", "nibabel", "nipype", "safetensors", "snakemake"),
    *("dcm2niix", "pydicom", "highdicom", "pillow"),
)
OPTIONAL = ("brainextractor", "niimath")


def versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries and programs that decide what is computed."""
    found = {"python": platform.python_version()}
    for name in (*LIBRARIES, *OPTIONAL):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            if name not in OPTIONAL:
                found[name] = "not installed"
    # the wheel's version is its program's; without the wheel the system's converts
    if found["dcm2niix"] == "not installed" and (program := shutil.which("dcm2niix")):
        found["dcm2niix"] = dcm2niix_version(program)
    if bet := shutil.which("bet"):
        found["fsl"] = fsl_version(Path(bet).absolute())
    return found


def dcm2niix_version(program: str) -> str:
    """Return what a dcm2niix program says of itself (it ends with status 3), without the ``v``."""
    try:
        done = subprocess.run([program, "-v"], capture_output=True, text=True, check=False, timeout=60)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    match = re.search(r"^v([0-9][0-9.]*[0-9])$", done.stdout, re.MULTILINE)
    return match[1] if match else "unknown"


def fsl_version(bet: Path) -> str:
    """Return FSL's version, which lies in ``etc/fslversion`` of its own tree or of the conda environment."""
    places = [
        Path(tree) for tree in (os.environ.get("FSLDIR"), bet.parents[1], bet.resolve().parents[1]) if tree
    ]
    for place in places:
        path = place / "etc" / "fslversion"
        if path.is_file():
            return path.read_text("utf-8", "replace").strip() or "unknown"
    return "unknown"


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
