"""Import one scan: NIfTI or DICOM to int16 HU on its own grid, with a header free of text.

A fault of the data ends in verdict ``set_aside``, with stand-ins that keep the files complete: what is to be
refused was refused by :mod:`normct.cohort.check` before this ran.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from normct.cohort import dicom, dicom_folder, dicom_private, hu, nifti
from normct.common import cli
from normct.common.errors import DataFault
from normct.common.files import write_json
from normct.common.volumes import Volume, write_volume

log = logging.getLogger(__name__)


@dataclass
class Imported:
    """A scan in HU, its lesion mask, the record that goes with them, and a DICOM scan's planes and UIDs."""

    ct: Volume
    lesion: NDArray[np.uint8]
    record: dict[str, Any] = field(default_factory=dict)
    private: dict[str, Any] = field(default_factory=lambda: dict(dicom_private.NONE))


def _read_ct(path: Path, subject: str) -> tuple[nifti.Scan, dict[str, Any], dict[str, Any]]:
    """Return the scan, what is known of its making, and its DICOM planes."""
    if not path.is_dir():
        scan = nifti.read_scan(path, subject, "ct", keep=True)
        record = {
            "source": "nifti",
            "sha256": scan.sha256,
            "series": None,
            "acquisition": dicom.acquisition(None),
        }
        return scan, record, dict(dicom_private.NONE)
    digest = dicom_folder.digest(path, subject)
    scan, chosen, why = dicom.read_folder(path, subject, keep=True)
    log.info("%s: DICOM series: %s", subject, why)
    private = dicom_private.source_instances(path, chosen, scan.header.affine)
    record = {"source": "dicom", "sha256": digest, "series": why, "acquisition": dicom.acquisition(chosen)}
    return scan, record, private


def _read_lesion(path: Path, ct: nifti.Scan, subject: str) -> tuple[NDArray[np.uint8], list[str]]:
    scan = nifti.read_scan(path, subject, "lesion_mask", keep=True)
    grid = ct.header
    if fault := nifti.grid_fault(grid.shape, grid.affine, scan.header.shape, scan.header.affine):
        raise DataFault(subject, "lesion_mask", fault, "Draw or resample it on the grid of ct")
    data = nifti.voxels(scan)
    repairs = []
    if not np.isfinite(data).all():
        data = np.nan_to_num(data, nan=0.0, posinf=0.0, neginf=0.0)
        repairs.append("lesion mask: NaN or infinite voxels set to 0")
    if ((data != 0) & (data != 1)).any():
        repairs.append("lesion mask: values other than 0 and 1, everything above 0 is lesion")
    lesion = (data > 0).astype(np.uint8)
    if not lesion.any():
        repairs.append("lesion mask: empty, no voxel is marked")
    return lesion, repairs


def import_scan(subject: str, ct: Path, lesion: Path | None) -> Imported:
    """Read, check and repair one scan.

    Parameters
    ----------
    subject : str
        Participant ID.
    ct : Path
        NIfTI file or DICOM folder.
    lesion : Path or None
        NIfTI mask on the grid of ``ct``.

    Returns
    -------
    Imported
        ``ct`` is int16 HU, shape (i, j, k), at least -1024, with the affine of the file (mm); ``lesion`` is
        uint8 on the same grid, all 0 without a mask.

    Raises
    ------
    DataFault
        The scan or its mask cannot be used.
    """
    scan, made, private = _read_ct(ct, subject)
    mask, notes = (None, []) if lesion is None else _read_lesion(lesion, scan, subject)
    affine = scan.header.affine
    zooms = np.linalg.norm(affine[:3, :3], axis=0)
    hu.check_extent(subject, scan.header.shape, zooms)
    data, repairs = hu.to_hu(nifti.voxels(scan), subject)
    made["acquisition"]["slice_thickness_mm"] = made["acquisition"]["slice_thickness_mm"] or round(
        float(zooms.max()), 3
    )
    record = _record(subject, mask is not None) | made
    record |= {
        "shape": list(scan.header.shape),
        "zooms_mm": [round(float(z), 6) for z in zooms],
        "repairs": [*scan.header.repairs, *repairs, *notes],
    }
    marked = mask if mask is not None else np.zeros(data.shape, np.uint8)
    return Imported(Volume(data, affine), marked, record, private)


def _record(subject: str, has_mask: bool) -> dict[str, Any]:
    return {
        "participant_id": subject,
        "verdict": "ok",
        "reason": None,
        "source": None,
        "shape": None,
        "zooms_mm": None,
        "has_lesion_mask": has_mask,
        "sha256": None,
        "repairs": [],
        "series": None,
        "acquisition": dicom.acquisition(None),
    }


def run_import(subject: str, ct: Path, lesion: Path | None, out: Path) -> dict[str, Any]:
    """Import one scan into ``out``: ``ct.nii.gz``, ``lesion.nii.gz``, and two JSON files.

    Parameters
    ----------
    subject, ct, lesion
        As :func:`import_scan`.
    out : Path
        Folder of the subject.

    Returns
    -------
    dict
        What ``import.json`` holds.
    """
    try:
        result = import_scan(subject, ct, lesion)
    except DataFault as fault:
        log.warning("%s: set aside: %s", subject, fault.reason)
        kind = {"source": "dicom" if ct.is_dir() else "nifti", "verdict": "set_aside", "reason": fault.reason}
        stand_in = Volume(np.full((1, 1, 1), hu.AIR, np.int16), np.eye(4))
        result = Imported(
            stand_in, np.zeros((1, 1, 1), np.uint8), _record(subject, lesion is not None) | kind
        )
    for note in result.record["repairs"]:
        log.info("%s: %s", subject, note)
    write_volume(out / "ct.nii.gz", result.ct)
    write_volume(out / "lesion.nii.gz", Volume(result.lesion, result.ct.affine))
    write_json(out / "import.json", result.record)
    write_json(out / "dicom_private.json", result.private)
    return result.record


def main(argv: list[str] | None) -> None:
    """Command line."""
    parser = cli.parser(__doc__, "normct.cohort.importer")
    parser.add_argument("--subject", required=True, help="participant ID")
    parser.add_argument("--ct", required=True, type=Path, help="NIfTI file or DICOM folder")
    parser.add_argument("--lesion", default="", help="NIfTI mask on the grid of ct; empty for none")
    parser.add_argument("--out", required=True, type=Path, help="folder to write into")
    args = parser.parse_args(argv)
    lesion = Path(args.lesion) if args.lesion else None
    run_import(args.subject, args.ct, lesion, args.out)


if __name__ == "__main__":
    cli.run(main)
