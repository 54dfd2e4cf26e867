"""The scan's own axial slices, packed for the browser: oriented, cropped to the head, compressed.

Radiological convention for any axis order or flip of the file: image left is the patient's right, anterior
is up.
"""

from __future__ import annotations

import base64
import io
import zlib
from dataclasses import dataclass
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from normct.common.volumes import Volume

# beyond the brain: skull, scalp, ears and most of the face, but not the head holder
MARGIN_MM = 32.0
SCALES = (1.0, 0.85, 0.7, 0.6, 0.5)


@dataclass(frozen=True)
class Frame:
    """How the file's voxels become the viewer's pixels.

    Attributes
    ----------
    axis : int
        Axis of the file along which the slices lie (its most axial one).
    flipped : bool
        Whether the file's slices run from vertex to base.
    slices : ndarray of int
        Viewer slices as positions from base to vertex; a subset where the scan has very many.
    rows, columns : slice
        In-plane crop after orientation.
    height, width : int
        Pixels of a viewer slice (square pixels).
    pixel_mm : float
        Size of a viewer pixel.
    depth : int
        Number of slices in the file.
    """

    axis: int
    flipped: bool
    slices: NDArray[np.int_]
    rows: slice
    columns: slice
    height: int
    width: int
    pixel_mm: float
    depth: int

    def number(self, position: int) -> int:
        """Return the 1-based slice number in the file of a position from base to vertex."""
        return self.depth - position if self.flipped else position + 1

    def viewer_slice(self, voxel: list[int]) -> int:
        """Return the viewer slice nearest to a voxel of the file."""
        position = self.depth - 1 - voxel[self.axis] if self.flipped else voxel[self.axis]
        return int(np.abs(self.slices - position).argmin())


def oriented(data: NDArray, affine: NDArray[np.float64]) -> NDArray:
    """Return a view [slice, row, column]: base to vertex, front to back, patient's right to left."""
    to = nib.orientations.axcodes2ornt(("L", "P", "S"))
    turn = nib.orientations.ornt_transform(nib.orientations.io_orientation(affine), to)
    return nib.orientations.apply_orientation(data, turn).transpose(2, 1, 0)


def frame(ct: Volume, brain: NDArray, pixels: int, max_slices: int, *, scale: float = 1.0) -> Frame:
    """Choose crop, size and slices of the viewer for a scan.

    Parameters
    ----------
    ct : Volume
        HU, the scan's own grid.
    brain : ndarray
        Brain mask, same shape; the crop is its extent and a margin.
    pixels : int
        Most pixels along the longer side.
    max_slices : int
        Above it every n-th slice is shown.
    scale : float
        Further reduction of ``pixels``, to keep a page small.
    """
    orientation = nib.orientations.io_orientation(ct.affine)
    order = np.argsort(orientation[:, 0])  # file axis of each of L/R, P/A, S/I
    axis = int(order[2])
    inside = oriented(brain, ct.affine) > 0
    spacing = ct.zooms[order]
    spans = []
    for axes, size in (((0, 2), spacing[1]), ((0, 1), spacing[0])):
        seen = np.flatnonzero(inside.any(axis=axes))
        edge = int(np.ceil(MARGIN_MM / size))
        full = inside.shape[1 if axes == (0, 2) else 2]
        spans.append(
            slice(max(0, seen[0] - edge), min(full, seen[-1] + 1 + edge)) if seen.size else slice(0, full)
        )
    rows, columns = spans
    extent = ((rows.stop - rows.start) * spacing[1], (columns.stop - columns.start) * spacing[0])
    pixel = max(max(extent) / (pixels * scale), float(min(spacing[:2])))
    depth = inside.shape[0]
    every = -(-depth // max_slices)
    height, width = (max(1, round(e / pixel)) for e in extent)
    slices = np.arange(0, depth, every)
    return Frame(axis, orientation[axis, 1] < 0, slices, rows, columns, height, width, pixel, depth)


def cut(data: NDArray, affine: NDArray[np.float64], view: Frame) -> NDArray[np.float32]:
    """Return the viewer's slices of an image on the scan's grid, (slices, height, width), antialiased."""
    source = oriented(data, affine)[view.slices, view.rows, view.columns]
    size = (view.width, view.height)
    planes = [
        np.asarray(
            Image.fromarray(np.ascontiguousarray(s, np.float32)).resize(size, Image.Resampling.BILINEAR)
        )
        for s in source
    ]
    return np.stack(planes)


def _deflate(array: NDArray) -> str:
    return base64.b64encode(zlib.compress(array.tobytes(), 6)).decode("ascii")


def pack(hu: NDArray[np.float32], difference: NDArray[np.float32], step: float) -> dict[str, str]:
    """Compress slices for the page.

    HU as int16, each pixel minus its left neighbour (mod 2^16), low and high bytes in planes of their own
    (smaller under deflate than plain int16); differences as int8 in units of ``step``.

    Returns
    -------
    dict
        ``ct`` and ``map``: base64 of zlib streams.
    """
    values = np.clip(np.rint(hu), -1024, 3071).astype(np.int16)
    delta = np.diff(values, axis=-1, prepend=np.int16(0)).astype("<i2").view(np.uint8).reshape(-1, 2)
    signed = np.clip(np.rint(difference / step), -127, 127).astype(np.int8)
    return {"ct": _deflate(np.ascontiguousarray(delta.T)), "map": _deflate(signed)}


def pack_view(
    ct: Volume, brain: NDArray, anomaly: Volume, step: float, *, pixels: int, max_slices: int, max_mb: float
) -> dict[str, Any]:
    """Pack a scan, made coarser in-plane until it fits into ``max_mb``.

    Returns
    -------
    dict
        ``frame``; ``hu`` and ``difference``, the viewer's slices; ``data``, what goes into the page.
    """
    for scale in SCALES:
        view = frame(ct, brain, pixels, max_slices, scale=scale)
        hu, difference = (cut(v.data, ct.affine, view) for v in (ct, anomaly))
        data = pack(hu, difference, step)
        if sum(len(text) for text in data.values()) <= max_mb * 1e6:
            break
    return {"frame": view, "hu": hu, "difference": difference, "data": data}


def thumbnail(
    hu: NDArray[np.float32],
    difference: NDArray[np.float32],
    threshold: float,
    window: list[float],
    pixels: int = 120,
) -> str:
    """Return a small JPEG of one slice with its overlay, as a data URI."""
    low, width = window[0] - window[1] / 2, window[1]
    grey = np.clip((hu - low) / width, 0, 1)[..., None] * np.array([255, 255, 255])
    for sign, colour in ((1, (255, 150, 30)), (-1, (60, 170, 255))):
        over = (difference * sign > threshold)[..., None]
        grey = np.where(over, 0.4 * grey + 0.6 * np.array(colour), grey)
    image = Image.fromarray(grey.astype(np.uint8))
    image.thumbnail((pixels, pixels))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
