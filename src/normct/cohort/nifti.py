"""NIfTI files as they come: read whole or not at all, with every fault named, whatever the file is called."""

from __future__ import annotations

import errno
import gzip
import hashlib
import io
import stat as modes
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from normct.common.errors import DataFault
from normct.common.nibabel_light import nibabel as nib

CHUNK, HEAD = 1 << 20, 4096
NOWHERE = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG}
# a head's field of view, mm; tells metres and microns from millimetres where the units are wrong
PLAUSIBLE_MM = (50.0, 1500.0)
SCALES = {"meter": 1000.0, "mm": 1.0, "micron": 0.001, "unknown": 1.0}
# 0.5 mm from vertex to chest; whole bodies and nonsense dimensions would not fit into a job's memory
MAX_VOXELS = 1 << 29
COPY_AGAIN = "Copy or export the file again"


@dataclass(frozen=True)
class Header:
    """What the header says, put right.

    Attributes
    ----------
    shape : tuple of int
        (i, j, k); trailing axes of length 1 dropped, missing ones added.
    affine : ndarray
        Shape (4, 4), voxel to RAS+ mm.
    repairs : tuple of str
        What was put right, in words.
    raw : nibabel header
        As stored.
    need : int
        Bytes up to the last voxel.
    """

    shape: tuple[int, int, int]
    affine: NDArray[np.float64]
    repairs: tuple[str, ...]
    raw: Any
    need: int


@dataclass(frozen=True)
class Scan:
    """A file read to its end: header, SHA-256 of the file's bytes, and its content if asked for."""

    header: Header
    sha256: str
    content: bytes


def _open(handle: Any) -> Any:
    """Return the file's content decompressed; the content decides, not the name."""
    packed = handle.read(2) == b"\x1f\x8b"
    handle.seek(0)
    return gzip.GzipFile(fileobj=handle) if packed else handle


def _stream(handle: Any, keep: int) -> tuple[bytes, int, str]:
    """Return the first ``keep`` bytes of the content, its length and the SHA-256 of the file."""
    handle.seek(0)
    digest = hashlib.file_digest(handle, "sha256")
    handle.seek(0)
    source, kept, length = _open(handle), bytearray(), 0
    while block := source.read(CHUNK):
        length += len(block)
        kept += block[: max(0, keep - len(kept))]
    return bytes(kept), length, digest.hexdigest()


def _parse(first: bytes, subject: str, what: str) -> Any:
    for kind in (nib.Nifti1Header, nib.Nifti2Header):
        if kind.may_contain_header(first):
            try:
                return kind.from_fileobj(io.BytesIO(first), check=False)
            except (nib.spatialimages.HeaderDataError, ValueError, EOFError):
                break
    raise DataFault(subject, what, "not a NIfTI file", "Give .nii or .nii.gz, or the DICOM folder itself")


def _affine(raw: Any, shape: tuple[int, int, int]) -> tuple[NDArray[np.float64], list[str]]:
    """Return the affine in mm, and what had to be put right."""
    repairs = []
    if int(raw["sform_code"]) or int(raw["qform_code"]):
        affine = np.asarray(raw.get_best_affine(), float)
    else:
        # NIfTI-1 method 1: pixdim only, axes to the patient's right, front and top
        zooms = np.abs(np.asarray(raw["pixdim"][1:4], float))
        affine = np.diag([*zooms, 1.0])
        affine[:3, 3] = -zooms * (np.array(shape) - 1) / 2
        repairs.append(
            "no orientation in the header (sform and qform unset): RAS assumed, left and right unsure"
        )
    if not np.isfinite(affine).all():
        return affine, repairs
    code = raw.get_xyzt_units()[0] if int(raw["xyzt_units"]) & 7 in (0, 1, 2, 3) else "unknown"
    extent = float((np.linalg.norm(affine[:3, :3], axis=0) * np.array(shape)).max())
    scale = SCALES[code]
    if not PLAUSIBLE_MM[0] <= extent * scale <= PLAUSIBLE_MM[1]:
        fitting = [s for s in (1.0, 1000.0, 0.001) if PLAUSIBLE_MM[0] <= extent * s <= PLAUSIBLE_MM[1]]
        scale = fitting[0] if fitting else scale
    if scale != 1.0:
        affine[:3] *= scale
        repairs.append(f"units were {'metres' if scale > 1 else 'microns'}: affine scaled to mm")
    elif SCALES[code] != 1.0:
        repairs.append(f"the header's unit ({code}) contradicts the voxel size: mm assumed")
    return affine, repairs


def _understand(raw: Any, subject: str, what: str) -> Header:
    if raw["magic"].item()[:3] not in (b"n+1", b"n+2"):
        raise DataFault(subject, what, "one half of a .hdr/.img pair", "Convert it to a single .nii.gz")
    dims = [int(n) for n in raw["dim"][1 : 1 + min(max(int(raw["dim"][0]), 0), 7)]]
    while len(dims) > 3 and dims[-1] == 1:
        dims.pop()
    dims += [1] * (3 - len(dims))
    if len(dims) > 3:
        shown = "×".join(map(str, dims))
        raise DataFault(
            subject, what, f"{len(dims)}-D ({shown}); one volume is needed", "Export a single 3-D volume"
        )
    if min(dims) < 1:
        raise DataFault(subject, what, "the header gives an empty shape", COPY_AGAIN)
    try:
        dtype = raw.get_data_dtype()
    except (KeyError, nib.spatialimages.HeaderDataError):
        dtype = np.dtype("V")
    if dtype.fields or dtype.kind not in "iuf":
        kind = "RGB colour" if dtype.fields else "complex" if dtype.kind == "c" else "of an unknown data type"
        raise DataFault(
            subject, what, f"the voxels are {kind}, not HU", "Export the original CT, not a screenshot or map"
        )
    if int(np.prod(dims, dtype=object)) > MAX_VOXELS:
        shown = "×".join(map(str, dims))
        raise DataFault(subject, what, f"{shown} voxels, more than any head scan has", "Cut it to the head")
    shape = (dims[0], dims[1], dims[2])
    affine, repairs = _affine(raw, shape)
    if not np.isfinite(affine).all():
        raise DataFault(
            subject, what, "the affine is not finite", "Export the file again with its orientation"
        )
    if abs(np.linalg.det(affine[:3, :3])) < 1e-9:
        raise DataFault(subject, what, "the affine is singular (a voxel size of 0)", "Export the file again")
    need = _offset(raw) + int(np.prod(dims, dtype=object)) * dtype.itemsize
    return Header(shape, affine, tuple(repairs), raw, need)


def _offset(raw: Any) -> int:
    """Where the voxels start; nonsense counts as 0."""
    value = float(raw["vox_offset"])
    return int(value) if np.isfinite(value) and value > 0 else 0


def read_scan(path: str | Path, subject: str, what: str, keep: bool = False) -> Scan:
    """Read a NIfTI file to its end.

    Parameters
    ----------
    path : str or Path
        .nii or .nii.gz; the content decides, not the name.
    subject, what : str
        Participant ID and role of the file (``ct``, ``lesion_mask``), for the message.
    keep : bool
        Keep the decompressed content (for :func:`voxels`); otherwise it is only counted.

    Raises
    ------
    DataFault
        Missing, empty, truncated, not NIfTI, not 3-D, colour or complex, far too large, affine not finite or
        singular.
    RuntimeError
        The disk fails.
    """
    path = Path(path)
    try:
        status = path.stat()
        if not modes.S_ISREG(status.st_mode):  # reading a pipe or device never ends
            raise DataFault(subject, what, "neither a file nor a folder", "Mend the path in the table")
        if status.st_size == 0:
            raise DataFault(subject, what, "an empty file (0 bytes)", COPY_AGAIN)
        with path.open("rb") as handle:
            header = _understand(_parse(_open(handle).read(HEAD), subject, what), subject, what)
            content, length, digest = _stream(handle, header.need if keep else 0)
    except PermissionError:
        raise DataFault(subject, what, "the file may not be read", "Give read permission") from None
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise DataFault(subject, what, "a damaged or truncated gzip file", COPY_AGAIN) from None
    except OSError as error:
        if error.errno in NOWHERE:
            raise DataFault(subject, what, "no such file", "Mend the path in the table") from None
        # a fault of the disk, not of the data; its own message holds the path
        raise RuntimeError(f"{subject}: {what} cannot be read: {error.strerror}") from None
    if length < header.need:
        fault = f"truncated: {length} bytes where the header promises {header.need}"
        raise DataFault(subject, what, fault, COPY_AGAIN)
    return Scan(header, digest, content)


def voxels(scan: Scan, scaled: bool = True) -> NDArray:
    """Return the voxels of a scan read with ``keep``, shape (i, j, k).

    Parameters
    ----------
    scan : Scan
    scaled : bool
        Apply slope and intercept, as float32; otherwise the stored values.
    """
    raw = scan.header.raw
    dtype, offset = raw.get_data_dtype(), _offset(raw)
    count = int(np.prod(scan.header.shape))
    data = np.frombuffer(scan.content, dtype, count, offset).reshape(scan.header.shape, order="F")
    if not scaled:
        return data
    slope, intercept = (float(raw["scl_slope"]), float(raw["scl_inter"]))
    if not np.isfinite(slope) or slope == 0:
        slope, intercept = 1.0, 0.0
    intercept = intercept if np.isfinite(intercept) else 0.0
    result = data.astype(np.float32)
    if (slope, intercept) != (1.0, 0.0):
        result *= slope
        result += intercept
    return result


def grid_fault(shape: Any, affine: Any, mask_shape: Any, mask_affine: Any) -> str | None:
    """Return what is wrong with a mask's grid; None where shapes agree and corners lie within ¼ voxel."""
    if tuple(shape) != tuple(mask_shape):
        texts = ["×".join(map(str, s)) for s in (mask_shape, shape)]
        return f"its shape {texts[0]} is not that of ct, {texts[1]}"
    a, b = np.asarray(affine, float), np.asarray(mask_affine, float)
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in shape], [1], indexing="ij")).reshape(4, -1)
    apart = np.linalg.norm(((a - b) @ corners)[:3], axis=0).max()
    if apart > 0.25 * np.linalg.norm(a[:3, :3], axis=0).min():
        return f"its affine is not that of ct (up to {apart:.1f} mm apart)"
    return None
