"""Rigid transforms and resampling between any two grids, in both directions.

World coordinates are RAS+ mm, as in NIfTI. ITK and ANTs use LPS; files of transforms are theirs (ITK ``.mat``),
so that ANTs, ITK-SNAP and 3D Slicer read them, and are converted here and only here.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import io, ndimage

from normct.common.files import atomic
from normct.common.volumes import Volume

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def read_transform(path: str | Path) -> NDArray[np.float64]:
    """Read an ITK affine or Euler ``.mat`` file.

    As in ANTs, the file named ``native_to_atlas.mat`` resamples the native image onto the atlas grid: its matrix maps
    *points* of the atlas to points of the native scan.

    Returns
    -------
    ndarray
        Shape (4, 4): RAS+ world point of the fixed image (atlas) to RAS+ world point of the moving image (native).
    """
    content = io.loadmat(str(path))
    name = next(key for key in content if "Transform" in key)
    values, centre = content[name].ravel().astype(float), content["fixed"].ravel()[:3].astype(float)
    if values.size == 12:
        linear, shift = values[:9].reshape(3, 3), values[9:]
    elif values.size == 6:  # Euler3DTransform: angles x, y, z, applied z · x · y
        (cx, cy, cz), (sx, sy, sz) = np.cos(values[:3]), np.sin(values[:3])
        rx = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
        ry = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
        rz = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
        linear, shift = rz @ rx @ ry, values[3:]
    else:
        raise ValueError(
            f"{Path(path).name}: {values.size} parameters; an ITK affine has 12, an Euler transform 6"
        )
    matrix = np.eye(4)
    matrix[:3, :3] = linear
    matrix[:3, 3] = shift + centre - linear @ centre
    return LPS @ matrix @ LPS


def write_transform(path: str | Path, matrix: NDArray[np.float64]) -> None:
    """Write a (4, 4) RAS+ point transform (fixed to moving) as an ITK affine ``.mat`` file."""
    lps = LPS @ matrix @ LPS
    values = np.concatenate([lps[:3, :3].ravel(), lps[:3, 3]])[:, None]
    content = {"AffineTransform_double_3_3": values, "fixed": np.zeros((3, 1))}
    with atomic(path) as part, part.open("wb") as handle:
        io.savemat(handle, content, format="4")


def resample(
    volume: Volume,
    shape: tuple[int, ...],
    affine: NDArray[np.float64],
    points: NDArray[np.float64] | None = None,
    order: int = 1,
    fill: float = 0.0,
) -> Volume:
    """Resample ``volume`` onto a grid of any shape and affine (oblique, flipped, sheared).

    Parameters
    ----------
    volume : Volume
        The image to sample (moving).
    shape, affine
        The grid to fill (fixed).
    points : ndarray, optional
        Shape (4, 4): world point of the fixed grid to world point of ``volume``; the identity by default.
    order : int
        0 nearest neighbour (masks), 1 linear.
    fill : float
        Value outside the field of view.
    """
    points = np.eye(4) if points is None else points
    index = np.linalg.inv(volume.affine) @ points @ affine
    if order == 0:
        return Volume(_nearest(volume.data, tuple(shape), index, fill), np.asarray(affine, float))
    data = ndimage.affine_transform(
        volume.data,
        index[:3, :3],
        index[:3, 3],
        output_shape=tuple(shape),
        order=order,
        cval=fill,
        prefilter=False,
    )
    return Volume(data, np.asarray(affine, float))


def _nearest(data: NDArray, shape: tuple[int, ...], index: NDArray[np.float64], fill: float) -> NDArray:
    """Sample the nearest voxels, as ``ndimage.affine_transform`` of order 0 does, at a sixth of its cost.

    Parameters
    ----------
    data : ndarray
        Shape (i, j, k).
    shape : tuple of int
        Of the result.
    index : ndarray
        Shape (4, 4): index of the result to index of ``data``.
    fill : float
        Where that lies outside the outermost voxels' centres.
    """
    result = np.full(shape, fill, data.dtype)
    flat, strides = np.ascontiguousarray(data).ravel(), (data.shape[1] * data.shape[2], data.shape[2], 1)
    rows = [np.add.outer(line[1] * np.arange(shape[1]), line[2] * np.arange(shape[2])) for line in index[:3]]
    for i in range(shape[0]):  # slab by slab: what is at work stays in the cache
        at: NDArray[np.intp] = np.zeros(shape[1:], np.intp)
        inside: NDArray[np.bool_] = np.ones(shape[1:], bool)
        for row, line, size, stride in zip(rows, index, data.shape, strides, strict=False):
            place = row + (line[0] * i + line[3])
            inside &= (place >= 0) & (place <= size - 1)
            at += np.floor(place + 0.5).astype(np.intp) * stride
        result[i][inside] = flat[at[inside]]
    return result


def to_native(atlas_map: Volume, native: Volume, transform: NDArray[np.float64], order: int = 1) -> Volume:
    """Carry a map on the atlas grid back to the scan it came from, on that scan's own grid.

    Parameters
    ----------
    atlas_map : Volume
        On the atlas grid.
    native : Volume
        The original scan; only its shape and affine are used.
    transform : ndarray
        As :func:`read_transform` returns it (atlas point to native point); its inverse is used.

    Returns
    -------
    Volume
        The first axis runs fastest, as in a NIfTI file: that is how it is written without a copy.
    """
    index = np.linalg.inv(transform @ atlas_map.affine) @ native.affine
    data = ndimage.affine_transform(
        atlas_map.data.T,
        index[2::-1, 2::-1],
        index[2::-1, 3],
        output_shape=native.data.shape[::-1],
        order=order,
        prefilter=False,
    )
    return Volume(data.T, native.affine)


def angles_deg(matrix: NDArray[np.float64]) -> tuple[float, float, float]:
    """Pitch (about x), roll (about y) and yaw (about z) of a (4, 4) rigid matrix, in degrees."""
    from scipy.spatial.transform import Rotation

    x, y, z = Rotation.from_matrix(matrix[:3, :3]).as_euler("xyz", degrees=True)
    return float(x), float(y), float(z)
