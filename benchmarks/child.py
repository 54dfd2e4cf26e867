"""What a command takes, run as a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

# Linux counts the peak memory of the process that started it towards a child's own, so a small one stands between
LAUNCHER = """
import json, os, subprocess, sys
process = subprocess.Popen(sys.argv[2:])
_, status, usage = os.wait4(process.pid, 0)
found = [os.waitstatus_to_exitcode(status), usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024]
with open(sys.argv[1], "w") as out:
    json.dump(found, out)
"""


@dataclass(frozen=True)
class Cost:
    """CPU seconds (its children's too, where it waits for them), peak memory in MB, and what it said."""

    cpu_s: float
    mb: float
    output: str


def cost(command: list[str], folder: Path, env: dict[str, str]) -> Cost:
    """Run a command in a folder with some more variables.

    Raises
    ------
    RuntimeError
        The command failed; with what it said.
    """
    with tempfile.NamedTemporaryFile() as words, tempfile.NamedTemporaryFile() as found:
        subprocess.run(
            [sys.executable, "-I", "-c", LAUNCHER, found.name, *command],
            cwd=folder, env=os.environ | env, stdout=words, stderr=words, check=True,
        )  # fmt: skip
        status, cpu_s, mb = json.loads(Path(found.name).read_text())
        text = Path(words.name).read_text("utf-8", errors="replace")
    if status:
        raise RuntimeError(f"{' '.join(command)}: status {status}\n{text[-3000:]}")
    return Cost(cpu_s, mb, text)
