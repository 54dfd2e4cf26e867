"""The scan's own axial slices as the browser shows them: oriented, cropped to the head.

Radiological convention for any axis order or flip of the file: image left is the patient's right, anterior
is up.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from normct.common.nibabel_light import nibabel as nib
from normct.common.volumes import Volume

# beyond the brain: skull, scalp, ears and most of the face, but not the head holder
MARGIN_MM = 32.0


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

    @property
    def every(self) -> int:
        """How many of the file's slices lie from one that is shown to the next."""
        return int(self.slices[1] - self.slices[0]) if len(self.slices) > 1 else 1

    def affine(self, file_affine: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return (column, row, slice) of the viewer to RAS+ mm, shape (4, 4), from that of the file."""
        oriented = np.eye(4)
        for axis, (span, size) in enumerate(((self.columns, self.width), (self.rows, self.height))):
            oriented[axis, axis] = (span.stop - span.start) / size
            oriented[axis, 3] = span.start + oriented[axis, axis] / 2 - 0.5
        oriented[2, 2], oriented[2, 3] = self.every, self.slices[0]
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
