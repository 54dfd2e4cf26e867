"""Checksums of a hand-off, so that whoever receives it can tell that nothing was lost or changed."""

from __future__ import annotations

import os
import shutil
import zipfile
from pathlib import Path

from normct.common.errors import NormctError
from normct.common.files import atomic, sha256
from normct.handoff.history import NAME as HISTORY

NAME = "SHA256SUMS"
ZIP = "handoff.zip"
EPOCH = (1980, 1, 1, 0, 0, 0)


def _walk(folder: Path) -> tuple[list[str], list[str], list[str]]:
    """Return files, links and what is hidden, as relative paths; no link is followed, no hidden folder entered."""
    files, links, hidden = [], [], []
    for parent, folders, names in os.walk(folder):
        for name in (*folders, *names):
            path = Path(parent) / name
            relative = path.relative_to(folder).as_posix()
            if name.startswith("."):
                hidden.append(relative)
            elif path.is_symlink():
                links.append(relative)
            elif name in names:
                files.append(relative)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
    return sorted(set(files) - {NAME, ZIP}), sorted(links), sorted(set(hidden) - {HISTORY})


def listed_files(folder: Path) -> list[str]:
    """Return every file of the hand-off as a relative path; links and hidden files are none of its own."""
    return _walk(folder)[0]


def refuse_links(folder: Path) -> None:
    """Raise if a link lies in the folder: what it leads to would be written to, or leave with a copy unseen."""
    if links := _walk(folder)[1]:
        raise NormctError("The hand-off holds links; remove them: " + ", ".join(links))


def read_sums(path: Path) -> dict[str, str]:
    """Return file name to SHA-256 of ``SHA256SUMS``; comments are skipped, as ``sha256sum -c`` does."""
    lines = (line for line in path.read_text("utf-8").splitlines() if not line.startswith("#"))
    return {name: digest for digest, _, name in (line.partition("  ") for line in lines)}


def write_sums(folder: str | Path, head: str) -> None:
    """Write ``SHA256SUMS`` over everything in the folder, in the format of ``sha256sum``.

    Parameters
    ----------
    folder : str or Path
        The hand-off.
    head : str
        Comment of the first line: ID and date, to which the sums tie files that cannot carry them.

    Raises
    ------
    NormctError
        If a link lies in the folder.
    """
    folder = Path(folder)
    refuse_links(folder)
    lines = [f"{sha256(folder / name)}  {name}\n" for name in listed_files(folder)]
    with atomic(folder / NAME) as part:
        part.write_text("".join([f"# {head}\n", *lines]), "utf-8")


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
    """Return every fault found: changed, missing, extra, linked or hidden files; an empty list when all is well."""
    folder = Path(folder)
    path = folder / NAME
    if not path.is_file():
        return [f"{NAME}: missing; is this the hand-off's folder?"]
    expected = read_sums(path)
    files, links, hidden = _walk(folder)
    there = set(files)
    faults = [f"{name}: a link, no file of the hand-off" for name in links]
    faults += [f"{name}: hidden, no file of the hand-off" for name in hidden]
    faults += [f"{name}: not in {NAME}" for name in sorted(there - set(expected))]
    for name, digest in sorted(expected.items()):
        if name not in there:
            faults.append(f"{name}: missing")
        elif sha256(folder / name) != digest:
            faults.append(f"{name}: changed (checksum differs)")
    return faults
