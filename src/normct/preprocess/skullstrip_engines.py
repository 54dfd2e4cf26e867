"""What each skull-stripping engine needs, checked before any job; light, for the Snakefile imports it."""

from __future__ import annotations

import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

from normct.common.errors import NormctError

ENGINES = ("fsl", "brainextractor", "morphology")


class EngineError(NormctError):
    """An engine that could not do its work (program missing, time-out, no output): the job fails."""


def niimath() -> str | None:
    """Return the niimath program of this Python's environment, which need not be on PATH, or that of PATH."""
    beside = shutil.which("niimath", path=str(Path(sys.executable).parent))
    return beside or shutil.which("niimath")


def engine_faults(engine: str) -> list[str]:
    """Return what is missing to run ``engine``, each with its remedy; an empty list when it can run.

    Parameters
    ----------
    engine : str
        ``preprocess.skullstrip.engine`` of the configuration.
    """
    if engine not in ENGINES:
        return [f"preprocess.skullstrip.engine: '{engine}' is unknown; known: {', '.join(ENGINES)}"]
    faults = []
    if engine == "fsl":
        missing = [name for name in ("bet", "fslmaths") if shutil.which(name) is None]
        if missing:
            faults.append(
                f"preprocess.skullstrip.engine: fsl needs {' and '.join(missing)} on PATH. "
                "Install FSL (https://fsl.fmrib.ox.ac.uk) or load its module, and source etc/fslconf/fsl.sh; "
                "or choose engine: morphology, which needs nothing"
            )
    if engine == "brainextractor" and (find_spec("brainextractor") is None or niimath() is None):
        faults.append(
            "preprocess.skullstrip.engine: brainextractor is not installed. "
            "Install it with: pip install 'normct[bet]'; or choose engine: morphology, which needs nothing"
        )
    if engine in ("fsl", "brainextractor") and shutil.which("timeout") is None:
        faults.append(
            "preprocess.skullstrip.engine: timeout (GNU coreutils) is not on PATH. Install coreutils"
        )
    return faults
