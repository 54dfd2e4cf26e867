"""Cut a registered brain into the 155 axial slices the networks see, and brain and lesion on the 1 mm grid.

Image and masks are each resampled once, from the grid they were made on straight to the atlas grid. Borders
are averaged over brain only, so that neither air nor the zero outside the mask bleeds into the brain's rim.
"""

from __future__ import annotations

import json
import logging
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from normct.common import cli
from normct.common.anatomy import ATLAS_SHAPE
from normct.common.errors import ConfigError
from normct.common.files import atomic, read_json
from normct.common.geometry import read_transform, resample
from normct.common.nibabel_light import nibabel as nib
from normct.common.slices import SIZE, SliceStore, empty_store, write_slices
from normct.common.volumes import Volume, box_of, crop, read_volume

ORDER = {"nearestNeighbor": 0, "linear": 1}
log = logging.getLogger(__name__)


def to_atlas(
    brain: Volume, mask: Volume, points: NDArray[np.float64], affine: NDArray[np.float64], interpolation: str
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Carry a stripped brain to the atlas grid.

    Parameters
    ----------
    brain, mask : Volume
        HU, and 0/1, on one grid.
    points : ndarray
        Shape (4, 4): atlas point to native point, as ``normct.common.geometry.read_transform`` gives it.
    affine : ndarray
        Of the atlas grid.
    interpolation : str
        ``linear`` or ``nearestNeighbor``, of the image; the mask is nearest neighbour always.

    Returns
    -------
    hu : ndarray of float32
        Shape (240, 240, 155), ``[x, y, z]``; 0 outside the brain.
    inside : ndarray of bool
        Same shape.
    """
    inside = carry(mask, points, affine)
    hu = np.zeros(ATLAS_SHAPE[::-1], np.float32)  # slices outermost, as they are stored
    if not inside.any():
        return hu.T, inside
    brain, mask = (crop(volume, mask.data > 0, margin=2) for volume in (brain, mask))
    found = np.argwhere(inside.T)  # at the points of brain alone
    index = np.linalg.inv(brain.affine) @ points @ affine
    place = index[:3, :3] @ found[:, ::-1].T + index[:3, 3:]
    weight = np.ascontiguousarray(mask.data > 0, np.float32)
    values = np.ascontiguousarray(brain.data, np.float32) * weight

    def sample(data: NDArray[np.float32], at: NDArray[np.float64]) -> NDArray[np.float32]:
        return ndimage.map_coordinates(data, at, order=ORDER[interpolation], prefilter=False)

    sampled = sample(values, place)
    # with brain all round the share of brain is 1
    deep = ndimage.minimum_filter(weight, 3)[tuple(np.rint(place).astype(np.intp))] > 0
    sampled[~deep] /= np.maximum(sample(weight, place[:, ~deep]), 1e-3)
    hu[tuple(found.T)] = sampled
    return hu.T, inside


def carry(mask: Volume, points: NDArray[np.float64], affine: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Carry a mask to the atlas grid by nearest neighbour; only the box it can reach is sampled.

    Returns
    -------
    ndarray of bool
        Shape (240, 240, 155).
    """
    there = np.zeros(ATLAS_SHAPE, bool, order="F")  # slices are cut from it
    source = (mask.data > 0).astype(np.uint8)
    if not source.any():
        return there
    corners = np.array([[*c, 1.0] for c in product(*((s.start - 1, s.stop) for s in box_of(source)))])
    reach = (np.linalg.inv(affine) @ np.linalg.inv(points) @ mask.affine @ corners.T)[:3]
    low = np.clip(np.floor(reach.min(axis=1)).astype(int), 0, ATLAS_SHAPE)
    high = np.clip(np.ceil(reach.max(axis=1)).astype(int) + 1, low, ATLAS_SHAPE)
    if (high == low).any():
        return there
    part = affine.copy()
    part[:3, 3] += affine[:3, :3] @ low
    shape = tuple(int(n) for n in (high - low)[::-1])
    near = resample(Volume(source, mask.affine), shape, part[:, [2, 1, 0, 3]], points, 0).data
    there[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] = near.T > 0
    return there


def normalise(
    hu: NDArray[np.float32], inside: NDArray[np.bool_], how: str, window: tuple[float, float]
) -> NDArray[np.float32]:
    """Map HU to [0, 1]; 0 outside the brain.

    Parameters
    ----------
    hu : ndarray
        Shape (155, 240, 240).
    inside : ndarray of bool
        Same shape.
    how : str
        ``window``: fixed HU window. ``volume``, ``slice``: min-max over brain pixels of all slices or each.
    window : tuple of float
        HU mapped to 0 and to 1; used by ``window`` alone.
    """
    axes: tuple[int, ...] | None = None if how == "volume" else (1, 2)
    if how == "window":
        low, high = np.array(window, np.float32)
    else:
        low = np.min(hu, axis=axes, where=inside, initial=np.inf, keepdims=True)
        high = np.max(hu, axis=axes, where=inside, initial=-np.inf, keepdims=True)
        blank = ~np.isfinite(low)
        low, high = np.where(blank, 0.0, low), np.where(blank, 1.0, high)
    return (np.clip((hu - low) / np.maximum(high - low, 1e-6), 0.0, 1.0) * inside).astype(np.float32)


def _shrink(stack: NDArray[np.float32]) -> NDArray[np.float32]:
    """Resize each slice to 128×128 by Pillow's bilinear filter, which is antialiased."""
    size = (SIZE, SIZE)
    return np.stack([np.asarray(Image.fromarray(s).resize(size, Image.Resampling.BILINEAR)) for s in stack])


def shrink(
    image: NDArray[np.float32], inside: NDArray[np.bool_]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Resize slices and brain mask from 240×240 to 128×128.

    Returns
    -------
    image : ndarray of float32
        Shape (n, 128, 128): the mean over brain pixels alone; 0 outside the mask.
    mask : ndarray of bool
        Same shape: at least half brain.
    """
    share = _shrink(inside.astype(np.float32))
    mask = share >= 0.5
    return np.where(mask, _shrink(image * inside) / np.maximum(share, 0.5), 0.0).astype(np.float32), mask


def make_slices(
    subject: str,
    brain: Volume,
    mask: Volume,
    lesion: Volume | None,
    points: NDArray[np.float64],
    *,
    affine: NDArray[np.float64],
    interpolation: str,
    settings: dict[str, Any],
) -> SliceStore:
    """Make the slice store of one scan.

    Parameters
    ----------
    subject : str
        Participant ID.
    brain, mask : Volume
        HU and 0/1, 1 mm, in the scan's own pose.
    lesion : Volume or None
        0/1 on the scan's own grid; not cut to the brain mask, lest a lesion that stripping lost be forgiven.
    points, affine, interpolation
        As :func:`to_atlas` takes them.
    settings : dict
        ``preprocess.slices`` of the configuration.
    """
    hu, inside = to_atlas(brain, mask, points, affine, interpolation)
    hu, inside = hu.transpose(2, 1, 0), inside.transpose(2, 1, 0)
    image, small = shrink(normalise(hu, inside, settings["normalisation"], tuple(settings["window"])), inside)
    marked = np.zeros(inside.shape, bool)
    if lesion is not None:
        marked = carry(lesion, points, affine).transpose(2, 1, 0)
    usable = inside.sum(axis=(1, 2)) >= settings["min_brain_pixels"]
    return SliceStore(subject, image.astype(np.float16), small, inside, marked, usable, lesion is not None)


def write_store(store: SliceStore, npz: str | Path, tsv: str | Path) -> None:
    """Write the packed store and its index table, in slice order."""
    write_slices(npz, store)
    with atomic(tsv) as part:
        columns = store.columns()
        rows = zip(*columns.values(), strict=True)
        part.write_text("".join("\t".join(map(str, row)) + "\n" for row in [columns, *rows]), "utf-8")


def main(argv: list[str] | None = None) -> None:
    """Cut one registered scan into slices; a scan that failed quality control gives an empty store."""
    parser = cli.parser(__doc__, "normct.preprocess.slices")
    for name, text in (
        ("brain", "brain.nii.gz"), ("mask", "brain_mask.nii.gz"), ("transform", "native_to_atlas.mat"),
        ("atlas", "atlas.nii.gz, for its grid"), ("lesion", "lesion mask on the scan's own grid"),
        ("import_json", "import.json"), ("quality", "quality.json"), ("npz", "slices.npz to write"),
        ("tsv", "slices.tsv to write"),
    ):  # fmt: skip
        parser.add_argument(name, type=Path, help=text)
    parser.add_argument("--settings", type=json.loads, required=True, help="preprocess.slices as JSON")
    parser.add_argument("--interpolation", choices=sorted(ORDER), default="linear", help="of the image")
    args = parser.parse_args(argv)
    quality = read_json(args.quality)
    subject = quality["participant_id"]
    if quality["verdict"] == "fail":
        log.info("%s: set aside by quality control, no slices", subject)
        write_store(empty_store(subject), args.npz, args.tsv)
        return
    atlas = nib.Nifti1Image.from_filename(args.atlas)  # its header alone
    if atlas.shape != ATLAS_SHAPE:
        raise ConfigError("The atlas does not fit:", [f"its grid is {atlas.shape}, not {ATLAS_SHAPE}"])
    store = make_slices(
        subject,
        read_volume(args.brain, None),
        read_volume(args.mask, None),
        read_volume(args.lesion, None) if read_json(args.import_json)["has_lesion_mask"] else None,
        read_transform(args.transform),
        affine=np.asarray(atlas.affine, float),
        interpolation=args.interpolation,
        settings=args.settings,
    )
    log.info("%s: %d usable slices", subject, int(store.usable.sum()))
    write_store(store, args.npz, args.tsv)


if __name__ == "__main__":
    cli.run(main)
