"""Small stand-ins for what an earlier stage leaves behind, written with the project's own writers."""

from __future__ import annotations

import gzip

import nibabel as nib
import numpy as np

from normct.common.slices import DEPTH, GRID, SIZE, SliceStore


def ellipsoid(
    shape: tuple[int, int, int], centre: tuple[float, float, float], radii: tuple[float, float, float]
):
    """Boolean ellipsoid, all in voxels."""
    grid = np.ogrid[tuple(slice(0, n) for n in shape)]
    return sum(((g - c) / r) ** 2 for g, c, r in zip(grid, centre, radii, strict=True)) <= 1.0


def make_store(subject: str = "sub-test", seed: int = 0, lesion: bool = False) -> SliceStore:
    """A brain-like ellipsoid with noise, optionally with a bright ball in it."""
    rng = np.random.default_rng(seed)
    brain = ellipsoid((DEPTH, GRID, GRID), (70, 120, 120), (60, 85, 68))
    ball = ellipsoid((DEPTH, GRID, GRID), (80, 140, 90), (9, 9, 9)) if lesion else np.zeros_like(brain)
    mask = ellipsoid((DEPTH, SIZE, SIZE), (70, 64, 64), (60, 45, 36))
    ball128 = ellipsoid((DEPTH, SIZE, SIZE), (80, 74.7, 48), (9, 4.8, 4.8)) if lesion else np.zeros_like(mask)
    image = np.clip(0.4 + 0.05 * rng.standard_normal(mask.shape) + 0.4 * ball128, 0, 1) * mask
    usable = brain.sum(axis=(1, 2)) >= 10
    return SliceStore(subject, image.astype(np.float16), mask, brain, ball & brain, usable, lesion)


HEAD_AFFINE = np.array([[4.0, 0, 0, -96], [0, 4, 0, -112], [0, 0, 5, -80], [0, 0, 0, 1]])


def head_hu(seed: int = 0) -> np.ndarray:
    """48×56×32 voxels: air -1000, scalp, skull 900, brain 32 HU, with noise."""
    shape, centre = (48, 56, 32), (24, 28, 16)
    hu = np.full(shape, -1000.0)
    for radii, value in (((20, 24, 15), 20), ((19, 23, 14), 900), ((17.5, 21.5, 13), 32)):
        hu[ellipsoid(shape, centre, radii)] = value
    return hu + np.random.default_rng(seed).normal(0, 4, shape)


def save_nifti(path, data, affine=HEAD_AFFINE, dtype=np.int16, **header):
    """Write a NIfTI file; header fields by keyword, as stored."""
    image = nib.Nifti1Image(np.asarray(data).astype(dtype), affine)
    nib.save(image, path)
    if header:  # after saving: nibabel puts right what it writes
        packed = path.name.endswith(".gz")
        content = gzip.decompress(path.read_bytes()) if packed else path.read_bytes()
        raw = nib.Nifti1Header(content[:348], check=False)
        for key, value in header.items():
            raw[key] = value
        content = raw.binaryblock + content[348:]
        path.write_bytes(gzip.compress(content) if packed else content)
    return path


METHOD_SETTINGS: dict[str, dict] = {
    "vae_kl": {"kl_weight": 0.1},
    "cevae": {"kl_weight": 0.1, "mixing": 0.25, "max_patch": 32},
    "context_restoration": {"swaps": 1, "patch_fraction": 0.125},
    "vae_pretrained": {"kl_weight": 0.1},
    "multitask_pretrained": {"kl_weight": 0.1, "epsilon": "auto", "max_shift": 16},
    "denoising": {"width": 4, "noise_sigma": 0.2, "noise_grid": 16},
    "vae_variance": {"kl_weight": 0.1, "sigma_floor": 0.02},
    "vae_dropout": {"kl_weight": 0.1, "dropout": 0.2, "passes": 4},
    "aae": {"adversarial_weight": 0.01, "hidden": 8},
    "vae_flow": {"kl_weight": 0.1, "transforms": 2, "hidden": 16},
    "beta_tcvae": {"kl_weight": 0.1, "tc_weight": 6.0},
    "multitask": {"kl_weight": 0.1, "epsilon": "auto", "max_shift": 16},
    "multitask_epsilon_low": {"kl_weight": 0.1, "epsilon": "auto", "max_shift": 16},
    "multitask_epsilon_high": {"kl_weight": 0.1, "epsilon": "auto", "max_shift": 16},
}
"""Each method's own settings, as its section of ``train:`` gives them (epochs apart)."""


def make_head(
    shape: tuple[int, int, int] = (96, 112, 44),
    zooms: tuple[float, float, float] = (2.0, 2.0, 4.0),
    noise: float = 4.0,
    seed: int = 0,
):
    """A schematic head CT in RAS+: brain 34 HU, skull closed but for the foramen magnum, scalp, neck.

    Returns the scan (int16 HU) and the mask of the cranial cavity as volumes on one grid.
    """
    from normct.common.volumes import Volume

    affine = np.diag([*zooms, 1.0])
    affine[:3, 3] = -np.array(shape) * zooms / 2 + (5.0, -8.0, 12.0)
    grid = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij", sparse=True)
    x, y, z = (affine[a, a] * g + affine[a, 3] for a, g in enumerate(grid))

    def ball(rx: float, ry: float, rz: float):
        return (x / rx) ** 2 + (y / ry) ** 2 + ((z - 20) / rz) ** 2 <= 1

    cavity = ball(66, 80, 62)
    hu = np.full(shape, -1000.0)
    canal = (x**2 + (y + 20) ** 2) < 9**2
    neck = (x**2 + (y + 20) ** 2 < 55**2) & (z < -20)
    hu[ball(80, 94, 76) | neck] = -90.0  # fat: scalp, and between skull base and muscle
    hu[(x**2 + (y + 20) ** 2 < 50**2) & (z < -56)] = 55.0
    hu[ball(73, 87, 69)] = 1000.0
    spine = (x**2 + (y + 20) ** 2 < 16**2) & (z < -40)
    hu[spine & ~cavity] = 900.0
    hu[canal & (z < -35)] = 30.0
    hu[cavity] = 34.0
    hu += noise * np.random.default_rng(seed).standard_normal(shape)
    return Volume(hu.astype(np.int16), affine), Volume(cavity.astype(np.uint8), affine)


PHI = ("Doe^John", "19700101", "ACC12345", "MRN777", "St Elsewhere", "20200202")
"""What :func:`write_series` plants in DICOM headers."""


def write_series(
    folder, data, number=2, kernel="STANDARD", image_type=("ORIGINAL", "PRIMARY", "AXIAL"), mri=False, bits=16
):
    """Write ``data`` (i, j, k), HU, as one axial series of 4×4×5 mm, full of names and dates."""
    import pydicom
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, MRImageStorage, generate_uid

    folder.mkdir(parents=True, exist_ok=True)
    study, uid = generate_uid(entropy_srcs=["s"]), generate_uid(entropy_srcs=[str(number)])
    frame, sop = generate_uid(), MRImageStorage if mri else CTImageStorage
    for k in range(data.shape[2]):
        one = pydicom.Dataset()
        one.file_meta = pydicom.dataset.FileMetaDataset()
        one.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        one.SOPClassUID = one.file_meta.MediaStorageSOPClassUID = sop
        one.SOPInstanceUID = one.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        one.PatientName, one.PatientBirthDate, one.AccessionNumber, one.PatientID = PHI[:4]
        one.InstitutionName, one.StudyDate = PHI[4:]
        one.SeriesDescription = one.ProtocolName = one.StudyDescription = "HEAD Doe^John"
        one.Modality = "MR" if mri else "CT"
        one.Manufacturer, one.ImageType = "SIEMENS", list(image_type)
        one.StudyInstanceUID, one.SeriesInstanceUID, one.FrameOfReferenceUID = study, uid, frame
        one.SeriesNumber, one.InstanceNumber, one.AcquisitionNumber = number, k + 1, 1
        one.KVP, one.SliceThickness, one.ConvolutionKernel, one.XRayTubeCurrent = 120, 5.0, kernel, 200
        one.BodyPartExamined = "HEAD"
        one.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        one.ImagePositionPatient = [-96, -112, -80 + 5.0 * k]
        one.PixelSpacing, one.Rows, one.Columns = [4, 4], data.shape[1], data.shape[0]
        one.RescaleIntercept, one.RescaleSlope, one.RescaleType = -1024, 1, "HU"
        one.SamplesPerPixel, one.PhotometricInterpretation = 1, "MONOCHROME2"
        one.BitsAllocated, one.BitsStored, one.HighBit, one.PixelRepresentation = 16, bits, bits - 1, 0
        one.PixelData = np.clip(np.rint(data[:, :, k].T) + 1024, 0, 4095).astype("<u2").tobytes()
        one.save_as(folder / f"{number:03d}_{k:03d}.dcm", enforce_file_format=True)
