"""The mean of the registered training brains, which a second rigid pass registers every brain to.

A cohort's own mean has its scanner's contrast and its patients' anatomy, and fits better than an atlas of
other heads. Training brains are registered to a mean they helped to make: that moves a pose by a
degree or so, and no score of a training scan is ever used.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from normct.common import cli
from normct.common.anatomy import ATLAS_SHAPE
from normct.common.errors import NormctError
from normct.common.files import read_json
from normct.common.geometry import read_transform
from normct.common.volumes import Volume, read_volume, write_volume
from normct.preprocess.slices import to_atlas

LEAST_OVERLAP = 0.8
"""Dice with the atlas mask below which a first pass may have failed; such a brain would blur the mean."""
log = logging.getLogger(__name__)


def mean_brain(
    brains: Iterable[tuple[Volume, Volume, NDArray[np.float64]]], affine: NDArray[np.float64]
) -> tuple[Volume, Volume, int]:
    """Average registered brains, one in memory at a time.

    Parameters
    ----------
    brains : iterable
        Stripped brain in HU, its mask, and the point transform (atlas to native) of each.
    affine : ndarray
        Of the atlas grid.

    Returns
    -------
    image : Volume
        float32, shape (240, 240, 155): mean HU over the brains that reach a voxel; 0 outside the mask.
    mask : Volume
        uint8: voxels that at least half of the brains reach.
    count : int
        Number of brains.
    """
    total, reached, count = np.zeros(ATLAS_SHAPE, np.float32), np.zeros(ATLAS_SHAPE, np.uint16), 0
    for brain, mask, points in brains:
        hu, inside = to_atlas(brain, mask, points, affine, "linear")
        total += hu
        reached += inside
        count += 1
    within = (2 * reached >= count) & (reached > 0)
    image = np.where(within, total / np.maximum(reached, 1), 0.0).astype(np.float32)
    return Volume(image, affine), Volume(within.astype(np.uint8), affine), count


def usable(record: Path) -> bool:
    """Whether a first pass found a pose to build on."""
    overlap = read_json(record)["overlap_dice"]
    return overlap is not None and overlap >= LEAST_OVERLAP


def main(argv: list[str] | None = None) -> None:
    """Average the training brains; those without a trustworthy first registration are left out."""
    parser = cli.parser(__doc__, "normct.preprocess.mean_brain")
    parser.add_argument("image", type=Path, help="mean_brain.nii.gz to write")
    parser.add_argument("mask", type=Path, help="mean_brain_mask.nii.gz to write")
    parser.add_argument("atlas_mask", type=Path, help="for its grid")
    parser.add_argument(
        "--inputs-file",
        type=Path,
        required=True,
        help="text file: the register_first.json of each scan, a line each",
    )
    args = parser.parse_args(argv)
    records = [Path(line) for line in args.inputs_file.read_text("utf-8").splitlines() if line]
    folders = [record.parent for record in records if usable(record)]
    if not folders:
        raise NormctError(
            "preprocess.register.second_pass: no training brain was registered to the atlas, so there is no "
            "mean brain. Look at the training scans' register_first.json, or set second_pass: false"
        )
    brains = (
        (
            read_volume(folder / "brain.nii.gz", None),
            read_volume(folder / "brain_mask.nii.gz", None),
            read_transform(folder / "native_to_atlas_first.mat"),
        )
        for folder in folders
    )
    image, mask, count = mean_brain(brains, read_volume(args.atlas_mask, None).affine)
    log.info("mean of %d brains, %d left out", count, len(records) - count)
    write_volume(args.image, image)
    write_volume(args.mask, mask)


if __name__ == "__main__":
    cli.run(main)
