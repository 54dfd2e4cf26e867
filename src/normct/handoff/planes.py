"""The source instances' own planes: where each pixel of each DICOM image lies in the volume that was used.

dcm2niix shears a tilted scan upright and evens out its slice distance; a PACS needs results on the images it
has. World coordinates are the same in both, so every plane is sampled where it is, tilt and gaps included.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from normct.common.volumes import Volume

OWN_PLANE = 0.02
"""Voxels by which a plane may miss the volume's own: rounding of the NIfTI header."""


def plane_affine(instance: dict[str, Any]) -> NDArray[np.float64]:
    """Return pixel (row, column, 0) to RAS+ mm of an instance, shape (4, 4) (DICOM PS3.3 C.7.6.2.1.1).

    Parameters
    ----------
    instance : dict
        ``position``, ``orientation`` (DICOM patient coordinates, mm), ``spacing`` (between rows, columns).
    """
    along_row, along_column = np.reshape(np.array(instance["orientation"], float), (2, 3))
    affine = np.eye(4)
    affine[:3, 0] = along_column * instance["spacing"][0]
    affine[:3, 1] = along_row * instance["spacing"][1]
    affine[:3, 2] = np.cross(along_row, along_column)
    affine[:3, 3] = instance["position"]
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine


def _own_plane(
    part: NDArray[Any], steps: NDArray[np.float64], offset: NDArray[np.float64], size: tuple[int, int]
) -> NDArray[Any] | None:
    """Return the voxels of a plane that is one of the volume's own, None for any other plane.

    An untilted series has its own planes in the volume, at most mirrored: nothing to interpolate.
    """
    whole, first = np.rint(steps).astype(int), np.rint(offset).astype(int)
    stray = np.abs(steps - whole) @ np.array(size) + np.abs(offset - first)
    axes = np.abs(whole).argmax(axis=0)
    if stray.max() > OWN_PLANE or np.abs(whole).sum() != 2 or axes[0] == axes[1]:
        return None
    row, column = axes
    across = 3 - row - column
    if not 0 <= first[across] < part.shape[across]:
        return np.zeros(size, part.dtype)
    plane = part[(slice(None),) * across + (first[across],)]  # np.take would copy the volume
    plane = plane if row < column else plane.T
    result = np.zeros(size, part.dtype)
    pairs = [
        _overlap(int(first[axis]), int(whole[axis, n]), size[n], part.shape[axis])
        for n, axis in enumerate(axes)
    ]
    result[tuple(into for into, _ in pairs)] = plane[tuple(taken for _, taken in pairs)]
    return result


def _overlap(first: int, step: int, size: int, length: int) -> tuple[slice, slice]:
    """Return which of ``size`` pixels lie on an axis of ``length`` voxels, and on which of them.

    The first pixel lies at ``first``, the next at ``first + step``; the step is 1 or -1.
    """
    low = max(0, -first if step > 0 else first - length + 1)
    high = max(low, min(size, length - first if step > 0 else first + 1))
    if low == high:
        return slice(0), slice(0)
    end = first + step * high
    return slice(low, high), slice(first + step * low, None if end < 0 else end, step)


def sample(
    volume: Volume, instances: list[dict[str, Any]], box: tuple[slice, ...], order: int
) -> Iterator[tuple[tuple[int, slice, slice], NDArray[Any]]]:
    """Sample a volume at the pixels of each instance, one after the other: a series holds a hundred million.

    Parameters
    ----------
    volume : Volume
        On the grid of the imported scan.
    instances : list of dict
        Of one size; see :func:`plane_affine`.
    box : tuple of slice
        The part of the volume that is not 0: pixels outside of it cost nothing.
    order : int
        0 nearest neighbour (masks), 1 linear.

    Yields
    ------
    where : tuple
        Of a stack (instances, rows, columns), the part that the box can reach; all else is 0.
    values : ndarray
        Shape of that part, type of the volume.
    """
    rows, columns = instances[0]["rows"], instances[0]["columns"]
    start, stop = (np.array([getattr(s, end) for s in box], float) for end in ("start", "stop"))
    part = volume.data[box]
    corners = np.stack(np.meshgrid(*zip(start - 1, stop, strict=True), indexing="ij"), -1).reshape(-1, 3)
    for number, instance in enumerate(instances):
        index = np.linalg.inv(volume.affine) @ plane_affine(instance)
        # the box's corners in pixels of the plane and mm from it; a plane that misses the box holds nothing
        back = np.linalg.inv(index)
        seen = corners @ back[:3, :3].T + back[:3, 3]
        if part.size == 0 or seen[:, 2].min() > 0 or seen[:, 2].max() < 0:
            continue
        low = np.clip(np.floor(seen[:, :2].min(axis=0)).astype(int), 0, (rows, columns))
        high = np.clip(np.ceil(seen[:, :2].max(axis=0)).astype(int) + 1, low, (rows, columns))
        size = (int(high[0] - low[0]), int(high[1] - low[1]), 1)
        if min(size) == 0:
            continue
        offset = index[:3, :2] @ low + index[:3, 3] - start
        where = (number, slice(int(low[0]), int(high[0])), slice(int(low[1]), int(high[1])))
        found = _own_plane(part, index[:3, :2], offset, size[:2])
        if found is not None:
            yield where, found
            continue
        # grid-constant: a plane on the volume's first slice is not lost to rounding
        plane = ndimage.affine_transform(
            part,
            index[:3, :3],
            offset,
            output_shape=size,
            order=order,
            mode="grid-constant",
            cval=0,
            prefilter=False,
        )
        yield where, plane[..., 0]
