"""What one file of the cohort is, as the check remembers it: its fault, or its grid and its bytes' digest."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from normct.common.errors import DataFault

# nibabel, numpy and pydicom are imported where a file is read: the Snakefile imports this at every parse


class Scan(Protocol):
    """What the check needs of a participant."""

    @property
    def participant_id(self) -> str:
        """``sub-`` plus letters and digits."""

    @property
    def ct(self) -> str:
        """Path of a NIfTI file or a DICOM folder."""

    @property
    def lesion_mask(self) -> str | None:
        """Path of a NIfTI mask."""


@dataclass(frozen=True)
class File:
    """One file or folder, and what the table uses it for.

    Attributes
    ----------
    path : str
        From the working directory.
    subject, what : str
        Participant ID and role (``ct``, ``lesion_mask``), for the message.
    grid : bool
        Whether a DICOM folder's grid is needed, because a lesion mask must lie on it.
    """

    path: str
    subject: str
    what: str
    grid: bool = False

    @property
    def key(self) -> str:
        """Hash of the path: the cache stands in the results, where no path may."""
        return hashlib.sha256(str(Path(self.path).absolute()).encode()).hexdigest()[:32]

    def stamp(self) -> list[int] | None:
        """Size and time of a file; number of entries and time of a folder; None where there is none."""
        try:
            status = Path(self.path).stat()
            folder = Path(self.path).is_dir()
            size = len(os.listdir(self.path)) if folder else status.st_size  # noqa: PTH208 (names only)
        except OSError:
            return None
        return [size, status.st_mtime_ns]

    def known(self, entry: dict[str, Any] | None, stamp: list[int] | None) -> bool:
        """Whether an entry of the cache still says all that is asked of this file."""
        if entry is None or stamp is None or entry["stamp"] != stamp:
            return False
        if "fault" in entry:
            return bool(entry["what"] == self.what)
        return "shape" in entry or not self.grid

    def look(self) -> dict[str, Any]:
        """Read the file to its end; return its fault and remedy, or shape, affine and digest."""
        from normct.cohort import nifti

        try:
            if Path(self.path).is_dir():
                return self._folder()
            scan = nifti.read_scan(self.path, self.subject, self.what)
        except DataFault as fault:
            return {"fault": fault.fault, "remedy": fault.remedy}
        return {
            "shape": list(scan.header.shape),
            "affine": scan.header.affine.tolist(),
            "sha256": scan.sha256,
        }

    def _folder(self) -> dict[str, Any]:
        from normct.cohort import dicom, dicom_folder

        if self.what != "ct":
            raise DataFault(self.subject, self.what, "a folder", "Give a NIfTI file")
        folder = Path(self.path)
        listed = dicom_folder.require_ct(folder, self.subject)
        # bytes are hashed only where another folder has the same size
        found: dict[str, Any] = {"folder_bytes": sum(p.stat().st_size for p in listed)}
        if self.grid:  # tilt correction changes it: only a conversion tells
            header = dicom.read_folder(folder, self.subject)[0].header
            found |= {"shape": list(header.shape), "affine": header.affine.tolist()}
        return found


def files_of(people: Iterable[Scan]) -> dict[str, File]:
    """Return the files of a cohort by path."""
    found = {}
    for person in people:
        found[person.ct] = File(person.ct, person.participant_id, "ct", person.lesion_mask is not None)
        if person.lesion_mask:
            found[person.lesion_mask] = File(person.lesion_mask, person.participant_id, "lesion_mask")
    return found
