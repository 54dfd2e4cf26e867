"""What the rule files need of Python: functions that Snakemake asks, and lists of words that a shell can hold."""

from __future__ import annotations

import hashlib
import inspect
import shlex
from collections.abc import Callable, Iterable
from pathlib import Path

from snakemake.common import overwrite_function_params
from snakemake.io import expand

from normct.common.files import atomic


def inspected(function: Callable) -> Callable:
    """Return a function that says what parameters it takes: Snakemake asks that of every function of every job."""
    overwrite_function_params(function, inspect.signature(function).parameters)
    return function


def growing(amount: int) -> Callable:
    """Return a rule's `runtime` or `mem_mb`: so many minutes or MB, as many times as it is tried."""
    return inspected(lambda wildcards, attempt: amount * attempt)


def of_each(pattern: str, subjects: Iterable[str]) -> Callable:
    """Return an input function that names one file of each of these scans.

    A function, because a plain list would be read anew by every job on a cluster, each of which parses all rules.
    """
    return inspected(lambda wildcards: expand(pattern, subject=list(subjects)))


def listed(words: list[str]) -> str:
    """Return words for a command line: as they are, or as @FILE where a shell could not hold them.

    The file is named by its content, so a changed list is a changed param and nothing is ever overwritten.
    """
    text = "\n".join(words) + "\n"
    if len(text) < 16_000:
        return shlex.join(words)
    path = Path(".snakemake", "normct", f"{hashlib.sha256(text.encode()).hexdigest()[:16]}.txt")
    if not path.is_file():
        with atomic(path) as part:
            part.write_text(text, "utf-8")
    return f"@{path}"
