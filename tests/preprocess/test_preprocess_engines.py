"""The BET engines through nipype: real programs, and stand-ins for FSL's that work, fail silently or hang."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from factories import make_head
from normct.common.volumes import Volume, write_volume
from normct.preprocess import skullstrip, skullstrip_engines
from normct.preprocess.engine_morphology import extract as morphology
from normct.preprocess.resample import resample_head
from normct.preprocess.skullstrip_engines import EngineError, engine_faults

SETTINGS = {
    "engine": "fsl", "hu_range": [0, 100], "smooth_mm": 1.0, "fractional_intensity": 0.01, "timeout_s": 120
}  # fmt: skip
NIIMATH = skullstrip_engines.niimath()
needs_niimath = pytest.mark.skipif(NIIMATH is None, reason="niimath is not installed (normct[bet])")


@pytest.fixture(scope="module")
def head() -> Volume:
    return resample_head(make_head()[0])


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder in front on PATH; no FSL of the machine's own."""
    folder = tmp_path / "bin"
    folder.mkdir()
    plain = [p for p in os.environ["PATH"].split(":") if not (Path(p) / "bet").exists()]
    monkeypatch.setenv("PATH", ":".join([str(folder), *plain]))
    monkeypatch.delenv("FSLOUTPUTTYPE", raising=False)
    return folder


def program(folder: Path, name: str, body: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * (a & b).sum() / (a.sum() + b.sum())


@needs_niimath
def test_fsl_recipe_runs_through_nipype(programs: Path, head: Volume, tmp_path: Path):
    mask = morphology(head, (0, 100))
    nib.save(nib.Nifti1Image(mask.astype(np.float32), head.affine), tmp_path / "brain.nii")
    calls = tmp_path / "calls.txt"
    program(programs, "fslmaths", f'echo "fslmaths $FSLOUTPUTTYPE $@" >> {calls}; exec {NIIMATH} "$@"')
    # a bet that knows the answer: the smoothed image it is given, within that brain
    program(programs, "bet", f'echo "bet $FSLOUTPUTTYPE $@" >> {calls}; '
            f'exec {NIIMATH} "$1" -mas {tmp_path}/brain.nii "$2"')  # fmt: skip
    found = skullstrip.brain_mask(head, SETTINGS)
    assert dice(found, mask) > 0.99
    lines = calls.read_text().splitlines()
    assert [line.split()[0] for line in lines] == ["fslmaths", "fslmaths", "fslmaths", "bet", "fslmaths"]
    assert all(line.split()[1] == "NIFTI" for line in lines)
    assert "-thr 0 -uthr 100" in lines[0]
    assert "-s 1 -mas" in lines[2]
    assert "-f 0.01" in lines[3]
    assert "-fillh" in lines[4]


@needs_niimath
@pytest.mark.slow
def test_fsl_with_a_working_bet_behind_its_command_line(programs: Path, head: Volume):
    pytest.importorskip("brainextractor", reason="brainextractor is not installed (normct[bet])")
    program(programs, "fslmaths", f'exec {NIIMATH} "$@"')
    program(programs, "bet", f'exec {sys.executable} -m normct.preprocess.engine_brainextractor "$@"')
    found, record = skullstrip.strip(head, SETTINGS)
    assert record["engine"] == "fsl"
    assert record["reason"] is None
    assert dice(found, morphology(head, (0, 100))) > 0.9


@needs_niimath
def test_bet_that_writes_nothing_fails_the_job(programs: Path, head: Volume):
    program(programs, "fslmaths", f'exec {NIIMATH} "$@"')
    program(programs, "bet", "exit 0")
    with pytest.raises(EngineError, match="wrote no output"):
        skullstrip.brain_mask(head, SETTINGS)


def test_fslmaths_that_writes_nothing_fails_the_job(programs: Path, head: Volume):
    program(programs, "fslmaths", "exit 0")
    program(programs, "bet", "exit 0")
    with pytest.raises(EngineError, match="fslmaths ended without an error but wrote no output"):
        skullstrip.brain_mask(head, SETTINGS)


@needs_niimath
def test_bet_that_writes_an_empty_mask_is_a_verdict(programs: Path, head: Volume):
    program(programs, "fslmaths", f'exec {NIIMATH} "$@"')
    program(programs, "bet", f'exec {NIIMATH} "$1" -mul 0 "$2"')
    mask, record = skullstrip.strip(head, SETTINGS)
    assert not mask.any()
    assert record["reason"] == "Skull stripping found no brain."


@needs_niimath
def test_bet_that_keeps_a_crumb_is_a_verdict(programs: Path, head: Volume):
    program(programs, "fslmaths", f'exec {NIIMATH} "$@"')
    i, j, k = (n // 2 for n in head.data.shape)
    program(programs, "bet", f'exec {NIIMATH} "$1" -roi {i} 20 {j} 20 {k} 20 0 1 "$2"')
    mask, record = skullstrip.strip(head, SETTINGS)
    assert not mask.any()
    assert "which is no brain" in record["reason"]
    assert record["brain_volume_ml"] < 100


@needs_niimath
def test_bet_that_hangs_is_stopped_with_what_it_started(programs: Path, head: Volume, tmp_path: Path):
    program(programs, "fslmaths", f'exec {NIIMATH} "$@"')
    program(programs, "bet", f"sleep 300 & echo $! > {tmp_path}/child; wait")
    start = time.monotonic()
    with pytest.raises(EngineError, match="longer than 5 s"):
        skullstrip.brain_mask(head, SETTINGS | {"timeout_s": 5})
    assert time.monotonic() - start < 60
    child = Path("/proc", (tmp_path / "child").read_text().strip())
    for _ in range(50):
        if not child.exists() or "(zombie)" in (child / "status").read_text():
            break
        time.sleep(0.1)
    else:
        pytest.fail("what bet started is still running")


@needs_niimath
def test_bet_that_fails_says_so_without_a_path(programs: Path, head: Volume):
    program(programs, "fslmaths", f'exec {NIIMATH} "$@"')
    program(programs, "bet", "echo broken >&2; exit 3")
    with pytest.raises(EngineError, match="bet failed") as caught:
        skullstrip.brain_mask(head, SETTINGS)
    assert "/" not in str(caught.value)


def test_missing_programs_are_named_with_a_remedy(programs: Path, head: Volume):
    (fault,) = engine_faults("fsl")
    assert "bet and fslmaths" in fault
    assert "morphology" in fault
    program(programs, "fslmaths", "exit 0")
    assert "needs bet on PATH" in engine_faults("fsl")[0]
    with pytest.raises(EngineError, match="needs bet on PATH"):
        skullstrip.brain_mask(head, SETTINGS)


def test_missing_extra_names_the_command(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(skullstrip_engines, "find_spec", lambda name: None)
    assert "pip install 'normct[bet]'" in engine_faults("brainextractor")[0]


def test_unknown_engine_and_morphology():
    assert "known: fsl, brainextractor, morphology" in engine_faults("bet2")[0]
    assert engine_faults("morphology") == []


@needs_niimath
@pytest.mark.slow
@pytest.mark.skipif(shutil.which("timeout") is None, reason="timeout (coreutils) is not installed")
def test_brainextractor_engine(head: Volume, tmp_path: Path):
    pytest.importorskip("brainextractor", reason="brainextractor is not installed (normct[bet])")
    write_volume(tmp_path / "head.nii", head)
    names = [str(tmp_path / n) for n in ("head.nii", "brain.nii.gz", "mask.nii.gz", "record.json")]
    skullstrip.main([*names, "--settings", json.dumps(SETTINGS | {"engine": "brainextractor"})])
    found = np.asarray(nib.load(names[2]).dataobj) > 0
    assert dice(found, morphology(head, (0, 100))) > 0.9
