"""Put the atlas on the grid that all slices are cut from: 240×240×155 at 1 mm, RAS+.

Without ``--image`` the atlas is MNI152 in CT contrast. An atlas of the user's own may lie on any grid and in
any orientation, brain in HU or on another monotone CT scale: registration by mutual information needs its
contrast only.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy import ndimage

from normct.common.anatomy import ATLAS_SHAPE, atlas_affine, ct_atlas
from normct.common.cli import parser, run
from normct.common.errors import ConfigError
from normct.common.geometry import resample
from normct.common.volumes import Volume, read_volume, write_volume

LEAST_INSIDE = 0.98
"""Share of the atlas's brain that must fit on the grid."""
VOLUME_ML = (700.0, 2500.0)


def own_atlas(image: Volume, mask: Volume) -> tuple[Volume, Volume]:
    """Put a user's atlas on the atlas grid.

    World coordinates are kept where the brain fits on the grid (an atlas in MNI space); otherwise the brain
    is moved, without rotation, so that its box is centred and its vertex lies two slices below the top.

    Parameters
    ----------
    image, mask : Volume
        The atlas and its brain mask (above 0 is brain), on one grid.

    Returns
    -------
    image, mask : Volume
        float32, 0 outside the mask; uint8. Shape (240, 240, 155).

    Raises
    ------
    ConfigError
        The two do not fit together, or there is no brain in the mask.
    """
    faults = _faults(image, mask)
    if faults:
        raise ConfigError("preprocess.register.atlas cannot be used:", faults)
    inside = Volume((mask.data > 0).astype(np.uint8), mask.affine)
    grid, points = atlas_affine(), np.eye(4)
    size = inside.data.sum() * inside.voxel_ml
    fitted = resample(inside, ATLAS_SHAPE, grid, points, order=0)
    if fitted.data.sum() / 1000.0 < LEAST_INSIDE * size:
        points[:3, 3] = _box_shift(inside, grid)
        fitted = resample(inside, ATLAS_SHAPE, grid, points, order=0)
    share = fitted.data.sum() / 1000.0 / size
    if share < LEAST_INSIDE:
        raise ConfigError(
            "preprocess.register.atlas cannot be used:",
            [
                f"only {share:.0%} of its brain fits on the 240×240×155 mm grid. Check that the affine is "
                f"in mm and that "
                "the mask ends at the foramen magnum"
            ],
        )
    brain = np.where(inside.data > 0, image.data, 0.0).astype(np.float32)
    data = resample(Volume(brain, image.affine), ATLAS_SHAPE, grid, points, order=1).data
    return Volume(np.where(fitted.data > 0, data, 0.0).astype(np.float32), grid), fitted


def _faults(image: Volume, mask: Volume) -> list[str]:
    if image.data.ndim != 3 or mask.data.ndim != 3:
        return [f"image is {image.data.ndim}-D and mask {mask.data.ndim}-D; both must be 3-D"]
    if image.data.shape != mask.data.shape:
        return [f"image is {image.data.shape} voxels and mask {mask.data.shape}; give both on one grid"]
    if not np.allclose(image.affine, mask.affine, atol=1e-2):
        return ["image and mask have different affines; give both on one grid"]
    faults = []
    inside = mask.data > 0
    size = inside.sum() * mask.voxel_ml
    if not VOLUME_ML[0] <= size <= VOLUME_ML[1]:
        faults.append(
            f"the mask holds {size:.0f} mL; a brain has {VOLUME_ML[0]:.0f} to {VOLUME_ML[1]:.0f} mL. "
            "Check the voxel size and that the mask is of the brain"
        )
    values = image.data[inside]
    if values.size and (not np.isfinite(values).all() or float(np.ptp(values)) == 0.0):
        faults.append("the image is constant or not finite inside the mask")
    return faults


def _box_shift(inside: Volume, grid: np.ndarray) -> np.ndarray:
    """Shift from grid world to the atlas's own: box centred in x and y, vertex two slices below the top."""
    box = ndimage.find_objects(inside.data, max_label=1)[0]
    corners = np.array([[i, j, k, 1.0] for i in _ends(box[0]) for j in _ends(box[1]) for k in _ends(box[2])])
    world = corners @ inside.affine.T
    low, high = world.min(axis=0)[:3], world.max(axis=0)[:3]
    target = (grid @ [ATLAS_SHAPE[0] / 2, ATLAS_SHAPE[1] / 2, ATLAS_SHAPE[2] - 3, 1.0])[:3]
    return np.array([(low[0] + high[0]) / 2, (low[1] + high[1]) / 2, high[2]]) - target


def _ends(span: slice) -> tuple[int, int]:
    return int(span.start), int(span.stop) - 1


def make_atlas(image: str | Path | None, mask: str | Path | None) -> tuple[Volume, Volume]:
    """Return atlas and mask, the user's own where both files are given, else MNI152 in CT contrast."""
    if image is None and mask is None:
        return ct_atlas()
    if image is None or mask is None:
        missing = "image" if image is None else "mask"
        raise ConfigError(
            "preprocess.register.atlas cannot be used:",
            [f"{missing} is missing: an atlas is an image and its brain mask"],
        )
    return own_atlas(_read(image, "image"), _read(mask, "mask"))


def _read(path: str | Path, role: str) -> Volume:
    try:
        volume = read_volume(path)
    except Exception as error:  # nibabel raises many kinds; all mean that the user's file cannot be read
        raise ConfigError(
            "preprocess.register.atlas cannot be used:",
            [f"{role}: {Path(path).name} cannot be read ({type(error).__name__}). Give a NIfTI file"],
        ) from error
    return Volume(np.squeeze(volume.data), volume.affine)


def main(argv: list[str] | None = None) -> None:
    """Command line: ``OUT_IMAGE OUT_MASK [--image I --mask M]``."""
    cli = parser(__doc__, "normct.preprocess.atlas")
    cli.add_argument("out_image")
    cli.add_argument("out_mask")
    cli.add_argument("--image", help="atlas of your own")
    cli.add_argument("--mask", help="its brain mask")
    args = cli.parse_args(argv)
    image, mask = make_atlas(args.image or None, args.mask or None)
    write_volume(args.out_image, image)
    write_volume(args.out_mask, Volume(mask.data.astype(np.uint8), mask.affine))


if __name__ == "__main__":
    run(main)
