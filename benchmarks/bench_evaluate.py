"""How time and memory of the tables of scores grow with the number of scans: simulated scores, the real commands.

Each scan has a slice table of the demo's size (155 slices, some thirty scores, two thirds of the slices usable); every
seventh lacks a score, as scans of an older run may.
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
from normct.evaluate.data import KEY

SIZES = (100, 1_000, 10_000)
COLUMNS = [(name, "thesis", str(seed)) for name in list(METHODS)[:5] for seed in range(3)]
COLUMNS += [(name, "trivial", "n/a") for name in TRIVIAL] + [("fused", "fused", "0")]
COLUMNS += [("multitask", part, "0") for part in ("head", "residual")]
SETTINGS = {"slices": "usable", "bootstrap": 500, "seed": 0, "specificities": [0.9, 0.95]}
MODULES = ("scans", "collect", "detection", "strata", "confound", "ablation", "uncertainty")
"""The tables that are made of slices' and scans' scores; Dice, FROC and sample figures read maps, one scan at a time."""


def slice_table(sub: str, ill: bool, rng: np.random.Generator) -> pd.DataFrame:
    """Return the slice scores of a scan; a lesion on 20 slices of an ill one adds a SD to every score."""
    z = np.arange(DEPTH)
    lesion = np.where(ill & (z > 60) & (z <= 80), 200, 0)
    n = len(COLUMNS)
    return pd.DataFrame(
        {
            "participant_id": sub,
            "z": np.tile(z, n).astype(np.int16),
            **{name: np.repeat([column[i] for column in COLUMNS], DEPTH) for i, name in enumerate(KEY)},
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
        rows.append(
            [sub, sub, group, pathology, "test", "test", str(ill), f"scanner {i % 3}", str(40 + i % 40)]
        )
        table = slice_table(sub, ill, rng)
        if i % 7 == 6:
            table = table[table["method"] != "mean_hu"]
        table.to_parquet(folder / "subjects" / f"{sub}.parquet")
        volumes = [
            {
                **dict(zip(KEY, column, strict=True)),
                "value": float(rng.standard_normal() + ill),
                "uncertainty": float(rng.uniform(0.1, 1)),
                "uncertainty_of": "seeds",
            }
            for column in COLUMNS
        ]
        write_json(folder / "subjects" / f"{sub}.json", {"volumes": volumes})
        write_json(folder / "cohort" / sub / "import.json", {"sha256": f"{i:064x}"})
        measures = {"slice_thickness_mm": (0.6, 3.0, 5.0)[i % 3]}
        quality = {"verdict": "pass", "reasons": [], "measures": measures}
        write_json(folder / "preprocess" / sub / "quality.json", quality)
    names = ["participant_id", "patient", "group", "pathology", "split", "role", "has_lesion_mask"]
    names += ["scanner", "age"]
    pd.DataFrame(rows, columns=names).to_csv(folder / "participants.tsv", sep="\t", index=False)
    for method, score, seed in COLUMNS:
        healthy.setdefault(method, {}).setdefault(score, {})[seed] = list(rng.standard_normal(40))
    write_json(folder / "calibration.json", {"healthy": healthy})


def measure_size(n: int) -> dict[str, Cost]:
    """Return what each table of ``n`` scans takes."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        simulate(folder, n)
        given = {"collected": "collected", "settings": json.dumps(SETTINGS), "out": "out"}
        arguments = dict.fromkeys(MODULES, given)
        arguments |= dict.fromkeys(
            ("detection", "strata", "confound", "uncertainty"), given | {"calibration": "calibration.json"}
        )
        arguments["scans"] = {
            "participants": "participants.tsv", "preprocess": "preprocess", "imports": "cohort", "out": "collected",
        }  # fmt: skip
        arguments["collect"] = {"scores": "subjects", "out": "collected"}
        found = {}
        for module, values in arguments.items():
            words = [word for key, value in values.items() for word in (f"--{key}", value)]
            command = [sys.executable, "-m", f"normct.evaluate.{module}", *words]
            found[module] = cost(command, folder, SOURCE)
            print(n, module, found[module].cpu_s, found[module].mb, file=sys.stderr, flush=True)
        return found


def measure(sizes: tuple[int, ...] = SIZES) -> list[Entry]:
    """Return ``scale_evaluate_*``; the growth is the worst table's, from the last size but one to the largest."""
    found = {n: measure_size(n) for n in sizes}
    cpu = {n: sum(each.cpu_s for each in taken.values()) for n, taken in found.items()}
    mb = {n: max(each.mb for each in taken.values()) for n, taken in found.items()}
    entries = []
    for n in found:
        entries.append(Entry(f"scale_evaluate_cpu_s_{n}", cpu[n], "CPU s"))
        entries.append(Entry(f"scale_evaluate_mb_{n}", mb[n], "MB"))
    *_, less, most = sorted(found)
    growth = max(found[most][m].cpu_s / found[less][m].cpu_s / (most / less) for m in MODULES)
    kb = 1000 * (mb[most] - mb[less]) / (most - less)
    return [
        *entries,
        Entry("scale_evaluate_time_growth", growth, "x linear", "<= 1.2"),
        Entry("scale_evaluate_kb_per_volume", kb, "kB"),
    ]


if __name__ == "__main__":
    for entry in measure(tuple(int(n) for n in sys.argv[1:]) or SIZES):
        print(entry.record())
