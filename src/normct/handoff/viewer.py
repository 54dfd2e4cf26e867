"""The scan's own axial slices, packed for the browser: oriented, cropped to the head, compressed.

Radiological convention for any axis order or flip of the file: image left is the patient's right, anterior
is up.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from zlib_ng import zlib_ng

from normct.common.geometry import to_native
from normct.common.nibabel_light import nibabel as nib
from normct.common.volumes import Volume

# beyond the brain: skull, scalp, ears and most of the face, but not the head holder
MARGIN_MM = 32.0
SCALES = (1.0, 0.85, 0.7, 0.6, 0.5)
PROBED = 8


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
    turn : ndarray
        Shape (3, 2), nibabel orientation of the file relative to left, posterior, superior.
    shape : tuple of int
        Of the file.
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
    turn: NDArray[np.float64]
    shape: tuple[int, ...]

    def affine(self, file_affine: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return (column, row, slice) of the viewer to RAS+ mm, shape (4, 4), from that of the file."""
        oriented = np.eye(4)
        every = int(self.slices[1] - self.slices[0]) if len(self.slices) > 1 else 1
        for axis, (span, size) in enumerate(((self.columns, self.width), (self.rows, self.height))):
            oriented[axis, axis] = (span.stop - span.start) / size
            oriented[axis, 3] = span.start + oriented[axis, axis] / 2 - 0.5
        oriented[2, 2], oriented[2, 3] = every, self.slices[0]
        return file_affine @ nib.orientations.inv_ornt_aff(self.turn, self.shape) @ oriented

    def number(self, position: int) -> int:
        """Return the 1-based slice number in the file of a position from base to vertex."""
        return self.depth - position if self.flipped else position + 1

    def place(self, voxel: list[int]) -> tuple[int, float, float]:
        """Return the nearest viewer slice of a voxel of the file, and its row and column there."""
        turned = np.zeros(3)
        for value, (axis, flip), size in zip(voxel, self.turn, self.shape, strict=True):
            turned[int(axis)] = size - 1 - value if flip < 0 else value
        row = (turned[1] + 0.5 - self.rows.start) / (self.rows.stop - self.rows.start) * self.height - 0.5
        width = self.columns.stop - self.columns.start
        column = (turned[0] + 0.5 - self.columns.start) / width * self.width - 0.5
        return int(np.abs(self.slices - turned[2]).argmin()), float(row), float(column)

    def ring(self, voxel: list[int], box: list[list[int]]) -> dict[str, float]:
        """Return where the viewer circles a finding: centre and radius in pixels, first and last slice."""
        ends = [self.place(corner) for corner in box]
        slices, rows, columns = (sorted(values) for values in zip(*ends, strict=True))
        radius = max(rows[1] - rows[0], columns[1] - columns[0]) / 2 + 6 / self.pixel_mm
        here = self.place(voxel)[0]
        return {
            "go": here,
            "y": round((rows[0] + rows[1]) / 2, 1),
            "x": round((columns[0] + columns[1]) / 2, 1),
            "r": round(radius, 1),
            "from": slices[0],
            "to": slices[1],
        }


def _turn(affine: NDArray[np.float64]) -> NDArray[np.float64]:
    to = nib.orientations.axcodes2ornt(("L", "P", "S"))
    return np.asarray(nib.orientations.ornt_transform(nib.orientations.io_orientation(affine), to), float)


def oriented(data: NDArray, affine: NDArray[np.float64]) -> NDArray:
    """Return a view [slice, row, column]: base to vertex, front to back, patient's right to left."""
    return nib.orientations.apply_orientation(data, _turn(affine)).transpose(2, 1, 0)


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
    return Frame(
        axis=axis,
        flipped=bool(orientation[axis, 1] < 0),
        slices=np.arange(0, depth, every),
        rows=rows,
        columns=columns,
        height=height,
        width=width,
        pixel_mm=pixel,
        depth=depth,
        turn=_turn(ct.affine),
        shape=ct.data.shape,
    )


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


def _deflate(array: NDArray, strategy: int = zlib_ng.Z_DEFAULT_STRATEGY) -> str:
    packer = zlib_ng.compressobj(6, strategy=strategy)
    return base64.b64encode(packer.compress(array.tobytes()) + packer.flush()).decode("ascii")


def pack(hu: NDArray[np.float32], difference: NDArray[np.float32], step: float) -> dict[str, str]:
    """Compress slices for the page.

    HU as int16, each pixel minus its left neighbour (mod 2^16), low and high bytes in planes of their own
    (smaller under deflate than plain int16); differences as int8 in units of ``step``. Noise repeats in runs
    only: looking for no more (``Z_RLE``) takes a tenth of the time and 4 % less room.

    Returns
    -------
    dict
        ``ct`` and ``map``: base64 of zlib streams.
    """
    values = np.clip(np.rint(hu), -1024, 3071).astype(np.int16)
    delta = np.diff(values, axis=-1, prepend=np.int16(0)).astype("<i2").view(np.uint8).reshape(-1, 2)
    signed = np.clip(np.rint(difference / step), -127, 127).astype(np.int8)
    return {"ct": _deflate(np.ascontiguousarray(delta.T), zlib_ng.Z_RLE), "map": _deflate(signed)}


def pack_expected(
    expected: NDArray[np.float32], brain: NDArray[np.bool_], span: list[float]
) -> tuple[str, dict[str, float]]:
    """Compress the healthy reconstruction: bytes, 0 outside the brain, each minus its left neighbour.

    Parameters
    ----------
    expected : ndarray
        HU, shape (slices, height, width).
    brain : ndarray
        Boolean, same shape.
    span : list of float
        HU mapped to [0, 1] by preprocessing; a quarter of it is kept on both sides.

    Returns
    -------
    text : str
        base64 of a zlib stream.
    code : dict
        ``low`` and ``step``: HU = low + (byte - 1) · step.
    """
    margin = (span[1] - span[0]) / 4
    low, step = span[0] - margin, (span[1] - span[0] + 2 * margin) / 254
    values = np.clip(np.rint((expected - low) / step), 0, 254).astype(np.uint8) + np.uint8(1)
    values = np.where(brain, values, np.uint8(0))
    return _deflate(np.diff(values, axis=-1, prepend=np.uint8(0)), zlib_ng.Z_RLE), {"low": low, "step": step}


def pack_view(
    ct: Volume,
    brain: NDArray,
    anomaly: Volume,
    expected: Volume | None,
    step: float,
    *,
    span: list[float] | None,
    pixels: int,
    max_slices: int,
    max_mb: float,
) -> dict[str, Any]:
    """Pack a scan, made coarser in-plane until it fits into ``max_mb``.

    Parameters
    ----------
    ct, anomaly : Volume
        HU and signed difference on the scan's own grid.
    brain : ndarray
        Brain mask, same shape.
    expected : Volume or None
        HU in the same space, on any grid.
    step : float
        Smallest difference shown.
    span : list of float or None
        HU window of preprocessing; None where there is none.
    pixels, max_slices, max_mb
        ``handoff.viewer``.

    Returns
    -------
    dict
        ``frame``; ``hu``, ``difference``, ``brain`` and ``expected`` (or None), the viewer's slices;
        ``data``, what goes into the page; ``code``, how to read ``data["expected"]``.
    """
    for scale in SCALES:
        view = frame(ct, brain, pixels, max_slices, scale=scale)
        last = scale == SCALES[-1]
        # every eighth slice tells how large all of them will be
        probe = replace(view, slices=view.slices[::PROBED])
        share = len(probe.slices) / len(view.slices)
        room = max_mb * 1e6
        if not last and _size(_packed(probe, ct, brain, anomaly, expected, step, span)) > share * room:
            continue
        packed = _packed(view, ct, brain, anomaly, expected, step, span)
        if last or _size(packed) <= room:
            break
    return packed


def _size(packed: dict[str, Any]) -> int:
    return sum(len(text) for text in packed["data"].values())


def _packed(
    view: Frame,
    ct: Volume,
    brain: NDArray,
    anomaly: Volume,
    expected: Volume | None,
    step: float,
    span: list[float] | None,
) -> dict[str, Any]:
    hu, difference = (cut(v.data, ct.affine, view) for v in (ct, anomaly))
    inside = cut(brain, ct.affine, view) > 0.5
    data, healthy, code = pack(hu, difference, step), None, None
    if expected is not None and span is not None:
        # smooth, and wanted nowhere else: sampled at the viewer's own pixels
        size = (view.width, view.height, len(view.slices))
        pixels = Volume(np.broadcast_to(np.float32(0), size), view.affine(ct.affine))
        healthy = np.asarray(to_native(expected, pixels, np.eye(4)).data.T, np.float32)
        data["expected"], code = pack_expected(healthy, inside, span)
    return {
        "frame": view,
        "hu": hu,
        "difference": difference,
        "brain": inside,
        "expected": healthy,
        "data": data,
        "code": code,
    }
