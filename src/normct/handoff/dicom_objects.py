"""DICOM out: a segmentation of the findings and a parametric map of the overlay, on the source's own images.

UIDs are derived from the content under a configurable root: the same results have the same UIDs. Nothing of
the source but its UIDs and planes goes in, unless the patient and study modules are asked for.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import ExplicitVRLittleEndian, JPEGLSLossless

from normct.handoff.page import RESEARCH

MAKER: dict[str, Any] = {
    "manufacturer": "NormCT",
    "manufacturer_model_name": "NormCT",
    "device_serial_number": "0",
}
SEGMENTS = ((1, "Denser than expected", (255, 150, 30)), (2, "Less dense than expected", (60, 170, 255)))
MAX_SEG_BYTES = 6e6
"""Above it empty frames are left out, though some viewers then misplace the others."""

NO_STEP = 128
"""What a parametric map's pixels hold where scan and healthy model agree."""
IDENTITY = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex"),
    *("StudyDate", "StudyTime", "StudyID", "AccessionNumber", "ReferringPhysicianName"),
)
"""Patient and general study module, as far as a viewer files by them."""


@dataclass(frozen=True)
class Stamp:
    """What makes UIDs and dates.

    Attributes
    ----------
    root : str
        UID root; ``2.25`` needs no registration.
    seed : str
        Hash of what goes in; another seed, other UIDs.
    when : datetime
        When the scan was scored (UTC).
    """

    root: str
    seed: str
    when: datetime

    def uid(self, what: str) -> str:
        """Return a UID of its own for each object, at most 64 characters (DICOM PS3.5 B.2)."""
        digits = str(int(hashlib.sha256(f"{self.seed}/{what}".encode()).hexdigest()[:32], 16))
        return f"{self.root}.{digits}"[:64]


def read_identity(folder: Path, instance_uid: str) -> dict[str, str]:
    """Return patient and study module of one source instance as text; empty where it is not found."""
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        try:
            data = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["SOPInstanceUID", *IDENTITY])
        except Exception:  # noqa: S112  (pydicom raises anything on a file that is not DICOM)
            continue
        if str(data.get("SOPInstanceUID")) == instance_uid:
            return {name: str(data.get(name) or "") for name in IDENTITY}
    return {}


def source_datasets(private: dict[str, Any], subject: str, identity: dict[str, str]) -> list[Dataset]:
    """Return the source instances as highdicom wants them: UIDs, planes, and no more identity than given."""
    datasets = []
    for number, instance in enumerate(private["instances"], 1):
        data = Dataset()
        data.file_meta = pydicom.dataset.FileMetaDataset()
        data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        data.SOPClassUID, data.SOPInstanceUID = instance["sop_class"], instance["sop_instance"]
        data.StudyInstanceUID, data.SeriesInstanceUID = private["study"], private["series"]
        data.FrameOfReferenceUID, data.PositionReferenceIndicator = private["frame_of_reference"], ""
        data.Modality, data.InstanceNumber = "CT", number
        data.Rows, data.Columns = instance["rows"], instance["columns"]
        data.SliceThickness = instance["thickness"] or None
        for name, key in (
            ("ImagePositionPatient", "position"),
            ("ImageOrientationPatient", "orientation"),
            ("PixelSpacing", "spacing"),
        ):
            # a decimal string has at most 16 characters
            setattr(data, name, [pydicom.valuerep.DSfloat(v, auto_format=True) for v in instance[key]])
        for name in IDENTITY:
            setattr(data, name, identity.get(name, ""))
        if identity:  # a name in any script, whatever character set the source has
            data.SpecificCharacterSet = "ISO_IR 192"
        else:
            data.PatientID = subject
        datasets.append(data)
    return datasets


def _finish(dataset: Dataset, stamp: Stamp, what: str, number: int) -> Dataset:
    """Make dates and the UIDs that highdicom draws by chance follow from the content."""
    date, time = stamp.when.strftime("%Y%m%d"), stamp.when.strftime("%H%M%S")
    dataset.ContentDate = dataset.InstanceCreationDate = date
    dataset.ContentTime = dataset.InstanceCreationTime = time
    dataset.SeriesDescription = f"NormCT {what}"
    dataset.SeriesNumber = number
    dataset.BodyPartExamined = "HEAD"
    for item in dataset.get("ContributingEquipmentSequence", []):
        item.ContributionDateTime = date + time
    organisation = stamp.uid(f"{what}/dimensions")
    for item in (*dataset.DimensionOrganizationSequence, *dataset.DimensionIndexSequence):
        item.DimensionOrganizationUID = organisation
    return dataset


def segmentation(sources: list[Dataset], marked: NDArray[np.uint8], stamp: Stamp) -> Dataset:
    """Return a binary DICOM SEG with a segment for denser and one for less dense findings.

    Parameters
    ----------
    sources : list of Dataset
        From :func:`source_datasets`.
    marked : ndarray
        Shape (instances, rows, columns): 1 denser, 2 less dense.
    stamp : Stamp

    Notes
    -----
    Frames without a finding are written too, for viewers misplace sparse segmentations, unless the file would
    grow beyond 6 MB.
    """
    algorithm = hd.AlgorithmIdentificationSequence(
        name="NormCT", version=version("normct"), family=codes.DCM.ArtificialIntelligence
    )
    present = [s for s in SEGMENTS if (marked == s[0]).any()] or [SEGMENTS[0]]
    descriptions = [
        hd.seg.SegmentDescription(
            segment_number=number,
            segment_label=label,
            segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
            segmented_property_type=codes.SCT.Lesion,
            algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
            algorithm_identification=algorithm,
            tracking_uid=stamp.uid(f"segment {code}"),
            tracking_id=label,
            display_color=hd.color.CIELabColor.from_rgb(*colour),
        )
        for number, (code, label, colour) in enumerate(present, 1)
    ]
    numbers = np.zeros(1 + max(code for code, _, _ in SEGMENTS), np.uint8)
    numbers[[code for code, _, _ in present]] = range(1, len(present) + 1)
    labels = numbers[marked]  # a label a pixel: a stack of layers costs highdicom several times the time
    return _finish(
        hd.seg.Segmentation(
            source_images=sources,
            pixel_array=labels,
            segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
            segment_descriptions=descriptions,
            series_instance_uid=stamp.uid("segmentation series"),
            series_number=9001,
            sop_instance_uid=stamp.uid("segmentation"),
            instance_number=1,
            software_versions=version("normct"),
            content_label="NORMCT_FINDINGS",
            content_description=RESEARCH[:64],
            omit_empty_frames=labels.size * len(present) / 8 > MAX_SEG_BYTES,
            **MAKER,
        ),
        stamp,
        "findings",
        9001,
    )


def steps(difference: NDArray[np.float32], span: float) -> NDArray[np.float32]:
    """Return differences as the whole numbers 1 to 255 that a parametric map of this span holds; ``NO_STEP`` is none."""
    return np.clip(np.rint(difference / np.float32(span / 127)), -127, 127) + NO_STEP


def parametric_map(
    sources: list[Dataset], stored: NDArray[np.uint16], span: float, unit: str, stamp: Stamp
) -> Dataset:
    """Return the overlay as a DICOM Parametric Map, 255 steps in 16 bits, with a real-world value mapping.

    Parameters
    ----------
    sources : list of Dataset
        From :func:`source_datasets`.
    stored : ndarray
        Shape (instances, rows, columns): the difference in :func:`steps`.
    span : float
        Largest absolute difference held.
    unit : str
        ``HU``, ``SD`` (of healthy scans, a pure number), or anything else for a share in per cent.
    stamp : Stamp
    """
    slope = span / 127
    mapping = hd.pm.RealWorldValueMapping(
        lut_label="DIFFERENCE",
        lut_explanation="Scan minus what the healthy model expects"
        + (" (SD of healthy)" if unit == "SD" else ""),
        unit={"HU": codes.UCUM.HounsfieldUnit, "SD": codes.UCUM.NoUnits}.get(unit, codes.UCUM.Percent),
        value_range=(0, 255),
        slope=slope,
        intercept=-NO_STEP * slope,
    )
    return _finish(
        hd.pm.ParametricMap(
            source_images=sources,
            pixel_array=stored,
            series_instance_uid=stamp.uid("overlay series"),
            series_number=9002,
            sop_instance_uid=stamp.uid("overlay"),
            instance_number=1,
            software_versions=version("normct"),
            contains_recognizable_visual_features=False,
            real_world_value_mappings=[mapping],
            voi_lut_transformations=[
                hd.VOILUTTransformation(window_center=NO_STEP, window_width=2 * NO_STEP)
            ],
            content_label="NORMCT_OVERLAY",
            content_description=RESEARCH[:64],
            transfer_syntax_uid=JPEGLSLossless,
            **MAKER,
        ),
        stamp,
        "overlay",
        9002,
    )
