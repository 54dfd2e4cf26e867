"""Register one skull-stripped brain rigidly to the atlas's brain.

The pose is searched from many starts (:mod:`normct.preprocess.pose`), then refined by ANTs: rigid, Mattes
mutual information, on 2 mm copies. Deterministic: no random numbers in the search, ANTs seeded, one ITK
thread.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.machinery import PathFinder
from typing import Any

import numpy as np
from numpy.typing import NDArray

from normct.common.cli import parser, run
from normct.common.files import write_json
from normct.common.geometry import angles_deg, read_transform, resample, write_transform
from normct.common.volumes import Volume, crop, read_volume, write_volume
from normct.preprocess.pose import (
    FINE_MM,
    MutualInformation,
    Pose,
    block_mean,
    centre_of_mass,
    peak,
    search,
    tissue,
)

LEAST_ML = 50.0
"""A mask smaller than this holds no brain to register (a scan set aside, or a failed skull strip)."""
SEED = 42
ANTS_LIBRARY = "ants.lib"


@dataclass(frozen=True)
class Registration:
    """What is known of a registration; null where none was made.

    Attributes
    ----------
    mi, runner_up_mi : float or None
        Mutual information in nats of the pose, and of the best end of the search in another basin (None: no
        other).
    mi_peak : float or None
        Least share of ``mi`` lost by a turn of 10° about any axis (:func:`normct.preprocess.pose.peak`).
    pitch_deg, roll_deg, yaw_deg : float or None
        Rotation of the scan against the atlas, about x, y and z.
    translation_mm : list of float or None
        Where the atlas brain's centre of mass goes, relative to itself, RAS+.
    overlap_dice : float or None
        Dice of the registered brain mask and the atlas mask.
    """

    mi: float | None = None
    runner_up_mi: float | None = None
    mi_peak: float | None = None
    pitch_deg: float | None = None
    roll_deg: float | None = None
    yaw_deg: float | None = None
    translation_mm: list[float] | None = None
    overlap_dice: float | None = None


def register(
    brain: Volume,
    mask: Volume,
    target: Volume,
    target_mask: Volume,
    *,
    pitch_starts: Sequence[float] = (-30, -15, 0, 15, 30),
    side_starts: Sequence[float] = (-15, 15),
) -> tuple[NDArray[np.float64], Registration]:
    """Register a brain rigidly.

    Parameters
    ----------
    brain, mask : Volume
        The stripped brain in HU (1 mm, own pose) and its mask, on one grid.
    target, target_mask : Volume
        What to register to, on the atlas grid.
    pitch_starts, side_starts : sequence of float
        Starting angles in degrees; see :func:`normct.preprocess.pose.search`.

    Returns
    -------
    matrix : ndarray
        Shape (4, 4), RAS+ mm: target point to native point. The identity when there is no brain.
    record : Registration
        Measures, null when there is no brain.
    """
    if (mask.data > 0).sum() * mask.voxel_ml < LEAST_ML:
        return np.eye(4), Registration()
    fixed, fixed_mask = two_mm(target, target_mask)
    moving, moving_mask = two_mm(brain, mask)
    metric = MutualInformation(fixed, moving, fixed_mask, FINE_MM)
    start, runner_up = search(
        fixed, fixed_mask, moving, moving_mask, metric, pitch_starts=pitch_starts, side_starts=side_starts
    )
    matrix = improved(fixed, moving, start.matrix, metric).matrix
    return matrix, describe(
        metric, matrix, fixed_mask, moving_mask, None if runner_up is None else runner_up.mi
    )


def improved(fixed: Volume, moving: Volume, start: NDArray[np.float64], metric: MutualInformation) -> Pose:
    """Refine a pose, and keep it where the refinement is a step back on the given metric.

    ANTs maximises the metric on its own samples: a loss of a hundredth means nothing, more is a failure.
    """
    before, refined = metric(start), refine(fixed, moving, start)
    after = metric(refined)
    return Pose(refined, after) if after >= before - 0.02 else Pose(start, before)


def describe(
    metric: MutualInformation,
    matrix: NDArray[np.float64],
    fixed_mask: Volume,
    moving_mask: Volume,
    runner_up_mi: float | None,
) -> Registration:
    """Measure a pose (fixed point to moving point) against the images of ``metric``."""
    centre = np.append(centre_of_mass(fixed_mask), 1.0)
    pitch, roll, yaw = angles_deg(matrix)
    return Registration(
        mi=metric(matrix),
        runner_up_mi=runner_up_mi,
        mi_peak=peak(metric, matrix, centre[:3]),
        pitch_deg=pitch,
        roll_deg=roll,
        yaw_deg=yaw,
        translation_mm=[float(x) for x in (matrix @ centre - centre)[:3]],
        overlap_dice=overlap(fixed_mask, moving_mask, matrix),
    )


def two_mm(image: Volume, mask: Volume) -> tuple[Volume, Volume]:
    """Return tissue image and mask as 2 mm copies, cut to the brain."""
    inside = mask.data > 0
    image, mask = crop(image, inside), crop(Volume(inside, mask.affine), inside)
    small = block_mean(mask, 2)
    return block_mean(tissue(image, mask), 2), Volume((small.data >= 0.5).astype(np.uint8), small.affine)


def overlap(fixed_mask: Volume, moving_mask: Volume, matrix: NDArray[np.float64]) -> float:
    """Dice of two masks at a pose; the part of the moving one outside the fixed grid counts as missed."""
    there = resample(moving_mask, fixed_mask.data.shape, fixed_mask.affine, matrix, order=0).data > 0
    here = fixed_mask.data > 0
    moving_voxels = (moving_mask.data > 0).sum() * moving_mask.voxel_ml / fixed_mask.voxel_ml
    return float(2 * (here & there).sum() / (here.sum() + moving_voxels))


def refine(fixed: Volume, moving: Volume, start: NDArray[np.float64]) -> NDArray[np.float64]:
    """Refine a pose with ANTs (rigid, Mattes MI, shrink 3), deterministically.

    On 2 mm copies shrink 3 ends as near to the true pose as shrink 2 (synthetic heads: 1.0° and 0.8 mm in the
    mean) in a quarter of the time.

    Returns
    -------
    ndarray
        Shape (4, 4), RAS+ mm, a rotation and a translation to machine precision.

    Raises
    ------
    RuntimeError
        ANTs ended with an error.
    """
    # bare names: ANTs reads commas, brackets and blanks in a path as its own grammar
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        write_volume("fixed.nii", fixed)
        write_volume("moving.nii", moving)
        write_transform("initial.mat", start)
        # what ants.registration(fixed, moving, "Rigid", initial_transform=..., aff_iterations=(100,),
        # aff_shrink_factors=(3,), aff_smoothing_sigmas=(1,)) hands on, without the images it makes beside
        words = [
            "--dimensionality", "3", "-r", "initial.mat",
            "--metric", "mattes[fixed.nii,moving.nii,1,32,regular,0.2]",
            "--transform", "Rigid[0.25]",
            "--convergence", "100", "--smoothing-sigmas", "1", "--shrink-factors", "3",
            "-u", "0", "-z", "1", "--output", "out", "-x", "[NA,NA]",
            "--random-seed", str(SEED), "--float", "1", "--write-composite-transform", "0",
        ]  # fmt: skip
        status = _ants_library().antsRegistration(words)
        if status != 0:
            raise RuntimeError(f"antsRegistration ended with status {status}")
        matrix = read_transform("out0GenericAffine.mat")
    u, _, v = np.linalg.svd(matrix[:3, :3])  # ITK writes with single precision
    matrix[:3, :3] = u @ v
    return matrix


def _ants_library() -> Any:
    """Return ANTs itself, the compiled library of antspyx, without the Python package around it.

    The package imports pandas, statsmodels, scikit-learn and matplotlib, which takes longer than a whole
    registration does.
    """
    # read once, when ITK starts: sums over several threads end in another last digit each time
    os.environ["ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"] = "1"
    if ANTS_LIBRARY in sys.modules:
        return sys.modules[ANTS_LIBRARY]
    package = importlib.util.find_spec("ants")
    spec = None
    if package is not None:
        spec = PathFinder.find_spec(ANTS_LIBRARY, package.submodule_search_locations)
    if spec is None or spec.loader is None:
        raise ModuleNotFoundError("antspyx is not installed: pip install antspyx==0.6.3")
    library = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(library)
    # a later `import ants` finds its library here: two copies in a process would quarrel over types
    sys.modules[ANTS_LIBRARY] = library
    return library


def main(argv: list[str] | None = None) -> None:
    """Command line: ``BRAIN MASK ATLAS ATLAS_MASK OUT_MAT OUT_JSON [options]``."""
    cli = parser(__doc__, "normct.preprocess.register")
    for name in ("brain", "mask", "atlas", "atlas_mask", "out_mat", "out_json"):
        cli.add_argument(name)
    cli.add_argument("--pitch-starts", nargs="+", type=float, default=[-30, -15, 0, 15, 30], metavar="DEG")
    cli.add_argument(
        "--side-starts", nargs="*", type=float, default=[-15, 15], metavar="DEG", help="roll and yaw"
    )
    args = cli.parse_args(argv)
    matrix, record = register(
        read_volume(args.brain, dtype=None),
        read_volume(args.mask, dtype=None),
        read_volume(args.atlas),
        read_volume(args.atlas_mask, dtype=None),
        pitch_starts=args.pitch_starts,
        side_starts=args.side_starts,
    )
    write_transform(args.out_mat, matrix)
    write_json(args.out_json, asdict(record))


if __name__ == "__main__":
    run(main)
