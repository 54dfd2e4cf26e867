"""How preprocessing scales over subjects: two at once against one after the other, on two free cores."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from statistics import median

from benchmarks.bench_preprocess import chain, make_inputs
from benchmarks.entry import Entry

SUBJECTS, ROUNDS = 4, 3
LEAST_FREE = 1.9
SPIN = "x = 0\nfor n in range(20_000_000): x += n * n"


def wall(workers: int, work: list) -> float:
    """Return the seconds that ``workers`` threads, each waiting for a process at a time, take for the work."""
    start = time.monotonic()
    with ThreadPoolExecutor(workers) as pool:
        for job in [pool.submit(function, *arguments) for function, *arguments in work]:
            job.result()
    return time.monotonic() - start


def cores_free() -> float:
    """Return how many of two cores this process can have: throughput of two bare loops over that of one."""
    spin = [(subprocess.run, [sys.executable, "-c", SPIN])] * 2
    return wall(1, spin) / wall(2, spin)


def measure() -> list[Entry]:
    """Alternate one worker and two over the same subjects; about three minutes on two free cores.

    What two bare loops gain bounds what any work can: where that is not nearly twofold, before or after, cores
    were busy or shared, and nothing is said.
    """
    before = cores_free()
    if before < LEAST_FREE:
        print(f"  left out: two loops ran {before:.2f} times as fast as one, cores are busy", file=sys.stderr)
        return []
    with tempfile.TemporaryDirectory(prefix="normct-bench-") as name:
        folder = Path(name)
        with ProcessPoolExecutor(1) as pool:
            pool.submit(make_inputs, folder).result()

        def subjects(label: str) -> list:
            return [(chain, folder / "ct.nii.gz", folder, folder / f"{label}-{n}") for n in range(SUBJECTS)]

        wall(2, subjects("warm")[:2])
        ratios = []
        for number in range(ROUNDS):
            serial = wall(1, subjects(f"serial-{number}"))
            ratios.append(serial / wall(2, subjects(f"parallel-{number}")))
            print(
                f"  {SUBJECTS} subjects: {serial:.1f} s, {ratios[-1]:.2f} times as fast with two",
                file=sys.stderr,
            )
    after = cores_free()
    if after < LEAST_FREE:
        print(f"  left out: cores became busy ({before:.2f} free before, {after:.2f} after)", file=sys.stderr)
        return []
    return [Entry("preprocess_parallel_scaling", median(ratios), "x", ">= 1.8")]
