"""A DICOM series as a scanner sends it, and how its results are read back."""

from __future__ import annotations

import base64
import gzip
import re
import shutil
import subprocess
import zlib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pydicom
import pytest
from handoff_case import SETTINGS
from head_case import head, rigid
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid
from scipy import ndimage

from normct.common.volumes import Volume, read_volume
from normct.handoff.dicom_out import write_dicom
from normct.handoff.planes import plane_affine
from normct.handoff.settings import Settings

BALL, DELTA = (-35.0, 30.0, 20.0, 16.0), 30.0
PLANTED = {
    "PatientName": "Mustermann^Erika",
    "PatientID": "PID998877",
    "PatientBirthDate": "19331105",
    "InstitutionName": "Sankt-Nirgends-Klinik",
    "StudyDescription": "Secretstudy",
    "AccessionNumber": "ACC445566",
    "ReferringPhysicianName": "Doktor^Unbekannt",
    "StudyDate": "19870612",
    "StudyID": "SID1122",
}


def write_series(folder: Path) -> list[dict]:
    """A head of 26 slices with 14 degrees of gantry tilt and one wide gap, as a scanner would send it."""
    folder.mkdir(parents=True)
    angle = np.radians(14)
    orientation = [1.0, 0.0, 0.0, 0.0, float(np.cos(angle)), float(-np.sin(angle))]
    study, series, frame = (generate_uid() for _ in range(3))
    heights = np.cumsum([5.0] * 13 + [9.0] + [5.0] * 12) - 60
    planes = []
    for number, z in enumerate(heights, 1):
        plane = {
            "position": [-120.0, -125.0 + 20, float(z) + 40],
            "orientation": orientation,
            "spacing": [1.25, 1.25],
            "rows": 190,
            "columns": 192,
        }
        hu = head((190, 192, 1), plane_affine(plane), rigid(), BALL, DELTA)[0][:, :, 0]
        data = pydicom.Dataset()
        data.file_meta = pydicom.dataset.FileMetaDataset()
        data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        data.SOPClassUID, data.SOPInstanceUID = CTImageStorage, generate_uid()
        data.StudyInstanceUID, data.SeriesInstanceUID, data.FrameOfReferenceUID = study, series, frame
        for name, value in PLANTED.items():
            setattr(data, name, value)
        data.Modality, data.Manufacturer, data.PatientPosition = "CT", "GE MEDICAL SYSTEMS", "HFS"
        data.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        data.SeriesNumber, data.InstanceNumber, data.AcquisitionNumber = 4, number, 1
        data.ImagePositionPatient, data.ImageOrientationPatient = plane["position"], orientation
        data.PixelSpacing, data.SliceThickness, data.GantryDetectorTilt = [1.25, 1.25], 5, 14
        data.Rows, data.Columns, data.SamplesPerPixel = 190, 192, 1
        data.PhotometricInterpretation = "MONOCHROME2"
        data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 16, 15, 1
        data.RescaleSlope, data.RescaleIntercept = 1, -1024
        data.PixelData = (hu.astype("<i2") + 1024).tobytes()
        data.save_as(folder / f"{number:03d}.dcm", enforce_file_format=True)
        planes.append(plane | {"uid": data.SOPInstanceUID, "study": study, "series": series, "frame": frame})
    return planes


def inside_ball(plane: dict) -> np.ndarray:
    """Where mathematics puts the ball on a plane, shape (rows, columns)."""
    index = np.indices((plane["rows"], plane["columns"], 1)).reshape(3, -1).T
    to_atlas = np.linalg.inv(rigid()) @ plane_affine(plane)
    world = index @ to_atlas[:3, :3].T + to_atlas[:3, 3]
    near = ((world - np.array(BALL[:3])) ** 2).sum(axis=1) <= BALL[3] ** 2
    return near.reshape(plane["rows"], plane["columns"])


def frames(dataset):
    """Yield each frame's source UID, plane position, segment and pixels."""
    pixels = dataset.pixel_array
    shared = dataset.SharedFunctionalGroupsSequence[0].get("SegmentIdentificationSequence")
    for number, group in enumerate(dataset.PerFrameFunctionalGroupsSequence):
        source = group.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
        position = [float(v) for v in group.PlanePositionSequence[0].ImagePositionPatient]
        chosen = group.get("SegmentIdentificationSequence", shared)
        yield source, position, chosen[0].ReferencedSegmentNumber if chosen else None, pixels[number]


def sampled(volume: Volume, plane: dict, order: int) -> np.ndarray:
    """Values of a volume at a plane's pixels, shape (rows, columns), straight from DICOM's own formula."""
    along_row, along_column = np.reshape(plane["orientation"], (2, 3))
    row, column = np.indices((plane["rows"], plane["columns"]))[..., None]
    patient = np.array(plane["position"]) + row * plane["spacing"][0] * along_column
    patient = (patient + column * plane["spacing"][1] * along_row) * [-1, -1, 1]
    to_index = np.linalg.inv(volume.affine)
    index = patient @ to_index[:3, :3].T + to_index[:3, 3]
    return ndimage.map_coordinates(
        volume.data, np.moveaxis(index, -1, 0), order=order, mode="grid-constant", prefilter=False
    )


def mapped(overlay: pydicom.Dataset) -> pydicom.Dataset:
    """Return the real-world value mapping of a parametric map."""
    shared, first = overlay.SharedFunctionalGroupsSequence[0], overlay.PerFrameFunctionalGroupsSequence[0]
    where = shared if "RealWorldValueMappingSequence" in shared else first
    return where.RealWorldValueMappingSequence[0]


def write_again(cohort: Path, out: Path, maps: Path, **changes) -> list[str]:
    """Write the DICOM results of an imported scan alone, of the maps in a patient's folder; what the page says."""
    sources = SimpleNamespace(
        ct=cohort / "ct.nii.gz",
        record=cohort / "import.json",
        private=cohort / "dicom_private.json",
        maps=cohort / "ct.nii.gz",  # for its time alone
    )
    drawn = {
        "anomaly": read_volume(maps / "anomaly_map.nii.gz"),
        "marked": read_volume(maps / "anomaly_mask.nii.gz", dtype=None),
    }
    out.mkdir()
    return write_dicom(
        out, cohort.name, sources=sources, settings=Settings(**(SETTINGS | changes)), drawn=drawn
    )


needs_dciodvfy = pytest.mark.skipif(
    shutil.which("dciodvfy") is None, reason="needs dciodvfy: apt-get install -y dicom3tools"
)


def errors(path: Path) -> list[str]:
    """Return what dciodvfy holds to be wrong with one of our objects."""
    done = subprocess.run(["dciodvfy", str(path)], capture_output=True, check=False)
    said = (done.stdout + done.stderr).decode(errors="replace").splitlines()
    assert any(line in {"Segmentation", "ParametricMap"} for line in said)
    return [line for line in said if line.startswith(("Error", "Abort"))]


PDF_STREAM = re.compile(rb">>\s*stream\r?\n(.+?)\s*endstream", re.DOTALL)


def _inflated(data: bytes) -> bytes:
    if data.endswith(b"~>"):
        data = base64.a85decode(b"<~" + data, adobe=True)
    try:
        return zlib.decompress(data)
    except zlib.error:  # a picture
        return data


def readable(path: Path) -> bytes:
    """Return a file's bytes and, of gzip, PDF and page, those that are packed in it."""
    content = path.read_bytes()
    if path.suffix == ".gz":
        return gzip.decompress(content)
    if path.suffix == ".pdf":
        return content + b"".join(_inflated(part) for part in PDF_STREAM.findall(content))
    packed = re.findall(rb'octet-stream" id="[a-z-]+">([^<]+)<', content) if path.suffix == ".html" else []
    return content + b"".join(zlib.decompress(base64.b64decode(text)) for text in packed)
