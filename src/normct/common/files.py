"""Writing so that a half-written file is never taken for a whole one."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` (same suffixes) and rename it on success.

    A resubmitted twin of the same job writes to a name of its own, so neither can corrupt the other.

    Parameters
    ----------
    path : str or Path
        The final file or directory. Parent folders are made. A directory is replaced whole.
    """
    final = Path(path)
    final.parent.mkdir(parents=True, exist_ok=True)
    host = hashlib.sha256(os.uname().nodename.encode()).hexdigest()[:6]
    part = final.with_name(f".part-{host}-{os.getpid()}-{final.name}")
    try:
        yield part
        if part.is_dir() and final.is_dir():
            shutil.rmtree(final)
        part.replace(final)
    finally:
        if part.is_dir():
            shutil.rmtree(part)
        else:
            part.unlink(missing_ok=True)


def write_json(path: str | Path, value: Any) -> None:
    """Write ``value`` as indented JSON, atomically; NaN and infinity are refused."""
    with atomic(path) as part:
        part.write_text(json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n", "utf-8")


def read_json(path: str | Path) -> Any:
    """Read a JSON file."""
    return json.loads(Path(path).read_text("utf-8"))


def sha256(path: str | Path) -> str:
    """Return the SHA-256 of a file, read in chunks."""
    with Path(path).open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
