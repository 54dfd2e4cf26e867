"""From stored values to Hounsfield units: repaired where that is certain, set aside where it is not.

Air is -1000 HU by definition, brain 20 to 45 HU; both show in the histogram of any head CT.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from normct.cohort.dicom import MAX_SPACING_MM
from normct.common.errors import DataFault

AIR = -1024
# offset that scanners subtract from unsigned storage
OFFSET = 1024
MIN_SLICES, MIN_EXTENT_MM = 3, 60.0
MAX_NON_FINITE = 0.01
SAMPLE = 2_000_000


def check_extent(subject: str, shape: tuple[int, ...], zooms: NDArray[np.float64]) -> None:
    """Raise :class:`DataFault` where a scan is too thin, too short or too coarse to be a head.

    Parameters
    ----------
    subject : str
        Participant ID.
    shape : tuple of int
        (i, j, k).
    zooms : ndarray
        Voxel size in mm, shape (3,).
    """
    fewest = int(min(shape))
    extent, coarsest = float((zooms * np.array(shape)).min()), float(zooms.max())
    remedy = "Give the whole axial head series"
    if fewest < MIN_SLICES:
        raise DataFault(subject, "ct", "a single slice" if fewest == 1 else f"{fewest} slices only", remedy)
    if coarsest > MAX_SPACING_MM:
        raise DataFault(
            subject, "ct", f"slices {coarsest:.0f} mm apart (limit {MAX_SPACING_MM:.0f} mm)", remedy
        )
    if extent < MIN_EXTENT_MM:
        raise DataFault(
            subject, "ct", f"covers {extent:.0f} mm only (at least {MIN_EXTENT_MM:.0f} mm)", remedy
        )


def _share(values: NDArray, low: float, high: float) -> float:
    return float(np.mean((values >= low) & (values < high)))


def _lacks_offset(values: NDArray) -> bool:
    """Whether values look like a head CT stored 1024 too high: air near 0, brain near 1054, bone above."""
    values = values[values > -200]  # padding
    tissue = values[values > OFFSET - 250]
    if values.size == 0 or _share(values, -200, 150) < 0.02 or tissue.size < 0.02 * values.size:
        return False
    counts, edges = np.histogram(tissue, bins=np.arange(OFFSET - 250, OFFSET + 400, 5))
    peak = float(edges[np.convolve(counts, np.ones(5), "same").argmax()]) + 2.5 - OFFSET
    # an MRI has tissue at every value; CT has a gap between air and fat, and a narrow brain peak
    narrow = _share(tissue, OFFSET + peak - 60, OFFSET + peak + 60)
    between = np.mean((values > 224) & (values <= OFFSET - 250)) * values.size / tissue.size
    bone = _share(tissue, OFFSET + 300, np.inf)
    # an offset of 1000 would put the peak below 18: which of the two it was cannot be told
    return bool(18 <= peak <= 60 and narrow > 0.2 and between < 0.5 and bone > 0.02)


def to_hu(data: NDArray[np.float32], subject: str) -> tuple[NDArray[np.int16], list[str]]:
    """Return HU and what was repaired.

    Parameters
    ----------
    data : ndarray
        Shape (i, j, k), slope and intercept applied. Changed in place.
    subject : str
        Participant ID, for the message.

    Returns
    -------
    hu : ndarray of int16
        Shape (i, j, k), at least -1024.
    repairs : list of str

    Raises
    ------
    DataFault
        Many non-finite voxels, all equal, air only, stored without a rescale that can be told, or not CT.
    """
    repairs: list[str] = []
    bad = ~np.isfinite(data)
    if share := float(bad.mean()):
        if share >= MAX_NON_FINITE:
            fault = f"{100 * share:.0f} % of the voxels are NaN or infinite"
            raise DataFault(subject, "ct", fault, "Convert the scan again from its DICOM files")
        data[bad] = AIR
        repairs.append(f"{int(bad.sum())} voxels were NaN or infinite: set to {AIR} HU")
    low, high = float(data.min()), float(data.max())
    if low == high:
        what = "every voxel is 0" if low == 0 else f"every voxel has the same value ({low:.0f})"
        raise DataFault(subject, "ct", what, "Export the scan again")
    if low >= 0 and high > 60000:
        data[data >= 32768] -= 65536  # GE's padding -2000 read as unsigned
        repairs.append("negative values were stored as unsigned 16 bit: unwrapped")
        low = float(data.min())
    step = max(1, data.size // SAMPLE)
    sample = data.ravel(order="K")[::step]
    if _share(sample, -1100, -850) < 0.01:
        if not _lacks_offset(sample):
            fault = "no air near -1000 HU: not CT (an MRI?), windowed, or stored without its rescale"
            raise DataFault(subject, "ct", fault, "Give the original CT in Hounsfield units")
        data[data > -200] -= OFFSET
        repairs.append("stored without its rescale intercept (air near 0): 1024 subtracted")
    sample = data.ravel(order="K")[::step]
    if _share(sample, -200, np.inf) < 0.01:
        raise DataFault(subject, "ct", "air only: nothing denser than -200 HU", "Give the head series")
    if (low := float(data.min())) < -1100:
        repairs.append(f"padding at {low:.0f} HU set to {AIR} HU")
    np.clip(np.rint(data, out=data), AIR, np.iinfo(np.int16).max, out=data)
    return data.astype(np.int16), repairs
