"""The thesis's preprocessing of one scan, a step a process: `python -m benchmarks.thesis_chain STEP FOLDER`.

As the thesis describes it (section 4.2): ANTs resampling to 1 mm, BET by the recipe for CT, ANTs's default
rigid registration at 1 mm from one start, gzip level 6 between steps, one NIfTI file a slice. BET is FSL's
where it is installed, else PyPI's brainextractor.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np

from normct.common.volumes import Volume, read_volume, write_volume

RECIPE = {"hu_range": [0, 100], "smooth_mm": 1.0, "fractional_intensity": 0.01, "timeout_s": 600}
LEVEL = 6
STEPS = ("resample", "strip", "register", "slices")


def resample(folder: Path) -> None:
    """Bring the scan to 1 mm."""
    import ants

    image = ants.resample_image(ants.image_read(str(folder / "ct.nii.gz")), (1.0, 1.0, 1.0), False, 0)
    ants.image_write(image, str(folder / "head.nii.gz"))


def strip(folder: Path) -> None:
    """Take the skull off."""
    from normct.preprocess.skullstrip import brain_mask

    head = read_volume(folder / "head.nii.gz")
    engine = "fsl" if shutil.which("bet") and shutil.which("fslmaths") else "brainextractor"
    mask = brain_mask(head, RECIPE | {"engine": engine})
    write_volume(
        folder / "brain.nii.gz", Volume(np.where(mask, head.data, 0.0).astype(np.float32), head.affine), LEVEL
    )


def register(folder: Path) -> None:
    """Register to the atlas with ANTs's defaults, and keep the transform."""
    import ants

    fixed, moving = (ants.image_read(str(folder / name)) for name in ("atlas.nii.gz", "brain.nii.gz"))
    result = ants.registration(fixed, moving, "Rigid")
    ants.image_write(result["warpedmovout"], str(folder / "registered.nii.gz"))
    shutil.copyfile(result["fwdtransforms"][0], folder / "thesis.mat")


def slices(folder: Path) -> None:
    """Write one NIfTI file a slice, windowed and 128×128."""
    from PIL import Image

    registered = read_volume(folder / "registered.nii.gz")
    out = folder / "slices"
    out.mkdir(exist_ok=True)
    for k in range(registered.data.shape[2]):
        plane = np.clip(registered.data[:, :, k] / 80.0, 0, 1)
        small = np.asarray(Image.fromarray(plane).resize((128, 128), Image.Resampling.BILINEAR))
        write_volume(out / f"slice-{k:03d}.nii.gz", Volume(small[:, :, None], registered.affine), LEVEL)


if __name__ == "__main__":
    {"resample": resample, "strip": strip, "register": register, "slices": slices}[sys.argv[1]](
        Path(sys.argv[2])
    )
