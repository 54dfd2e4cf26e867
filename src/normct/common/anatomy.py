"""MNI152 anatomy in Hounsfield units, from the tissue maps that nilearn carries (no download).

ICBM 2009a non-linear symmetric template, 1 mm (Fonov et al. 2011), as packaged with nilearn.
"""

from __future__ import annotations

from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from normct.common.nibabel_light import nibabel as nib
from normct.common.volumes import Volume

ATLAS_SHAPE = (240, 240, 155)
"""Atlas grid (x, y, z) at 1 mm; x grows to the patient's right, y forward, z up (RAS+)."""

# HU of the healthy adult brain at 120 kVp, as radiology textbooks give them
HU_CSF, HU_WHITE, HU_GREY = 8.0, 29.0, 37.0


@lru_cache(maxsize=1)
def mni_tissues() -> tuple[dict[str, NDArray[np.float32]], NDArray[np.float64]]:
    """Return the tissue maps and their affine.

    Returns
    -------
    maps : dict of ndarray
        ``t1`` (0 outside the brain), ``gm`` and ``wm`` (probability 0 to 1), each of shape (197, 233, 189), RAS+.
    affine : ndarray
        Shape (4, 4), 1 mm.
    """
    spec = find_spec("nilearn")  # found, not imported: nilearn's import costs seconds
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(
            "nilearn carries the MNI152 tissue maps; install the project's dependencies"
        )
    folder = Path(spec.origin).parent / "datasets" / "data"
    images = {
        t: nib.nifti1.load(folder / f"mni_icbm152_{t}_tal_nlin_sym_09a_converted.nii.gz")
        for t in ("t1", "gm", "wm")
    }
    maps = {name: np.asarray(image.get_fdata(dtype=np.float32)) for name, image in images.items()}
    for name in ("gm", "wm"):
        maps[name] = maps[name] / max(float(maps[name].max()), 1e-6)
    return maps, np.asarray(images["t1"].affine, np.float64)


def atlas_affine() -> NDArray[np.float64]:
    """Affine of the 240×240×155 atlas grid: MNI space, brain centred, z cropped to the brain's 155 slices."""
    maps, affine = mni_tissues()
    lowest = int(np.flatnonzero(maps["t1"].any(axis=(0, 1)))[0])
    start = np.array([(197 - ATLAS_SHAPE[0]) // 2, (233 - ATLAS_SHAPE[1]) // 2, lowest, 1.0])
    result = affine.copy()
    result[:, 3] = affine @ start
    return result


def ct_atlas() -> tuple[Volume, Volume]:
    """Return the default CT-contrast atlas: brain in HU (air outside set to 0) and its mask, on the atlas grid."""
    from normct.common.geometry import resample

    maps, affine = mni_tissues()
    brain = maps["t1"] > 0
    csf = np.clip(1.0 - maps["gm"] - maps["wm"], 0.0, 1.0)
    hu = np.where(brain, maps["gm"] * HU_GREY + maps["wm"] * HU_WHITE + csf * HU_CSF, 0.0).astype(np.float32)
    grid = atlas_affine()
    image = resample(Volume(hu, affine), ATLAS_SHAPE, grid, order=0)
    mask = resample(Volume(brain.astype(np.uint8), affine), ATLAS_SHAPE, grid, order=0)
    return image, mask
