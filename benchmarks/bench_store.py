"""How memory and time grow with the number of volumes where a job reads all of them: packing for training, export.

Simulated volumes: a handful of brain slices each, so that ten thousand fit on a disk; the time and memory a volume
takes in the job's own loop is what grows, and that does not depend on how many slices it has.
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.bench_scale import SOURCE, cost
from benchmarks.entry import Entry
from normct.common.files import write_json
from normct.common.slices import SliceStore, write_slices

SIZES = (100, 1_000, 10_000)
SLICES = 4


def simulated() -> SliceStore:
    """A scan of which :data:`SLICES` slices hold brain."""
    brain = np.zeros((155, 240, 240), bool)
    mask = np.zeros((155, 128, 128), bool)
    brain[70 : 70 + SLICES, 60:180, 60:180] = True
    mask[70 : 70 + SLICES, 32:96, 32:96] = True
    image = (mask * np.float16(0.4)).astype(np.float16)
    return SliceStore("", image, mask, brain, np.zeros_like(brain), mask.any(axis=(1, 2)), False)


def pack(folder: Path, n: int) -> tuple[float, float]:
    """Return CPU seconds and peak MB of packing ``n`` volumes."""
    plan, store = [], simulated()
    for i in range(n):
        name = f"sub-{i:06d}"
        write_slices(folder / f"{name}.npz", replace(store, participant_id=name))
        role = "train" if i % 5 else "stop"
        plan.append(
            {"participant_id": name, "patient": name, "role": role, "slices": str(folder / f"{name}.npz")}
        )
    write_json(folder / "plan.json", plan)
    command = [sys.executable, "-m", "normct.train.pack", str(folder / "data"), str(folder / "plan.json")]
    taken = cost(command, folder, SOURCE)
    return taken.cpu_s, taken.mb


def measure(sizes: tuple[int, ...] = SIZES) -> list[Entry]:
    """Return ``scale_pack_*``; the ratios compare the largest size with the one before it."""
    entries, found = [], {}
    for n in sizes:
        with tempfile.TemporaryDirectory() as folder:
            found[n] = pack(Path(folder), n)
        entries.append(Entry(f"scale_pack_cpu_s_{n}", found[n][0], "CPU s"))
        entries.append(Entry(f"scale_pack_mb_{n}", found[n][1], "MB"))
    *_, less, most = sorted(found)
    growth = found[most][0] / found[less][0] / (most / less)
    entries.append(Entry("scale_pack_time_growth", growth, "x linear", "<= 1.2"))
    entries.append(Entry("scale_pack_memory_growth", found[most][1] / found[less][1], "x", "<= 1.2"))
    return entries


if __name__ == "__main__":
    for entry in measure(tuple(int(n) for n in sys.argv[1:]) or SIZES):
        print(entry.record())
