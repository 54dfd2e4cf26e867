"""Real scans: a clinical head does not fail; a physical phantom without a brain fails with a reason."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import yaml

from normct.common.anatomy import ct_atlas
from normct.common.files import write_json
from normct.common.volumes import write_volume
from normct.preprocess import quality, register, resample, skullstrip

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT.parent / "shared" / "data"
SETTINGS = yaml.safe_load((ROOT / "config.yaml").read_text("utf-8"))["preprocess"]
DCM2NIIX = shutil.which("dcm2niix", path=str(Path(sys.executable).parent)) or shutil.which("dcm2niix")


def run_chain(folder: Path, dicom: str, suffix: str) -> dict:
    """From DICOM to quality.json with the stage's own command lines."""
    if not (DATA / dicom).is_dir() or DCM2NIIX is None:
        pytest.skip("the real scans, or dcm2niix, are not here")
    subprocess.run(
        [DCM2NIIX, "-o", str(folder), "-f", "ct", str(DATA / dicom)], check=True, capture_output=True
    )
    image = nib.load(folder / f"ct{suffix}.nii")
    zooms = [float(z) for z in image.header.get_zooms()]
    write_json(folder / "import.json", {"verdict": "ok", "shape": list(image.shape), "zooms_mm": zooms})
    for name, volume in zip(("atlas", "atlas_mask"), ct_atlas(), strict=True):
        write_volume(folder / f"{name}.nii", volume)
    paths = {
        p: str(folder / p) for p in ("brain.nii.gz", "mask.nii.gz", "atlas.nii", "atlas_mask.nii", "t.mat")
    }
    records = {n: str(folder / f"{n}.json") for n in ("import", "skullstrip", "register", "quality")}
    resample.main([str(folder / f"ct{suffix}.nii"), str(folder / "head.nii")])
    strip = [str(folder / "head.nii"), paths["brain.nii.gz"], paths["mask.nii.gz"], records["skullstrip"]]
    skullstrip.main([*strip, "--settings", json.dumps(SETTINGS["skullstrip"])])
    register.main([*paths.values(), records["register"]])
    quality.main(
        [
            *(records["quality"], str(folder / "quality.png"), "--subject", "sub-real"),
            *(f"--{n}-json={records[n]}" for n in ("import", "skullstrip", "register")),
            *(
                f"--brain={paths['brain.nii.gz']}",
                f"--mask={paths['mask.nii.gz']}",
                f"--transform={paths['t.mat']}",
            ),
            *(f"--atlas={paths['atlas.nii']}", f"--atlas-mask={paths['atlas_mask.nii']}"),
            *("--settings", json.dumps(SETTINGS["quality"])),
        ]
    )
    return json.loads((folder / "quality.json").read_text("utf-8"))


@pytest.mark.slow
def test_clinical_head_with_tilted_gantry_is_not_failed(tmp_path):
    record = run_chain(tmp_path, "ge_head_dicom", "_Tilt_Eq_1")
    measures = record["measures"]
    assert record["verdict"] != "fail", record["reasons"]
    assert 1200 < measures["brain_volume_ml"] < 1600
    # read off the scan by eye: chin up by about ten degrees, turned by about twelve
    assert np.allclose([measures[f"{a}_deg"] for a in ("pitch", "roll", "yaw")], (11, -3, -12), atol=5)


@pytest.mark.slow
def test_physical_phantom_without_a_brain_fails_with_a_reason(tmp_path):
    record = run_chain(tmp_path, "philips_phantom_dicom", "")
    assert record["verdict"] == "fail"
    assert record["reasons"]
    assert "brain" in record["reasons"][0]
    assert (tmp_path / "quality.png").stat().st_size > 0
