"""Hostile scans: how each is made, what must become of it, and what the message must say."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy.spatial.transform import Rotation

from factories import PHI, head_hu, save_nifti, write_series
from normct.common.geometry import resample
from normct.common.volumes import Volume

FOLDER = "Müller^Hans 1950 скан"
NAMES = ("Müller", "Hans", "скан", *PHI, "Doe", "John", "Elsewhere")


@dataclass
class Case:
    """One hostile scan.

    Attributes
    ----------
    make : callable
        Writes the file: (folder, base volume) to a path, or to what differs in the row.
    outcome : str
        ``row``, ``stat``, ``bytes``: refused before any job, by what the table's rows, ``stat``, or headers
        and bytes show; but for rows, set aside where the configuration says so. ``twin``: refused always.
        ``voxels``: set aside. ``accepted``.
    message : str
        Fragment of the fault, the reason or the repair; empty for none.
    """

    make: Callable[[Path, Volume], Path | dict]
    outcome: str
    message: str


def write(name: str, change=lambda data: data, affine=lambda a: a, dtype=np.int16, **header):
    """Return a maker of a NIfTI file that holds the base volume, changed."""

    def make(folder: Path, base: Volume) -> Path:
        return save_nifti(folder / name, change(base.data.copy()), affine(base.affine), dtype, **header)

    return make


def spoil(name: str, change: Callable[[bytes], bytes]):
    """Return a maker of the plain file with its bytes changed."""

    def make(folder: Path, base: Volume) -> Path:
        path = save_nifti(folder / name, base.data[:, :, ::-1], base.affine)
        path.write_bytes(change(path.read_bytes()))
        return path

    return make


def row(**changes):
    """Return a maker of a good small file whose row is at fault."""

    def make(folder: Path, base: Volume) -> dict:
        number = len(list(folder.iterdir()))
        path = save_nifti(folder / f"row {number}.nii.gz", head_hu(100 + number))
        return {"ct": str(path)} | changes

    return make


def mask(shape: tuple[int, ...], shift: float = 0.0):
    """Return a maker of an abnormal scan with a lesion mask on a grid of that shape, shifted in mm."""

    def make(folder: Path, base: Volume) -> dict:
        number = len(list(folder.iterdir()))
        affine = base.affine.copy()
        affine[0, 3] += shift
        marked = np.zeros(shape or base.data.shape)
        lesion = save_nifti(folder / f"mask {number}.nii.gz", marked, affine, np.uint8)
        ct = save_nifti(folder / f"with mask {number}.nii.gz", base.data + number % 7, base.affine)
        return {"ct": str(ct), "lesion_mask": str(lesion), "group": "abnormal", "pathology": "icb"}

    return make


def missing(folder: Path, base: Volume) -> Path:
    return folder / "gone.nii.gz"


def pipe(folder: Path, base: Volume) -> Path:
    os.mkfifo(folder / "pipe.nii.gz")
    return folder / "pipe.nii.gz"


def empty_folder(folder: Path, base: Volume) -> Path:
    (folder / "no dicom").mkdir()
    return folder / "no dicom"


def mri_folder(folder: Path, base: Volume) -> Path:
    write_series(folder / "mri of Doe", head_hu(3)[:, :, :4], mri=True)
    return folder / "mri of Doe"


def twin(folder: Path, base: Volume) -> Path:
    path = folder / "copy.nii.gz"
    path.write_bytes((folder / "good Doe John.nii.gz").read_bytes())
    return path


def good(folder: Path, base: Volume) -> Path:
    """Name, date and the like wherever NIfTI has room for text."""
    image = nib.Nifti1Image(base.data, base.affine)
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"Doe^John 19700101"))
    nib.save(image, folder / "good Doe John.nii.gz")
    path = folder / "good Doe John.nii.gz"
    content = bytearray(gzip.decompress(path.read_bytes()))
    content[148:156], content[228:235], content[328:336] = b"Doe^John", b"MRN777.", b"Doe^John"
    path.write_bytes(gzip.compress(bytes(content)))
    return path


def contorted(folder: Path, base: Volume) -> Path:
    """Gantry tilt kept in a sheared affine, head turned, axes permuted, one flipped."""
    shear = base.affine.copy()
    shear[:3, 2] += 0.25 * base.zooms[2] * base.affine[:3, 1] / base.zooms[1]
    shear[:3, 3] -= (shear[:3, 2] - base.affine[:3, 2]) * base.data.shape[2] / 2
    tilted = resample(base, base.data.shape, shear, order=1, fill=-1024)
    turn = np.eye(4)
    turn[:3, :3] = Rotation.from_euler("xyz", (6, -4, 5), degrees=True).as_matrix()
    image = nib.Nifti1Image(tilted.data, turn @ shear)
    image = image.as_reoriented(np.array([[2, 1], [0, -1], [1, 1]]))
    return save_nifti(folder / "contorted.nii.gz", image.dataobj, image.affine)


def dicom(folder: Path, base: Volume) -> Path:
    write_series(folder / "Doe^John" / "19700101", head_hu(5))
    return folder / "Doe^John"


def nan(share: float):
    def change(data):
        data = data.astype(np.float32)
        data.ravel()[: int(share * data.size)] = (np.nan, np.inf)[share > 0.1]
        return data

    return change


def outside(data, value):
    """Write ``value`` into the corners that a round field of view leaves."""
    x, y = np.ogrid[-1 : 1 : data.shape[0] * 1j, -1 : 1 : data.shape[1] * 1j]
    data[x**2 + y**2 > 1] = value
    return data


def mri(data):
    rng = np.random.default_rng(0)
    return np.where(data > -200, rng.gamma(6, 120, data.shape), np.abs(rng.normal(0, 8, data.shape)))


def spaced(mm: float):
    return lambda a: a @ np.diag([1, 1, mm / np.linalg.norm(a[:3, 2]), 1])


FLIP = np.array([[-1, 0, 0, 127], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
RGB = [("R", "u1"), ("G", "u1"), ("B", "u1")]
CASES = {
    # refused before any job: the table
    "missing": Case(missing, "stat", "ct: no such file"),
    "zero bytes": Case(spoil("zero.nii.gz", lambda b: b""), "stat", "ct: an empty file (0 bytes)"),
    "pipe": Case(pipe, "stat", "ct: neither a file nor a folder"),
    "empty folder": Case(empty_folder, "stat", "ct: a DICOM folder without files"),
    "unknown pathology": Case(
        row(group="abnormal", pathology="ischaemia"), "row", "unknown pathology 'ischaemia'; did you mean"
    ),
    "unknown group": Case(row(group="helthy"), "row", "unknown group 'helthy'; did you mean 'healthy'?"),
    "bad ID": Case(row(participant_id="John Doe"), "row", "participant_id: 'John Doe' is not allowed"),
    "duplicate ID": Case(row(participant_id="sub-missing"), "row", "participant_id: the ID of line"),
    "abnormal in training": Case(
        row(group="abnormal", pathology="icb", split="train"), "row", "an abnormal scan in train"
    ),
    "patient in two splits": Case(row(patient="p1", split="test"), "row", "patient p1 is in "),
    # refused before any job: headers, and one pass over the bytes
    "truncated gzip": Case(
        spoil("cut.nii.gz", lambda b: b[: len(b) // 2]), "bytes", "ct: a damaged or truncated gzip file"),
    "truncated": Case(
        spoil("short.nii.gz", lambda b: gzip.compress(gzip.decompress(b)[:-9000])), "bytes", "ct: truncated: "
    ),
    "text": Case(spoil("text.nii.gz", lambda b: b"Doe^John"), "bytes", "ct: not a NIfTI file"),
    "4-D": Case(write("4d.nii.gz", lambda d: np.stack([d, d], -1)), "bytes", "ct: 4-D (128×128×"),
    "RGB": Case(write("rgb.nii.gz", lambda d: np.zeros(d.shape, RGB), dtype=RGB), "bytes", "RGB colour"),
    "complex": Case(write("c.nii.gz", dtype=np.complex64), "bytes", "the voxels are complex, not HU"),
    "affine": Case(
        write("a.nii.gz", srow_x=[np.nan, 0, 0, 0], sform_code=1), "bytes", "the affine is not finite"
    ),
    "giant": Case(write("g.nii.gz", dim=[3, 30000, 30000, 9000, 1, 1, 1, 1]), "bytes", "more than any head"),
    "mask shape": Case(mask((9, 9, 9)), "bytes", "lesion_mask: its shape 9×9×9 is not that of ct"),
    "mask affine": Case(mask((), 8.0), "bytes", "lesion_mask: its affine is not that of ct (up to 8.0 mm"),
    "MRI as DICOM": Case(mri_folder, "bytes", "ct: a DICOM folder without a readable CT image"),
    # set aside: what only voxels show
    "NaN": Case(write("n.nii.gz", nan(0.2), dtype=np.float32), "voxels", "20 % of the voxels are NaN"),
    "all zero": Case(write("0.nii.gz", np.zeros_like), "voxels", "every voxel is 0"),
    "air only": Case(write("air.nii.gz", lambda d: np.minimum(d, -990 + d % 9)), "voxels", "air only"),
    "MRI": Case(write("mri.nii.gz", mri), "voxels", "no air near -1000 HU: not CT (an MRI?)"),
    "windowed": Case(write("w.nii.gz", lambda d: np.clip(d, 0, 80)), "voxels", "windowed"),
    "one slice": Case(write("1.nii.gz", lambda d: d[:, :, 30:31]), "voxels", "a single slice"),
    "three slices of 20 mm": Case(
        write("3.nii.gz", lambda d: d[:, :, 20:41:10], spaced(20)), "voxels", "slices 20 mm apart"
    ),
    "short": Case(write("15.nii.gz", lambda d: d[:, :, 20:35]), "voxels", "covers 45 mm only"),
    "truncated vertex": Case(write("top.nii.gz", lambda d: d[:, :, :37]), "voxels", "vertex is in the scan"),
    # accepted, repaired where needed
    "good": Case(good, "accepted", ""),
    "contorted": Case(contorted, "accepted", ""),
    "no rescale": Case(
        write("u.nii.gz", lambda d: np.maximum(d + 1024, 0), dtype=np.uint16), "accepted", "1024 subtracted"
    ),
    "12 bit": Case(
        write("12.nii.gz", lambda d: np.clip(d + 1024, 0, 4095)),
        "accepted", "without its rescale intercept",
    ),
    "padding": Case(write("p.nii.gz", lambda d: outside(d, -3024)), "accepted", "padding at -3024 HU"),
    "no sform": Case(write("s.nii.gz", sform_code=0, qform_code=0), "accepted", "RAS assumed"),
    "metres": Case(
        write("m.nii.gz", affine=lambda a: np.diag([0.001] * 3 + [1]) @ a, xyzt_units=1),
        "accepted", "units were metres",
    ),
    "few infinite": Case(write("i.nii.gz", nan(0.004), dtype=np.float32), "accepted", "set to -1024"),
    "flipped": Case(
        write("f.nii.gz", lambda d: d[::-1], lambda a: a @ FLIP), "accepted", ""
    ),
    "DICOM": Case(dicom, "accepted", ""),
    # made last: a copy of a file made before
    "twin": Case(twin, "twin", "the same bytes as ct of sub-good"),
}  # fmt: skip
WHOLE = (
    "good", "contorted", "missing", "truncated gzip", "mask shape", "MRI", "three slices of 20 mm",
    "truncated vertex",
)  # fmt: skip
"""Taken through all of preprocessing; the others through the import, which settles what becomes of them."""
