"""Checksums of a hand-off, so that whoever receives it can tell that nothing was lost or changed."""

from __future__ import annotations

import os
import shutil
import zipfile
from pathlib import Path

from normct.common.errors import NormctError
from normct.common.files import atomic, sha256

NAME = "SHA256SUMS"
ZIP = "handoff.zip"
EPOCH = (1980, 1, 1, 0, 0, 0)


def _walk(folder: Path) -> tuple[list[str], list[str]]:
    """Return files and links as relative paths, hidden ones (Snakemake's marks) left out; no link is followed."""
    files, links = [], []
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in (*folders, *names):
            path = Path(parent) / name
            if name.startswith("."):
                continue
            if path.is_symlink():
                links.append(path.relative_to(folder).as_posix())
            elif name in names:
                files.append(path.relative_to(folder).as_posix())
    return sorted(name for name in files if name not in {NAME, ZIP}), sorted(links)


def listed_files(folder: Path) -> list[str]:
    """Return every file of the hand-off as a relative path; links are none of its own."""
    return _walk(folder)[0]


def write_sums(folder: str | Path) -> None:
    """Write ``SHA256SUMS`` over everything in the folder, in the format of ``sha256sum``.

    Raises
    ------
    NormctError
        If a link lies in the folder: what it leads to would be missing from a copy, or leave with it unseen.
    """
    folder = Path(folder)
    if links := _walk(folder)[1]:
        raise NormctError("The hand-off holds links; remove them: " + ", ".join(links))
    lines = [f"{sha256(folder / name)}  {name}\n" for name in listed_files(folder)]
    with atomic(folder / NAME) as part:
        part.write_text("".join(lines), "utf-8")


def write_zip(folder: str | Path) -> None:
    """Pack the hand-off, checksums included, into ``handoff.zip``; the same files give the same bytes."""
    folder = Path(folder)
    with atomic(folder / ZIP) as part, zipfile.ZipFile(part, "w") as packed:
        for name in [*listed_files(folder), NAME]:
            # pictures and NIfTI files are compressed already
            tight = name.endswith((".gz", ".jpg", ".pdf"))
            entry = zipfile.ZipInfo(f"handoff/{name}", EPOCH)
            entry.compress_type = zipfile.ZIP_STORED if tight else zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            with (folder / name).open("rb") as source, packed.open(entry, "w", force_zip64=True) as target:
                shutil.copyfileobj(source, target, 1 << 20)


def check_sums(folder: str | Path) -> list[str]:
    """Return every fault found: changed, missing, extra or linked files; an empty list when all is well."""
    folder = Path(folder)
    path = folder / NAME
    if not path.is_file():
        return [f"{NAME}: missing; is this the hand-off's folder?"]
    expected: dict[str, str] = {}
    for line in path.read_text("utf-8").splitlines():
        digest, _, name = line.partition("  ")
        expected[name] = digest
    files, links = _walk(folder)
    there = set(files)
    faults = [f"{name}: a link, no file of the hand-off" for name in links]
    faults += [f"{name}: not in {NAME}" for name in sorted(there - set(expected))]
    for name, digest in sorted(expected.items()):
        if name not in there:
            faults.append(f"{name}: missing")
        elif sha256(folder / name) != digest:
            faults.append(f"{name}: changed (checksum differs)")
    return faults
