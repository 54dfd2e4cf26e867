"""Skull stripping by BET through nipype: the CT recipe of Muschelli et al. 2015 (NeuroImage 114:379).

One code path for two engines: ``fsl`` runs FSL's ``fslmaths`` and ``bet``; ``brainextractor`` runs PyPI
``niimath`` as fslmaths and PyPI ``brainextractor`` as bet.
"""

from __future__ import annotations

import logging
import shlex
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from normct.common.volumes import Volume, read_volume, write_volume
from normct.preprocess.skullstrip_engines import EngineError, engine_faults, niimath

if TYPE_CHECKING:
    from nipype.interfaces.fsl.base import FSLCommand

STOPPED = (124, 137, -9)  # exit status of timeout, of a killed program, and of a killed timeout
log = logging.getLogger(__name__)


def _programs(engine: str) -> tuple[str, str]:
    """Return the command of fslmaths and of bet."""
    if engine == "fsl":
        return "fslmaths", "bet"
    python = shlex.quote(sys.executable)
    return shlex.quote(niimath() or "niimath"), f"{python} -m normct.preprocess.engine_brainextractor"


def _run(interface: FSLCommand, program: str, out: Path, timeout_s: int) -> None:
    """Run a nipype interface; silent failures (exit status 0 but no output) are failures too."""
    # nipype 1.11 raises on some failures and lets others pass (a non-zero exit status): judge the facts
    runtime = interface.run(cwd=str(out.parent), ignore_exception=True).runtime
    code = getattr(runtime, "returncode", None)
    if code != 0:
        log.error("%s: exit status %s; %s", program, code, getattr(runtime, "stderr", None))
    if code in STOPPED:
        raise EngineError(
            f"{program} took longer than {timeout_s} s, or was killed for memory, and was stopped. "
            "Raise preprocess.skullstrip.timeout_s or the job's memory, or choose engine: morphology"
        )
    if code != 0:
        raise EngineError(
            f"{program} failed (exit status {code}); its words are in the log. Check its installation"
        )
    if not out.is_file() or out.stat().st_size == 0:
        raise EngineError(f"{program} ended without an error but wrote no output. Check its installation")


def extract(
    head: Volume,
    engine: str,
    *,
    hu_range: tuple[float, float],
    smooth_mm: float,
    fraction: float,
    timeout_s: int,
) -> NDArray[np.bool_]:
    """Return the brain mask of a head CT, by BET.

    Parameters
    ----------
    head : Volume
        HU, isotropic, clamped to -1024…3071.
    engine : str
        ``fsl`` or ``brainextractor``.
    hu_range : tuple of float
        Brain tissue in HU.
    smooth_mm : float
        Sigma of the smoothing before BET.
    fraction : float
        BET's fractional intensity threshold; 0.01 suits CT.
    timeout_s : int
        Seconds each program may take.

    Raises
    ------
    EngineError
        A program is missing, failed, wrote nothing, or took too long. An empty mask is returned, no error.
    """
    faults = engine_faults(engine)
    if faults:
        raise EngineError("\n".join(faults))
    from nipype.interfaces import fsl

    maths, bet = _programs(engine)
    # timeout (coreutils) also stops what the programs started; nipype itself can wait for ever
    limit = f"timeout --kill-after=10 {timeout_s} "
    with tempfile.TemporaryDirectory(prefix="normct-bet-") as folder:
        work = Path(folder)
        write_volume(work / "head.nii", Volume(head.data.astype(np.float32), head.affine))

        def calculate(source: str, operations: str, target: str) -> None:
            # output_type sets FSLOUTPUTTYPE, without which the name and the file's suffix can differ
            command = fsl.maths.MathsCommand(
                command=limit + maths, in_file=str(work / source), args=operations,
                out_file=str(work / target), output_type="NIFTI",
            )  # fmt: skip
            _run(command, maths.split("/")[-1], work / target, timeout_s)

        low, high = hu_range
        calculate("head.nii", f"-thr {low:g} -uthr {high:g}", "tissue.nii")
        calculate("tissue.nii", "-bin -fillh", "within.nii")
        calculate(
            "tissue.nii", f"-s {smooth_mm:g} -mas {shlex.quote(str(work / 'within.nii'))}", "smooth.nii"
        )
        command = fsl.BET(
            command=limit + bet, in_file=str(work / "smooth.nii"), out_file=str(work / "bet.nii"),
            frac=fraction, output_type="NIFTI",
        )  # fmt: skip
        _run(command, "bet" if engine == "fsl" else "brainextractor", work / "bet.nii", timeout_s)
        if not read_volume(work / "bet.nii").data.any():  # niimath fills no holes of nothing
            return np.zeros(head.data.shape, bool)
        calculate("bet.nii", "-bin -fillh", "mask.nii")
        mask = read_volume(work / "mask.nii")
    if mask.data.shape != head.data.shape:
        raise EngineError(f"{engine} wrote a mask of another shape than the image. Check its installation")
    return mask.data > 0.5
