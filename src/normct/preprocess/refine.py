"""The second rigid pass: a brain registered to the atlas, registered to the mean of the training brains.

The measures stay those against the atlas: quality control's limits mean the same with one pass or two.
"""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from normct.common.cli import parser, run
from normct.common.files import read_json, write_json
from normct.common.geometry import read_transform, write_transform
from normct.common.volumes import Volume, read_volume
from normct.preprocess.pose import FINE_MM, MutualInformation, centre_of_mass, distance
from normct.preprocess.register import Registration, describe, improved, two_mm


def second_pass(
    brain: tuple[Volume, Volume],
    mean: tuple[Volume, Volume],
    atlas: tuple[Volume, Volume],
    first: NDArray[np.float64],
    record: Registration,
) -> tuple[NDArray[np.float64], Registration, dict[str, Any]]:
    """Refine a pose against the mean brain, without a search.

    Parameters
    ----------
    brain, mean, atlas : tuple of Volume
        Image in HU and mask: the stripped brain in its own pose; mean brain and atlas on the atlas grid.
    first : ndarray
        Shape (4, 4): atlas point to native point, of the first pass.
    record : Registration
        Of the first pass; all null where there is no brain, which is passed on.

    Returns
    -------
    matrix : ndarray
        Shape (4, 4), with the meaning of ``first``.
    record : Registration
        Measures of the refined pose against the atlas; the runner-up is the first pass's.
    moved : dict
        ``moved_deg``, ``moved_mm`` between the passes, and ``mean_mi`` (nats) against the mean brain; null
        without a brain.
    """
    if record.mi is None:
        return first, record, {"moved_deg": None, "moved_mm": None, "mean_mi": None}
    moving, moving_mask = two_mm(*brain)
    fixed, fixed_mask = two_mm(*mean)
    pose = improved(fixed, moving, first, MutualInformation(fixed, moving, fixed_mask, FINE_MM))
    degrees, mm = distance(first, pose.matrix, centre_of_mass(fixed_mask))
    target, target_mask = two_mm(*atlas)
    metric = MutualInformation(target, moving, target_mask, FINE_MM)
    measured = describe(metric, pose.matrix, target_mask, moving_mask, record.runner_up_mi)
    return pose.matrix, measured, {"moved_deg": degrees, "moved_mm": mm, "mean_mi": pose.mi}


def main(argv: list[str] | None = None) -> None:
    """Refine one scan's pose."""
    cli = parser(__doc__, "normct.preprocess.refine")
    for name in ("brain", "mask", "mean", "mean_mask", "atlas", "atlas_mask", "first_mat", "first_json"):
        cli.add_argument(name)
    cli.add_argument("out_mat")
    cli.add_argument("out_json")
    args = cli.parse_args(argv)
    earlier = read_json(args.first_json)

    def pair(image: str, mask: str) -> tuple[Volume, Volume]:
        return read_volume(image), read_volume(mask, dtype=None)

    matrix, record, moved = second_pass(
        pair(args.brain, args.mask),
        pair(args.mean, args.mean_mask),
        pair(args.atlas, args.atlas_mask),
        read_transform(args.first_mat),
        Registration(**{f.name: earlier[f.name] for f in fields(Registration)}),
    )
    write_transform(args.out_mat, matrix)
    write_json(args.out_json, {**asdict(record), "second_pass": moved})


if __name__ == "__main__":
    run(main)
