"""NIfTI volumes: reading, writing, geometry.

Arrays are ``data[i, j, k]`` as stored in the file; ``affine`` maps voxel indices to RAS+ millimetres.
"""

from __future__ import annotations

import gzip
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from normct.common.files import atomic
from normct.common.nibabel_light import nibabel as nib


@dataclass(frozen=True)
class Volume:
    """A 3-D image.

    Attributes
    ----------
    data : ndarray
        Shape (i, j, k), in the order of the file. HU for CT.
    affine : ndarray
        Shape (4, 4): voxel index to RAS+ world coordinate in mm.
    """

    data: NDArray
    affine: NDArray[np.float64]

    @property
    def zooms(self) -> NDArray[np.float64]:
        """Voxel size in mm along each array axis, shape (3,)."""
        return np.linalg.norm(self.affine[:3, :3], axis=0)

    @property
    def voxel_ml(self) -> float:
        """Volume of a voxel in mL."""
        return float(abs(np.linalg.det(self.affine[:3, :3]))) / 1000.0

    @property
    def sheared(self) -> bool:
        """Whether the axes are not at right angles (a gantry tilt kept in the affine)."""
        axes = self.affine[:3, :3] / self.zooms
        return bool(np.abs(axes.T @ axes - np.eye(3)).max() > 1e-3)


def box_of(mask: NDArray, margin: int = 0) -> tuple[slice, slice, slice]:
    """Return the box of a mask that is not empty, plus a margin in voxels within the array."""
    seen = [mask.any(axis=axes) for axes in ((1, 2), (0, 2), (0, 1))]
    low, high = zip(*(np.flatnonzero(line)[[0, -1]].tolist() for line in seen), strict=True)
    x, y, z = (slice(max(0, a - margin), b + 1 + margin) for a, b in zip(low, high, strict=True))
    return x, y, z


def moved(affine: NDArray[np.float64], box: Sequence[slice]) -> NDArray[np.float64]:
    """Return the affine of a part of a grid, shape (4, 4)."""
    result = affine.copy()
    result[:3, 3] += affine[:3, :3] @ [s.start for s in box]
    return result


def crop(volume: Volume, mask: NDArray, margin: int = 8) -> Volume:
    """Cut ``volume`` to the box of ``mask`` plus a margin in voxels."""
    box = box_of(mask, margin)
    return Volume(volume.data[box], moved(volume.affine, box))


def extent(mask: NDArray) -> tuple[slice, ...] | None:
    """Return the box of a mask, None where it is empty."""
    return box_of(mask) if mask.any() else None


def read_volume(path: str | Path, dtype: type | None = np.float32) -> Volume:
    """Read a NIfTI file with its scaling applied.

    Parameters
    ----------
    path : str or Path
        NIfTI file that has passed the cohort stage (3-D, affine set, mm).
    dtype : type or None
        Type of the array; None keeps the stored type (for masks, unscaled).
    """
    with Path(path).open("rb") as raw, _unpacked(raw) as handle:
        image = nib.Nifti1Image.from_stream(handle)
        if dtype is None:
            data = np.asanyarray(image.dataobj)
        else:
            data = np.asarray(image.get_fdata(dtype=np.float32)).astype(dtype, copy=False)
    return Volume(data, np.asarray(image.affine, np.float64))


def _unpacked(handle: io.BufferedReader) -> io.BufferedReader | gzip.GzipFile:
    """Return the file's content decompressed; the content decides, not the name."""
    packed = handle.read(2) == b"\x1f\x8b"
    handle.seek(0)
    if not packed:
        return handle
    from zlib_ng import gzip_ng

    return gzip_ng.GzipNGFile(fileobj=handle)


def write_volume(path: str | Path, volume: Volume, level: int = 3, slope: float | None = None) -> None:
    """Write NIfTI atomically, sform and qform set, units mm, no text in the header.

    A ``.nii`` path is not compressed; zlib-ng's level 3 packs like zlib's 4 at a third of its cost.
    A sheared affine cannot be held by the qform, which is then marked unknown, for a qform beside it would put the
    same voxel elsewhere; ITK refuses such a file. With ``slope`` the data are whole
    numbers that count steps of that size, as every reader of NIfTI undoes (``scl_slope``).
    """
    # in the file the first axis runs fastest; nibabel turns an array round slice by slice, at four times the cost
    image = nib.Nifti1Image(np.asfortranarray(volume.data), volume.affine)
    if slope is not None:
        image.header.set_slope_inter(slope, 0)
    image.header.set_xyzt_units("mm", "sec")
    image.set_sform(volume.affine, code=1)
    image.set_qform(volume.affine, code=0 if volume.sheared else 1)
    with atomic(path) as part:
        if part.name.endswith(".gz"):
            from zlib_ng import gzip_ng

            # no name and no time in the gzip header: the same image is the same bytes
            with part.open("wb") as raw, gzip_ng.GzipNGFile("", "wb", level, raw, mtime=0) as handle:
                image.to_stream(handle)
        else:
            part.write_bytes(image.to_bytes())
