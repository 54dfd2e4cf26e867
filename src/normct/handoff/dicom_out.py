"""Write the ``dicom`` folder of a scan that came as DICOM."""

from __future__ import annotations

import hashlib
import logging
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from normct.common.files import read_json
from normct.common.volumes import extent
from normct.handoff.planes import sample
from normct.handoff.settings import Settings, Sources


def write_dicom(
    folder: Path, subject: str, *, sources: Sources, settings: Settings, drawn: dict[str, Any]
) -> list[str]:
    """Write ``dicom/findings_seg.dcm``, ``dicom/overlay_map.dcm`` and ``scan.nii.gz``, on which the maps lie.

    Parameters
    ----------
    folder : Path
        The patient's folder.
    subject : str
        Participant ID.
    sources, settings
        Of the patient's job.
    drawn : dict
        From :func:`normct.handoff.drawing.draw`.

    Returns
    -------
    list of str
        What the page says of it; empty for NIfTI input.
    """
    if read_json(sources.record).get("source") != "dicom":
        return []
    # whatever its size: nobody who has the DICOM images alone can lay the maps over anything else
    shutil.copyfile(sources.ct, folder / "scan.nii.gz")
    words = ["scan.nii.gz: the volume made of the DICOM images (tilt corrected), on which the maps lie"]
    private = read_json(sources.private)
    if not settings.dicom["write"]:
        return words
    instances = private["instances"]
    if not instances:
        return [*words, "No DICOM results: the images that the volume was made of could not be told apart"]
    from normct.handoff import dicom_objects as objects

    box = extent(drawn["anomaly"].data) or (slice(0, 0),) * 3
    shape = (len(instances), instances[0]["rows"], instances[0]["columns"])
    marked = np.zeros(shape, np.uint8)
    # the result's frames are taken as they come: the same stack in float32 would be 270 MB of a scan of thin slices
    overlay = np.full(shape, objects.NO_STEP, np.uint16)
    content = hashlib.sha256()
    for where, plane in sample(drawn["marked"], instances, box, 0):
        marked[where] = plane
        content.update(repr(where).encode() + plane.tobytes())
    for where, plane in sample(drawn["anomaly"], instances, box, 1):
        overlay[where] = objects.steps(plane, settings.span)
        content.update(overlay[where].tobytes())
    identity: dict[str, str] = {}
    if settings.dicom["copy_patient"]:
        if settings.dicom_source:
            identity = objects.read_identity(Path(settings.dicom_source), instances[0]["sop_instance"])
        if not identity:
            logging.warning("%s: copy_patient is on, but the source image was not found", subject)
            words.append(
                "Name and ID of the patient are not in the DICOM results, though handoff.dicom.copy_patient asks "
                f"for them: the source image was not found. They are filed under {subject}"
            )
    # the time of scoring, not of this job: a rebuild of the hand-off gives the same objects
    when = datetime.fromtimestamp(int(sources.maps.stat().st_mtime), UTC)
    for part in (
        subject,
        settings.span,
        settings.unit,
        private["series"],
        sorted(identity.items()),
        when.isoformat(),
    ):
        content.update(repr(part).encode())
    stamp = objects.Stamp(settings.dicom["uid_root"], content.hexdigest(), when)
    datasets = objects.source_datasets(private, subject, identity)
    (folder / "dicom").mkdir()
    seg = objects.segmentation(datasets, marked, stamp)
    seg.save_as(folder / "dicom" / "findings_seg.dcm", enforce_file_format=True)
    parametric = objects.parametric_map(datasets, overlay, settings.span, settings.unit, stamp)
    parametric.save_as(folder / "dicom" / "overlay_map.dcm", enforce_file_format=True)
    return [
        *words,
        f"dicom/findings_seg.dcm: DICOM SEG of the findings on the {len(instances)} source images",
        f"dicom/overlay_map.dcm: DICOM parametric map of the difference in {settings.unit}, same images",
    ]
