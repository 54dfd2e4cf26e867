"""Write the thesis's form of a volume, for other tools: 155 NIfTI files, one a slice."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from normct.common import cli
from normct.common.files import atomic
from normct.common.slices import GRID, SIZE, SliceStore, read_slices
from normct.common.volumes import Volume, read_volume, write_volume


def write_nifti_slices(folder: str | Path, store: SliceStore, affine: NDArray[np.float64]) -> None:
    """Write ``slice-000.nii.gz`` … ``slice-154.nii.gz``: float32 in [0, 1], (128, 128, 1), in atlas space.

    Parameters
    ----------
    folder : str or Path
        Directory to make; left empty for a scan that was set aside.
    store : SliceStore
        The packed slices, ``[z, y, x]``.
    affine : ndarray
        Of the 240×240×155 atlas grid.
    """
    factor = GRID / SIZE
    # pixel centres of the small grid in voxels of the large one: the outer edges coincide
    small = affine @ np.array([
        [factor, 0, 0, (factor - 1) / 2], [0, factor, 0, (factor - 1) / 2], [0, 0, 1, 0], [0, 0, 0, 1.0]
    ])  # fmt: skip
    with atomic(folder) as part:
        part.mkdir()
        for z, image in enumerate(store.image):
            here = small.copy()
            here[:3, 3] += small[:3, 2] * z
            write_volume(part / f"slice-{z:03d}.nii.gz", Volume(image.T[:, :, None].astype(np.float32), here))


def main(argv: list[str] | None = None) -> None:
    """Write one scan's slices as NIfTI files."""
    parser = cli.parser(__doc__, "normct.preprocess.nifti_slices")
    parser.add_argument("npz", type=Path, help="slices.npz")
    parser.add_argument("atlas", type=Path, help="atlas.nii.gz, for its grid")
    parser.add_argument("folder", type=Path, help="directory to write")
    args = parser.parse_args(argv)
    write_nifti_slices(args.folder, read_slices(args.npz), read_volume(args.atlas, None).affine)


if __name__ == "__main__":
    cli.run(main)
