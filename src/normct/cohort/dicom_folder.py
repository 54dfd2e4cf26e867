"""A DICOM folder before any conversion: its files, its bytes, whether it holds CT, and what is missing."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from normct.common.errors import DataFault
from normct.common.files import sha256

REMEDY = "Give a folder with one head CT series, uncompressed or JPEG-compressed DICOM"


def files(folder: Path) -> Iterator[Path]:
    """Yield the files of a DICOM folder and its subfolders, in order of name."""
    yield from sorted(p for p in folder.rglob("*") if p.is_file() and not p.name.startswith("."))


def digest(folder: Path, subject: str) -> str:
    """Return the SHA-256 of a folder's files, whatever their names and order.

    Raises
    ------
    DataFault
        A file that may not be read: converted without it, slices would be missing.
    RuntimeError
        The disk fails.
    """
    try:
        digests = sorted(sha256(path) for path in files(folder))
    except PermissionError:  # its message holds the path
        fault = "a file of the DICOM folder may not be read"
        raise DataFault(subject, "ct", fault, "Give read permission to all its files") from None
    except OSError as error:  # a fault of the disk, not of the data
        raise RuntimeError(f"{subject}: the DICOM folder cannot be read: {error.strerror}") from None
    return hashlib.sha256("".join(digests).encode()).hexdigest()


def has_ct(folder: Path) -> bool:
    """Whether any file is a CT image, by its header alone; stops at the first."""
    import pydicom

    for path in files(folder):
        try:
            data = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["Modality", "Rows"])
        except Exception:  # noqa: S112  (pydicom raises anything on a file that is not DICOM)
            continue
        if data.get("Modality") == "CT" and data.get("Rows"):
            return True
    return False


def require_ct(folder: Path, subject: str) -> list[Path]:
    """Return the files of a folder that holds a CT image; raise :class:`DataFault` for any other."""
    listed = list(files(folder))
    if not listed:
        raise DataFault(subject, "ct", "a DICOM folder without files", "Copy the series into it")
    if not has_ct(folder):
        raise DataFault(subject, "ct", "a DICOM folder without a readable CT image", REMEDY)
    return listed


def folder_stamp(path: str) -> str:
    """Return a short hash of a folder's listing (names, sizes, times); empty for a file.

    Snakemake sees a folder's own time only, which editing a file in place leaves alone.
    """
    folder = Path(path)
    if not folder.is_dir():
        return ""
    total = hashlib.sha256()
    for file in files(folder):
        status = file.stat()
        total.update(f"{file.relative_to(folder)}\x1f{status.st_size}\x1f{status.st_mtime_ns}\n".encode())
    return total.hexdigest()[:12]


def widest_gap(folder: Path, meta: dict[str, Any]) -> float:
    """Return the largest distance in mm between neighbouring slices of a series, as scanned; 0 if not told.

    Parameters
    ----------
    folder : Path
        DICOM files.
    meta : dict
        dcm2niix's side file of the series.
    """
    import numpy as np
    import pydicom

    tags = ["Modality", "SeriesNumber", "ImagePositionPatient", "ImageOrientationPatient"]
    cosines = meta.get("ImageOrientationPatientDICOM")
    along = []
    for path in files(folder):
        try:
            data = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=tags)
            place = np.array(data.ImagePositionPatient, float)
            turned = np.array(data.ImageOrientationPatient, float)
        except Exception:  # noqa: S112  (pydicom raises anything on a file that is not DICOM)
            continue
        number = data.get("SeriesNumber")
        if data.get("Modality") != "CT" or str(number) != str(meta.get("SeriesNumber", number)):
            continue
        if cosines is None or np.allclose(turned, cosines, atol=1e-3):
            along.append(float(np.cross(turned[:3], turned[3:]) @ place))
    return float(np.diff(np.sort(along)).max()) if len(along) > 1 else 0.0
