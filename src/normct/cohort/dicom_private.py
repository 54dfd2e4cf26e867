"""The source instances of an imported DICOM scan: planes and UIDs, for results that go back to a PACS.

The one file of the pipeline that holds UIDs; only the hand-off's ``dicom/`` folder takes them from it. Names,
dates and numbers of patients are never read.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from normct.cohort.dicom import Series
from normct.cohort.dicom_folder import files

UIDS = {
    "study": "StudyInstanceUID",
    "series": "SeriesInstanceUID",
    "frame_of_reference": "FrameOfReferenceUID",
}
PLANE = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "Rows", "Columns")
TAGS = [*UIDS.values(), *PLANE, "SOPInstanceUID", "SOPClassUID"]
TAGS += ["Modality", "SeriesNumber", "NumberOfFrames", "SliceThickness"]
NONE: dict[str, Any] = {"instances": []}


def _plane(data: Any) -> dict[str, Any] | None:
    """Return one instance's plane and UIDs; None for what is no single CT image."""
    if data.get("Modality") != "CT" or int(data.get("NumberOfFrames") or 1) > 1:
        return None
    if any(data.get(name) is None for name in (*PLANE, *UIDS.values(), "SOPInstanceUID", "SOPClassUID")):
        return None
    return {
        "sop_class": str(data.SOPClassUID),
        "sop_instance": str(data.SOPInstanceUID),
        "position": [float(v) for v in data.ImagePositionPatient],
        "orientation": [float(v) for v in data.ImageOrientationPatient],
        "spacing": [float(v) for v in data.PixelSpacing],
        "rows": int(data.Rows),
        "columns": int(data.Columns),
        "thickness": float(data.get("SliceThickness") or 0),
    }


def _distance(plane: dict[str, Any]) -> float:
    row, column = np.reshape(plane["orientation"], (2, 3))
    return float(np.cross(row, column) @ plane["position"])


def _fits(planes: list[dict[str, Any]], shape: tuple[int, ...], affine: NDArray[np.float64]) -> bool:
    """Whether the centres of all planes lie inside the volume, and reach its first and last slice."""
    centres = []
    for p in planes:
        row, column = np.reshape(p["orientation"], (2, 3))
        centre = (
            np.array(p["position"])
            + row * p["spacing"][1] * p["columns"] / 2
            + column * p["spacing"][0] * p["rows"] / 2
        )
        centres.append(centre * [-1, -1, 1])  # LPS to RAS
    index = (np.array(centres) - affine[:3, 3]) @ np.linalg.inv(affine[:3, :3]).T
    size = np.array(shape[:3])
    inside = bool(((index > -1) & (index < size)).all())
    return inside and index[:, 2].min() < 1 and index[:, 2].max() > size[2] - 2


def source_instances(folder: Path, chosen: Series, affine: NDArray[np.float64]) -> dict[str, Any]:
    """Return the instances that the chosen volume was made of.

    dcm2niix keeps no UID, so they are told by series number, columns, orientation and extent.

    Parameters
    ----------
    folder : Path
        DICOM files.
    chosen : Series
        From :func:`normct.cohort.dicom.choose`.
    affine : ndarray
        Shape (4, 4) of the chosen volume, RAS+ mm.

    Returns
    -------
    dict
        ``study, series, frame_of_reference`` (UIDs) and ``instances`` in order along the normal, each
        ``sop_class, sop_instance, position, orientation`` (DICOM patient coordinates, mm), ``spacing`` (row,
        column), ``rows, columns, thickness`` (mm, 0 unknown). No instances when no series, or more than one,
        fits.
    """
    import pydicom

    groups: dict[tuple[str, ...], dict[str, dict[str, Any]]] = defaultdict(dict)
    number = chosen.meta.get("SeriesNumber")
    cosines = chosen.meta.get("ImageOrientationPatientDICOM")
    for path in files(folder):
        try:
            data = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=TAGS)
            plane = _plane(data)
        except Exception:  # noqa: S112  (pydicom raises anything on a file that is not DICOM)
            continue
        if plane is None or plane["columns"] != chosen.shape[0]:
            continue
        if number is not None and str(data.get("SeriesNumber", number)) != str(number):
            continue
        if cosines and not np.allclose(plane["orientation"], cosines, atol=1e-3):
            continue
        groups[tuple(str(data[name].value) for name in UIDS.values())][plane["sop_instance"]] = plane
    fitting = [
        (uids, list(planes.values()))
        for uids, planes in groups.items()
        if _fits(list(planes.values()), chosen.shape, affine)
    ]
    if len(fitting) != 1:
        return dict(NONE)
    uids, planes = fitting[0]
    return dict(zip(UIDS, uids, strict=True)) | {"instances": sorted(planes, key=_distance)}
