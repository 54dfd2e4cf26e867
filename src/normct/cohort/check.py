"""Look at every new or changed file once, before any job: headers, and one pass over the bytes.

What was seen is kept in a small cache, by a hash of the path with size and time, so a second run costs one
``stat`` a file. Run by the Snakefile in the main process; by hand:
``python -m normct.cohort.check participants.tsv``.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from normct.cohort.look import File, Scan, files_of
from normct.cohort.table import TableError, load_participants
from normct.common import cli
from normct.common.errors import ConfigError, DataFault
from normct.common.files import read_json, write_json

TITLE = "The cohort's files have faults; nothing was run:"
BOTH = "The participants table and the files it names have faults; nothing was run:"
ADVICE = "cohort.on_bad_file: set_aside would leave these scans out and go on"
VERSION = 1
GRID_REMEDY = "Draw or resample it on the grid of ct"
DICOM_GRID_REMEDY = "Draw it on the NIfTI file that dcm2niix makes of this folder (gantry tilt corrected)"
# seconds between two lines of progress, and between two writings of what was seen
TELL, KEEP = 10.0, 60.0


def _read_cache(path: Path) -> dict[str, Any]:
    try:
        content = read_json(path)
    except (OSError, json.JSONDecodeError):
        return {}
    return content["files"] if content.get("version") == VERSION else {}


def _tell(done: int, total: int, seconds: float) -> None:
    """Print how far the reading is: logging has no handler in Snakemake's own process."""
    left = max(1, round(seconds / done * (total - done) / 60))
    about = f", about {left} minute{'s' * (left > 1)} left" if done < total else ""
    print(f"  {done} of {total} files read, {100 * done // total} %{about}", file=sys.stderr, flush=True)


def _read_new(
    new: list[tuple[File, list[int] | None]], cache: dict[str, Any], cache_path: Path, workers: int
) -> None:
    """Look at files and add what was seen to ``cache``, written now and then: a broken run goes on there."""
    start = told = kept = time.monotonic()
    try:
        with ThreadPoolExecutor(max(1, workers)) as pool:
            for done, ((file, stamp), found) in enumerate(
                zip(new, pool.map(lambda item: item[0].look(), new), strict=True), start=1
            ):
                cache[file.key] = {"stamp": stamp, "what": file.what} | found
                now = time.monotonic()
                if now - told > TELL or (done == len(new) and told > start):
                    _tell(done, len(new), now - start)
                    told = now
                if now - kept > KEEP:
                    write_json(cache_path, {"version": VERSION, "files": cache})
                    kept = now
    finally:
        write_json(cache_path, {"version": VERSION, "files": cache})


def _mask_faults(people: Iterable[Scan], seen: Mapping[str, dict[str, Any]]) -> list[DataFault]:
    faults = []
    for person in people:
        ct, mask = seen[person.ct], seen.get(person.lesion_mask or "", {})
        if "shape" not in ct or "shape" not in mask:
            continue
        from normct.cohort.nifti import grid_fault

        if fault := grid_fault(ct["shape"], ct["affine"], mask["shape"], mask["affine"]):
            remedy = DICOM_GRID_REMEDY if "folder_bytes" in ct else GRID_REMEDY
            faults.append(DataFault(person.participant_id, "lesion_mask", fault, remedy))
    return faults


def _twin_faults(people: Iterable[Scan], seen: dict[str, dict[str, Any]]) -> list[DataFault]:
    """Find scans whose bytes are another's."""
    from normct.cohort import dicom_folder

    sizes = defaultdict(list)
    for person in people:
        if size := seen[person.ct].get("folder_bytes"):
            sizes[size].append(person)
    for group in (g for g in sizes.values() if len(g) > 1):
        for person in group:
            if "sha256" not in seen[person.ct]:
                with suppress(DataFault):  # unreadable: no twin, and the import sets it aside
                    seen[person.ct]["sha256"] = dicom_folder.digest(Path(person.ct), person.participant_id)
    faults = []
    first: dict[str, str] = {}
    for person in people:
        if digest := seen[person.ct].get("sha256"):
            owner = first.setdefault(digest, person.participant_id)
            if owner != person.participant_id:
                fault = f"the same bytes as ct of {owner}"
                faults.append(DataFault(person.participant_id, "ct", fault, "Keep one of the two rows"))
    return faults


def file_faults(
    people: Sequence[Scan], cache_path: str | Path, workers: int
) -> tuple[list[DataFault], list[DataFault]]:
    """Read every new or changed file once.

    Parameters
    ----------
    people : sequence
        ``participant_id``, ``ct`` and ``lesion_mask`` of each scan.
    cache_path : str or Path
        JSON file of what was seen; holds no path.
    workers : int
        Threads; decompressing and hashing run side by side.

    Returns
    -------
    bad : list of DataFault
        Files that cannot be used, in the order of the table.
    twins : list of DataFault
        Scans whose bytes are another's.
    """
    cache_path = Path(cache_path)
    cache = _read_cache(cache_path)
    files = files_of(people)
    stamps = {path: file.stamp() for path, file in files.items()}
    new = [(f, stamps[path]) for path, f in files.items() if not f.known(cache.get(f.key), stamps[path])]
    if new:
        _read_new(new, cache, cache_path, workers)
    seen = {path: cache[file.key] for path, file in files.items()}
    bad = [
        DataFault(file.subject, file.what, seen[path]["fault"], seen[path]["remedy"])
        for path, file in files.items()
        if "fault" in seen[path]
    ]
    before = [dict(entry) for entry in seen.values()]
    bad += _mask_faults(people, seen)
    twins = _twin_faults(people, seen)
    if before != list(seen.values()):
        write_json(cache_path, {"version": VERSION, "files": cache})
    order = {p.participant_id: n for n, p in enumerate(people)}
    return sorted(bad, key=lambda fault: (order[fault.subject], fault.what)), twins


def check_files(
    participants: Sequence[Scan],
    settings: Mapping[str, Any],
    cache_path: str | Path,
    workers: int,
    new: bool = False,
) -> list[DataFault]:
    """Read every new or changed file of the cohort once.

    Parameters
    ----------
    participants : sequence of Participant
    settings : mapping
        The ``cohort:`` section of the config; ``on_bad_file`` decides what faults lead to.
    cache_path, workers
        As :func:`file_faults`.
    new : bool
        New scans: bad files are set aside whatever ``on_bad_file`` says, and twins are scored one by one.

    Returns
    -------
    list of DataFault
        Bad files that do not stop the run; the import meets them again and sets those scans aside.

    Raises
    ------
    ConfigError
        Every fault in one list: bad files with ``on_bad_file: refuse``, and twins always, for one scan
        under two IDs would be counted twice, or be in two splits.
    """
    needs_converter(participants)
    bad, twins = file_faults(participants, cache_path, workers)
    if new:
        return bad
    refused = twins + (bad if settings["on_bad_file"] == "refuse" else [])
    if refused:
        title = TITLE if refused == twins else f"{TITLE[:-1]} ({ADVICE}):"
        order = {p.participant_id: n for n, p in enumerate(participants)}
        refused.sort(key=lambda fault: (order[fault.subject], fault.what))
        raise ConfigError(title, [str(fault) for fault in refused])
    return bad


def with_file_faults(
    error: TableError, settings: Mapping[str, Any], cache_path: str | Path, workers: int
) -> ConfigError:
    """Return a faulty table's error with the faults of its files, so that all come in one list.

    The table's own faults are printed at once: reading a large cohort takes minutes.
    """
    if settings["on_bad_file"] != "refuse" or not error.scans:
        return error
    print(f"\n{error}\n\nReading the files too, to list all faults at once ...", file=sys.stderr, flush=True)
    bad, twins = file_faults(error.scans, cache_path, workers)
    return ConfigError(BOTH, [*error.faults, *map(str, bad + twins)]) if bad or twins else error


def needs_converter(participants: Iterable[Scan]) -> None:
    """Raise :class:`ConfigError` where a DICOM folder is to be read and dcm2niix is missing."""
    from normct.cohort import dicom

    if any(Path(person.ct).is_dir() for person in participants):
        try:
            dicom.program()
        except RuntimeError as error:
            raise ConfigError("A program that the cohort needs is missing:", [str(error)]) from None


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
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        cache = args.cache or Path(folder) / "checked.json"
        try:
            people = load_participants(args.table, settings, new=args.new)
        except TableError as error:
            raise with_file_faults(error, settings, cache, args.workers) from None
        bad = check_files(people, settings, cache, args.workers, new=args.new)
    if bad:
        raise ConfigError("These scans would be set aside and the others scored:", list(map(str, bad)))
    print(f"{len(people)} scans, no faults found")


if __name__ == "__main__":
    cli.run(main)
