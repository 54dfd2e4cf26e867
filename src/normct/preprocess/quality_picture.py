"""The picture of quality control: three planes of the registered brain, outlines of mask and atlas."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from normct.common.files import atomic
from normct.common.volumes import Volume, crop

SCALE = 2
MARGIN = 14  # voxels around the atlas brain
WINDOW = (0.0, 80.0)
BRAIN, ATLAS, INK = (
    (255, 176, 0),
    (86, 180, 233),
    (230, 230, 230),
)  # Okabe-Ito: told apart by colour-blind readers
TITLE = {"pass": (0, 158, 115), "warn": (240, 228, 66), "fail": (213, 94, 0)}


def plane_points(grid: Volume, axis: int, at: int) -> NDArray[np.float64]:
    """World points of one plane of an RAS+ grid, :data:`SCALE` points a voxel, shape (4, rows, columns).

    Rows run from superior (axial: anterior) downwards; columns from the patient's right (the radiological
    view), in sagittal planes from anterior.
    """
    down, across = {0: (2, 1), 1: (2, 0), 2: (1, 0)}[axis]
    rows, columns = (np.arange(grid.data.shape[a] - 1, -0.25, -1 / SCALE) for a in (down, across))
    index = np.ones((4, rows.size, columns.size))
    index[axis] = at
    index[down], index[across] = np.meshgrid(rows, columns, indexing="ij")
    return np.asarray(np.einsum("ij,jrc->irc", grid.affine, index))


def sample(volume: Volume, world: NDArray[np.float64], order: int, fill: float) -> NDArray:
    """Values of ``volume`` at world points of shape (4, rows, columns)."""
    index = np.einsum("ij,jrc->irc", np.linalg.inv(volume.affine), world)[:3]
    return ndimage.map_coordinates(volume.data, index, order=order, cval=fill, prefilter=False)


def outline(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Inner border of a 2-D mask, two pixels wide: it must survive the page's small pictures."""
    return mask & ~ndimage.binary_erosion(mask, iterations=2)


def panel(
    brain: Volume, mask: Volume, atlas_mask: Volume, matrix: NDArray[np.float64], *, axis: int, at: int
) -> NDArray[np.uint8]:
    """One plane as RGB, shape (rows, columns, 3)."""
    world = plane_points(atlas_mask, axis, at)
    native = np.einsum("ij,jrc->irc", matrix, world)
    inside = sample(Volume((mask.data > 0).astype(np.float32), mask.affine), native, 1, 0.0) >= 0.5
    expected = (
        sample(Volume((atlas_mask.data > 0).astype(np.float32), atlas_mask.affine), world, 1, 0.0) >= 0.5
    )
    # nearest voxel: linear interpolation would mix the rim with the -1024 HU outside the mask
    hu = sample(brain, native, 0, WINDOW[0])
    grey = np.clip((hu - WINDOW[0]) / (WINDOW[1] - WINDOW[0]), 0, 1) * inside
    rgb = np.repeat((grey * 255).astype(np.uint8)[..., None], 3, axis=2)
    rgb[outline(expected)] = ATLAS
    rgb[outline(inside)] = BRAIN
    return rgb


def draw(
    path: str | Path,
    record: dict[str, Any],
    *,
    brain: Volume,
    mask: Volume,
    atlas_mask: Volume,
    matrix: NDArray[np.float64],
) -> None:
    """Write ``quality.png``.

    Parameters
    ----------
    path : str or Path
        PNG to write.
    record : dict
        Content of ``quality.json``: participant, verdict and reasons go into the title; nothing of the
        scan's header.
    brain, mask : Volume
        Stripped brain and its mask, the scan's own pose.
    atlas_mask : Volume
        Atlas brain mask, RAS+.
    matrix : ndarray
        Shape (4, 4): atlas point to scan point.
    """
    # a brain that lies far outside the atlas is cut off, and plainly wrong
    atlas_mask = crop(atlas_mask, atlas_mask.data > 0, margin=MARGIN)
    inside = np.argwhere(atlas_mask.data > 0)
    # beside the midplane, which shows the falx; the axial plane lies at the basal ganglia
    at = (int(inside[:, 0].mean()) + 8, int(inside[:, 1].mean()), int(np.quantile(inside[:, 2], 0.45)))
    panels = [Image.fromarray(panel(brain, mask, atlas_mask, matrix, axis=a, at=at[a])) for a in (2, 1, 0)]
    width = sum(p.width for p in panels)
    lines = [line for reason in record["reasons"] for line in textwrap.wrap(reason, width // 9)]
    top = 44 + 20 * max(1, len(lines))
    picture = Image.new("RGB", (width, top + max(p.height for p in panels) + 24))
    pen = ImageDraw.Draw(picture)
    title = f"{record['participant_id']}: {record['verdict']}"
    pen.text((12, 8), title, fill=TITLE[record["verdict"]], font=ImageFont.load_default(24))
    for n, line in enumerate(lines):
        pen.text((12, 42 + 20 * n), line, fill=INK, font=ImageFont.load_default(16))
    left = 0
    for image, name in zip(panels, ("axial", "coronal", "sagittal"), strict=True):
        picture.paste(image, (left, top + (max(p.height for p in panels) - image.height) // 2))
        pen.text((left + 8, top + 4), name, fill=INK, font=ImageFont.load_default(16))
        if name != "sagittal":
            pen.text(
                (left + 8, picture.height // 2 + top // 2), "R", fill=INK, font=ImageFont.load_default(18)
            )
        left += image.width
    key = [("brain mask of the scan", BRAIN), ("atlas brain", ATLAS)]
    for n, (text, colour) in enumerate(key):
        pen.text((12 + 220 * n, picture.height - 22), text, fill=colour, font=ImageFont.load_default(16))
    with atomic(path) as part:
        picture.save(part, format="PNG", optimize=False, compress_level=4)
