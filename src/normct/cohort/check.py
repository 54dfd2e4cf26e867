"""Look at every new or changed file once, before any job: headers, and one pass over the bytes.

What was seen is kept in a small cache, by a hash of the path with size and time, so a second run costs one
``stat`` a file. Run by the Snakefile in the main process; by hand:
``python -m normct.cohort.check participants.tsv``.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections import defaultdict
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from normct.cohort.table import Participant, load_participants
from normct.common import cli
from normct.common.errors import ConfigError, DataFault
from normct.common.files import read_json, sha256, write_json

# nibabel, numpy and pydicom are imported where a file is read: the Snakefile imports this at every parse

log = logging.getLogger(__name__)
TITLE = "The cohort's files have faults; nothing was run:"
VERSION = 1
GRID_REMEDY = "Draw or resample it on the grid of ct"


def _key(path: str) -> str:
    """Hash of a path: the cache stands in the results, where no path may."""
    return hashlib.sha256(str(Path(path).absolute()).encode()).hexdigest()[:32]


def _stamp(path: str) -> list[int] | None:
    """Size and time of a file; number of entries and time of a folder; None where there is none."""
    try:
        status = Path(path).stat()
        size = len(os.listdir(path)) if Path(path).is_dir() else status.st_size  # noqa: PTH208 (names only)
    except OSError:
        return None
    return [size, status.st_mtime_ns]


def _look(path: str, subject: str, what: str) -> dict[str, Any]:
    """Return what a file is, as the cache holds it: its fault, or shape, affine and a digest of its bytes."""
    from normct.cohort import dicom, nifti

    try:
        if Path(path).is_dir():
            if what != "ct":
                raise DataFault(subject, what, "a folder", "Give a NIfTI file")
            listed = list(dicom.files(Path(path)))
            if not listed:
                raise DataFault(subject, what, "a DICOM folder without files", "Copy the series into it")
            if not dicom.has_ct(Path(path)):
                raise DataFault(subject, what, "a DICOM folder without a readable CT image", dicom.REMEDY)
            # bytes are hashed only where another folder has the same size
            return {"folder_bytes": sum(p.stat().st_size for p in listed)}
        scan = nifti.read_scan(path, subject, what)
    except DataFault as fault:
        return {"fault": fault.fault, "remedy": fault.remedy}
    return {"shape": list(scan.header.shape), "affine": scan.header.affine.tolist(), "sha256": scan.sha256}


def _read_cache(path: Path) -> dict[str, Any]:
    try:
        content = read_json(path)
    except (OSError, json.JSONDecodeError):
        return {}
    return content["files"] if content.get("version") == VERSION else {}


def _mask_faults(people: Iterable[Participant], seen: Mapping[str, dict[str, Any]]) -> list[DataFault]:
    faults = []
    for person in people:
        ct, mask = seen[person.ct], seen.get(person.lesion_mask or "", {})
        if "shape" not in ct or "shape" not in mask:
            continue
        from normct.cohort.nifti import grid_fault

        if fault := grid_fault(ct["shape"], ct["affine"], mask["shape"], mask["affine"]):
            faults.append(DataFault(person.participant_id, "lesion_mask", fault, GRID_REMEDY))
    return faults


def _twin_faults(people: Iterable[Participant], seen: dict[str, dict[str, Any]]) -> list[DataFault]:
    """Find scans whose bytes are another's."""
    from normct.cohort import dicom

    sizes = defaultdict(list)
    for person in people:
        if size := seen[person.ct].get("folder_bytes"):
            sizes[size].append(person)
    for group in (g for g in sizes.values() if len(g) > 1):
        for person in group:
            if "sha256" not in seen[person.ct]:
                digests = sorted(sha256(p) for p in dicom.files(Path(person.ct)))
                seen[person.ct]["sha256"] = hashlib.sha256("".join(digests).encode()).hexdigest()
    first: dict[str, str] = {}
    faults = []
    for person in people:
        if digest := seen[person.ct].get("sha256"):
            owner = first.setdefault(digest, person.participant_id)
            if owner != person.participant_id:
                fault = f"the same bytes as ct of {owner}"
                faults.append(DataFault(person.participant_id, "ct", fault, "Keep one of the two rows"))
    return faults


def check_files(
    participants: list[Participant], settings: Mapping[str, Any], cache_path: str | Path, workers: int
) -> list[DataFault]:
    """Read every new or changed file of the cohort once.

    Parameters
    ----------
    participants : list of Participant
    settings : mapping
        The ``cohort:`` section of the config; ``on_bad_file`` decides what faults lead to.
    cache_path : str or Path
        JSON file of what was seen; holds no path.
    workers : int
        Threads; decompressing and hashing run side by side.

    Returns
    -------
    list of DataFault
        With ``on_bad_file: set_aside``: every fault; the import meets them again and sets those scans aside.

    Raises
    ------
    ConfigError
        With ``on_bad_file: refuse``: every fault in one list.
    """
    cache_path = Path(cache_path)
    cache = _read_cache(cache_path)
    roles = {p.ct: (p.participant_id, "ct") for p in participants}
    roles |= {p.lesion_mask: (p.participant_id, "lesion_mask") for p in participants if p.lesion_mask}
    seen: dict[str, dict[str, Any]] = {}
    new: list[str] = []
    stamps = {path: _stamp(path) for path in roles}
    for path, stamp in stamps.items():
        known = cache.get(_key(path))
        if (
            known
            and stamp is not None
            and known["stamp"] == stamp
            and ("fault" not in known or known["what"] == roles[path][1])
        ):
            seen[path] = known
        else:
            new.append(path)
    if new:
        log.info("reading %d new or changed files once", len(new))
        with ThreadPoolExecutor(max(1, workers)) as pool:
            for path, found in zip(new, pool.map(lambda p: _look(p, *roles[p]), new), strict=True):
                seen[path] = {"stamp": stamps[path], "what": roles[path][1]} | found
    faults = [
        DataFault(*roles[path], found["fault"], found["remedy"])
        for path, found in seen.items()
        if "fault" in found
    ]
    faults += _mask_faults(participants, seen) + _twin_faults(participants, seen)
    kept = {_key(path): found for path, found in seen.items()}
    if kept != cache:
        write_json(cache_path, {"version": VERSION, "files": kept})
    order = {p.participant_id: n for n, p in enumerate(participants)}
    faults.sort(key=lambda fault: (order[fault.subject], fault.what))
    if faults and settings["on_bad_file"] == "refuse":
        advice = "(cohort.on_bad_file: set_aside would leave these scans out and go on)"
        raise ConfigError(f"{TITLE[:-1]} {advice}:", [str(fault) for fault in faults])
    return faults


def main(argv: list[str] | None) -> None:
    """Command line."""
    parser = cli.parser(__doc__, "normct.cohort.check")
    parser.add_argument("table", type=Path, help="participants.tsv or BIDS directory")
    parser.add_argument("--pathologies", nargs="*", default=[], help="labels beyond the thesis's seven")
    parser.add_argument("--new", action="store_true", help="new scans: labels are ignored")
    parser.add_argument(
        "--cache", type=Path, help="JSON file of what was seen before (default: none is kept)"
    )
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="threads")
    args = parser.parse_args(argv)
    settings = {"seed": 0, "test_fraction": 0.2, "val_fraction": 0.2, "pathologies": args.pathologies}
    settings["on_bad_file"] = "refuse"
    people = load_participants(args.table, settings, new=args.new)
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        check_files(people, settings, args.cache or Path(folder) / "checked.json", args.workers)
    print(f"{len(people)} scans, no faults found")


if __name__ == "__main__":
    cli.run(main)
