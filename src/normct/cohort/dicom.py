"""DICOM folders through dcm2niix: tilt and slice distance are its business, the choice of series is ours.

Nothing of a header leaves this module but what :func:`acquisition` lets through; dcm2niix's own output names
paths and series, so it is never logged.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from normct.cohort.dicom_folder import REMEDY, require_ct, widest_gap
from normct.common.errors import DataFault

if TYPE_CHECKING:
    from normct.cohort.nifti import Scan

# of neighbouring slices; thicker shows too little
MAX_SPACING_MM = 10.0
WHOLE_SERIES = "Give the whole axial head series"
HEAD = {"HEAD", "BRAIN", "SKULL", "HEADNECK"}
VENDORS = ("GE", "Siemens", "Philips", "Canon", "Toshiba", "Hitachi", "Neusoft", "UIH")
SOFT = re.compile(r"^(SOFT|STND|STANDARD|STD|DETAIL|U?[ABC]$|FC(0|1|2)\d|FC6[0-9]|BRAIN|HEAD)", re.IGNORECASE)
SHARP = re.compile(r"^(BONE|EDGE|LUNG|ULTRA|U?[DEFL]$|Y[A-D]$|FC[358]\d|SHARP)", re.IGNORECASE)
SIEMENS = re.compile(r"^[A-Z][a-z]?(\d{2})", re.ASCII)
# dcm2niix: 1 error, 2 no DICOM, 4 corrupt, 8 some converted, 9 skipped; the rest are faults of the machine
DATA_EXITS = {0, 1, 2, 4, 8, 9}


@dataclass(frozen=True)
class Series:
    """One file that dcm2niix wrote."""

    path: Path
    meta: dict[str, Any]
    shape: tuple[int, ...]

    @property
    def words(self) -> set[str]:
        """DICOM image type, upper case."""
        return {str(word).upper() for word in self.meta.get("ImageType", [])}

    @property
    def localiser(self) -> bool:
        """Whether it is a scout."""
        return bool({"LOCALIZER", "SCOUT"} & self.words)

    @property
    def original(self) -> bool:
        """Whether it was reconstructed from the scan, not from other images."""
        return {"ORIGINAL", "PRIMARY"} <= self.words

    @property
    def axial(self) -> bool:
        """Whether the slices are within 45° of axial."""
        cosines = self.meta.get("ImageOrientationPatientDICOM")
        if not cosines or len(cosines) != 6:
            return "AXIAL" in self.words
        r, c = cosines[:3], cosines[3:]
        return abs(r[0] * c[1] - r[1] * c[0]) > 0.7

    @property
    def head(self) -> bool:
        """Whether the body part is the head, or not said."""
        part = str(self.meta.get("BodyPart", self.meta.get("BodyPartExamined", ""))).upper()
        return not part or part in HEAD

    @property
    def kernel(self) -> str | None:
        """Convolution kernel, a short word of safe characters."""
        value = self.meta.get("ConvolutionKernel")
        value = value[0] if isinstance(value, list) and value else value
        return value if isinstance(value, str) and re.fullmatch(r"[A-Za-z0-9+_.-]{1,16}", value) else None

    @property
    def softness(self) -> int:
        """1 soft kernel, 0 unknown, -1 sharp."""
        kernel = self.kernel or ""
        if SOFT.match(kernel):
            return 1
        if SHARP.match(kernel):
            return -1
        if number := SIEMENS.match(kernel):
            return 1 if int(number[1]) <= 45 else -1
        return 0

    @property
    def corrected(self) -> int:
        """2 gantry tilt corrected, 1 slice distance evened out, 0 as scanned."""
        return 2 if "_Tilt" in self.path.stem else 1 if re.search(r"_Eq(_\d+)?$", self.path.stem) else 0

    def rank(self) -> tuple[int, ...]:
        """Order of preference; the corrected twin of a series wins over the plain one."""
        return (self.head, self.original, self.axial, self.softness, self.corrected, self.shape[2])

    def kind(self) -> str:
        """Return the series in words, free of header text but for the kernel."""
        words = ["original" if self.original else "derived", "axial" if self.axial else "not axial"]
        if self.kernel:
            tone = {1: "soft ", 0: "", -1: "sharp "}[self.softness]
            words.append(f"{tone}kernel {self.kernel}")
        words.append(f"{self.shape[2]} slices")
        words.append(("as scanned", "slice distance evened out", "gantry tilt corrected")[self.corrected])
        return ", ".join(words)


def program() -> str:
    """Return dcm2niix of the PyPI wheel, else the system's.

    Raises
    ------
    RuntimeError
        Where there is none: a fault of the machine, not of the data.
    """
    try:
        import dcm2niix

        return str(dcm2niix.bin)
    except ImportError:
        found = shutil.which("dcm2niix")
        if found is None:
            raise RuntimeError("dcm2niix is missing: pip install dcm2niix") from None
        return found


def convert(folder: Path, out: Path, subject: str) -> list[Series]:
    """Convert a DICOM folder.

    Parameters
    ----------
    folder : Path
        DICOM files, in subfolders too.
    out : Path
        An empty temporary folder; what is written there holds header text and must not stay.
    subject : str
        Participant ID, for the message.

    Returns
    -------
    list of Series
        Every NIfTI file written.

    Raises
    ------
    DataFault
        No DICOM files, or none that can be read.
    RuntimeError
        dcm2niix is missing, was killed or could not write.
    """
    import nibabel as nib

    # -ba y: no names and no dates even in the side file
    options = ["-b", "y", "-ba", "y", "-z", "n", "-f", "s%s", "-w", "2"]
    command = [program(), *options, "-o", str(out), str(folder)]
    code = subprocess.run(command, capture_output=True, check=False).returncode
    if code not in DATA_EXITS:
        raise RuntimeError(f"{subject}: dcm2niix ended with status {code} (killed, or no space to write)")
    found = []
    sidecars = sorted(out.glob("*.json"), key=lambda p: -len(p.stem))
    for path in sorted(out.glob("*.nii")):
        meta: dict[str, Any] = next(
            (json.loads(p.read_text("utf-8", "replace")) for p in sidecars if path.stem.startswith(p.stem)),
            {},
        )
        image: Any = nib.load(path)
        found.append(Series(path, meta, image.shape))
    if not found:
        raise DataFault(subject, "ct", "a folder without a readable DICOM series", REMEDY)
    return found


def choose(series: list[Series], subject: str) -> tuple[Series, str]:
    """Choose the head series by rule; return it, and which and why in words.

    The head before other body parts, original before derived, axial before reformatted, a soft kernel before
    a sharp one (mostly noise in the brain), the tilt-corrected file before its plain twin, then
    most slices.

    Raises
    ------
    DataFault
        No CT, localisers only, or slices missing.
    """
    ct = [s for s in series if str(s.meta.get("Modality", "CT")).upper() == "CT"]
    if not ct:
        raise DataFault(
            subject, "ct", "not CT: the DICOM files are of another modality", "Give the head CT series"
        )
    volumes = [s for s in ct if not s.localiser and len(s.shape) == 3 and s.shape[2] >= 3]
    if volumes and not any(s.meta for s in volumes):  # dcm2niix gave up before it wrote the side file
        fault = "slices are missing or unevenly spaced, and cannot be put right"
        raise DataFault(subject, "ct", fault, WHOLE_SERIES)
    volumes = [s for s in volumes if s.meta]
    if not volumes:
        raise DataFault(subject, "ct", "localisers or single slices only, no volume", WHOLE_SERIES)
    best = max(volumes, key=lambda s: (s.rank(), s.path.name))
    passed = [s for s in series if s is not best]
    why = f"{best.kind()}; chosen among {len(series)}" if passed else f"{best.kind()}; the only one"
    scouts = sum(s not in volumes for s in passed)
    if passed:
        why += f" (passed over: {scouts} localisers or single slices, {len(passed) - scouts} other volumes)"
    return best, why


def read_folder(folder: Path, subject: str, keep: bool = False) -> tuple[Scan, Series, str]:
    """Convert a folder, choose its head series and read it.

    Parameters
    ----------
    folder, subject
        As :func:`convert`.
    keep : bool
        Keep the voxels (as :func:`normct.cohort.nifti.read_scan`).

    Returns
    -------
    tuple
        The scan, the series it is, and which and why in words.
    """
    from normct.cohort.nifti import read_scan

    require_ct(folder, subject)
    with tempfile.TemporaryDirectory(prefix="normct-") as out:
        chosen, why = choose(convert(folder, Path(out), subject), subject)
        if (
            gap := widest_gap(folder, chosen.meta)
        ) > MAX_SPACING_MM:  # evened out, it would be invented brain
            fault = f"slices are missing: a gap of {gap:.0f} mm (limit {MAX_SPACING_MM:.0f} mm)"
            raise DataFault(subject, "ct", fault, WHOLE_SERIES)
        return read_scan(chosen.path, subject, "ct", keep), chosen, why


def _number(value: Any, low: float, high: float) -> float | None:
    return float(value) if isinstance(value, int | float) and low <= value <= high else None


def acquisition(series: Series | None) -> dict[str, Any]:
    """Return what may leave the header: numbers within their ranges, a kernel, a vendor of a fixed list.

    Parameters
    ----------
    series : Series or None
        None for NIfTI input, whose header knows none of this.
    """
    meta = series.meta if series else {}
    maker = str(meta.get("Manufacturer", "")).upper()
    return {
        "slice_thickness_mm": _number(meta.get("SliceThickness"), 0.1, 50),
        "kernel": series.kernel if series else None,
        "tube_current_ma": _number(meta.get("XRayTubeCurrent"), 1, 3000),
        "vendor": next((name for name in VENDORS if name.upper() in maker), None),
    }
