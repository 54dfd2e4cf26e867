"""What an earlier run left in a hand-off and must not leave with it: pages of removed scans, halves of killed jobs."""

from __future__ import annotations

import hashlib
import logging
import os
import re
import shutil
import time
from collections.abc import Iterable
from pathlib import Path

from normct.common.errors import NormctError
from normct.common.subject import SUBJECT

# as `normct.common.files.atomic` names them: host, process, final name
PART = re.compile(r"\.part-([0-9a-f]{6})-([0-9]+)-.+")
IDLE_S = 2 * 3600
"""A job of another host that wrote nothing for so long is taken for dead."""


def _remove(path: Path) -> None:
    """Delete a file or folder; a link is unlinked, never followed."""
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
    else:
        shutil.rmtree(path)


def refuse_linked(patients: Path) -> None:
    """Raise if ``handoff/patients`` is itself a link: what lies at its target is somebody else's."""
    if patients.is_symlink():
        raise NormctError(
            f"{patients} is a link; the hand-off writes and deletes nothing behind it: remove it"
        )


def remove_stale(patients: Path, wanted: Iterable[str]) -> list[str]:
    """Delete folders of scans that are no longer handed off; links are unlinked, never followed."""
    refuse_linked(patients)
    keep, removed = set(wanted), []
    for path in sorted(patients.iterdir()) if patients.is_dir() else []:
        if path.name not in keep and SUBJECT.fullmatch(path.name):
            _remove(path)
            removed.append(path.name)
    return removed


def _runs(host: str, process: int) -> bool:
    """Return whether a job may still be running, as far as this host can tell."""
    if host != hashlib.sha256(os.uname().nodename.encode()).hexdigest()[:6]:
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        pass
    return True


def _idle(path: Path, now: float) -> bool:
    """Return whether nothing in a file or folder was written of late."""
    inside = [path, *path.rglob("*")] if path.is_dir() and not path.is_symlink() else [path]
    return now - max(p.lstat().st_mtime for p in inside) > IDLE_S


def remove_parts(out: Path) -> None:
    """Delete what killed jobs left half written; a page job resubmitted elsewhere may still be at work on its own."""
    for parent, folders, names in os.walk(out):
        for name in (*folders, *names):
            if (match := PART.fullmatch(name)) is None:
                continue
            path = Path(parent) / name
            # a twin may end, and take its own away, while we look
            try:
                if _runs(match[1], int(match[2])) and not _idle(path, time.time()):
                    logging.warning("%s: a job may still be writing it; left alone", path)
                    continue
                _remove(path)
            except FileNotFoundError:
                continue
            logging.info("removed %s, which a killed job left", path)
        folders[:] = [name for name in folders if not name.startswith(".")]
