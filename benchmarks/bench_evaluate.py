"""How the detection tables' time and memory grow with the number of scans: simulated scores, the real commands.

Each scan has a slice table of the demo's size (155 slices, twenty scores, two thirds of the slices usable).
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.bench_scale import SOURCE
from benchmarks.child import Cost, cost
from benchmarks.entry import Entry
from normct.common.files import write_json
from normct.common.registry import METHODS, TRIVIAL
from normct.common.slices import DEPTH

SIZES = (100, 1_000, 10_000)
COLUMNS = [(name, "thesis", str(seed)) for name in list(METHODS)[:5] for seed in range(3)]
COLUMNS += [(name, "trivial", "n/a") for name in TRIVIAL] + [("fused", "fused", "0")]


def slice_table(sub: str, ill: bool, rng: np.random.Generator) -> pd.DataFrame:
    """Return the slice scores of a scan; a lesion on 20 slices of an ill one adds a SD to every score."""
    z = np.arange(DEPTH)
    lesion = np.where(ill & (z > 60) & (z <= 80), 200, 0)
    n = len(COLUMNS)
    return pd.DataFrame(
        {
            "participant_id": sub,
            "z": np.tile(z, n).astype(np.int16),
            **{
                name: np.repeat([column[i] for column in COLUMNS], DEPTH)
                for i, name in enumerate(("method", "score", "seed"))
            },
            "value": rng.standard_normal(n * DEPTH) + np.tile(lesion > 0, n),
            "brain_pixels": np.int32(9000),
            "lesion_pixels": np.tile(lesion, n).astype(np.int32),
            "usable": np.tile((z > 25) & (z <= 130), n),
        }
    )


def simulate(folder: Path, n: int) -> None:
    """Write what :mod:`normct.evaluate.collect` reads of ``n`` test scans, half of them ill."""
    rng = np.random.default_rng(0)
    (folder / "subjects").mkdir(parents=True)
    rows, healthy = [], {}
    for i in range(n):
        sub, ill = f"sub-{i:06d}", i % 2 == 1
        group, pathology = ("abnormal", ("icb", "ischemia", "tumor")[i % 3]) if ill else ("healthy", "n/a")
        rows.append([sub, sub, group, pathology, "test", "test", str(ill)])
        slice_table(sub, ill, rng).to_parquet(folder / "subjects" / f"{sub}.parquet")
        volumes = [
            {"method": m, "score": s, "seed": seed, "value": float(rng.standard_normal() + ill)}
            for m, s, seed in COLUMNS
        ]
        write_json(folder / "subjects" / f"{sub}.json", {"volumes": volumes})
        write_json(folder / "cohort" / sub / "import.json", {"sha256": f"{i:064x}"})
        write_json(folder / "preprocess" / sub / "quality.json", {"verdict": "pass", "reasons": []})
    names = ["participant_id", "patient", "group", "pathology", "split", "role", "has_lesion_mask"]
    pd.DataFrame(rows, columns=names).to_csv(folder / "participants.tsv", sep="\t", index=False)
    for method, score, seed in COLUMNS:
        healthy.setdefault(method, {}).setdefault(score, {})[seed] = list(rng.standard_normal(40))
    write_json(folder / "calibration.json", {"healthy": healthy})


def measure_size(n: int) -> Cost:
    """Return what the detection tables of ``n`` scans take: reading the scans and making the tables."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        simulate(folder, n)
        settings = {"slices": "usable", "bootstrap": 2000, "seed": 0, "specificities": [0.9, 0.95]}
        commands = {
            "collect": {
                "participants": "participants.tsv", "preprocess": "preprocess", "imports": "cohort",
                "scores": "subjects", "out": "collected",
            },
            "detection": {
                "collected": "collected", "calibration": "calibration.json", "out": "out",
                "settings": json.dumps(settings),
            },
        }  # fmt: skip
        found = []
        for module, given in commands.items():
            words = [word for key, value in given.items() for word in (f"--{key}", value)]
            found.append(cost([sys.executable, "-m", f"normct.evaluate.{module}", *words], folder, SOURCE))
        return Cost(
            sum(each.cpu_s for each in found),
            max(each.mb for each in found),
            "".join(each.output for each in found),
        )


def measure(sizes: tuple[int, ...] = SIZES) -> list[Entry]:
    """Return ``scale_evaluate_*``; the growth compares the largest size with the one before it."""
    found = {n: measure_size(n) for n in sizes}
    entries = []
    for n, taken in found.items():
        entries.append(Entry(f"scale_evaluate_cpu_s_{n}", taken.cpu_s, "CPU s"))
        entries.append(Entry(f"scale_evaluate_mb_{n}", taken.mb, "MB"))
    *_, less, most = sorted(found)
    growth = found[most].cpu_s / found[less].cpu_s / (most / less)
    kb = 1000 * (found[most].mb - found[less].mb) / (most - less)
    return [
        *entries,
        Entry("scale_evaluate_time_growth", growth, "x linear", "<= 1.2"),
        Entry("scale_evaluate_kb_per_volume", kb, "kB"),
    ]


if __name__ == "__main__":
    for entry in measure(tuple(int(n) for n in sys.argv[1:]) or SIZES):
        print(entry.record())
