"""Which settings of the calibrated score artificial anomalies would choose: `python -m benchmarks.choose_scoring`.

No lesion and no test scan has a part in it: anomalies of ``normct.pretext.anomalies`` are put into the calibration
scans of a finished results folder (``results_detection``, or the one named; it is only read). Each is scored by that
folder's own network and statistical atlas, with the statistics of the other patients, as a calibration scan itself is.
Slices with an anomaly are then told from the slices of the untouched scans, for each setting of a grid.
Writes ``results/choose_scoring.json``, prints the table. What it chooses is outlier-exposed to these anomalies.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import yaml
from numpy.typing import NDArray

from benchmarks.choose_tables import (
    BEFORE,
    NOW,
    POOL_SHARES,
    WEIGHTS,
    Pooled,
    Version,
    markdown,
    table,
    weighed,
)
from normct.common.files import write_json
from normct.common.registry import FUSED
from normct.common.slices import SliceStore, read_slices
from normct.models import load_model
from normct.pretext.anomalies import KINDS, add_anomaly
from normct.score.calibrated_map import fuse, z_maps
from normct.score.components import Components
from normct.score.files import ATLAS_MAP, read_maps, read_role
from normct.score.files_calibrated import Key, SumsFile
from normct.score.infer import score_network
from normct.score.pooling import pool
from normct.score.reference import Frame, ReferenceSettings, Statistics, statistics
from normct.score.trivial import atlas_z

OUT = Path("results/choose_scoring.json")


@dataclass(frozen=True)
class Others:
    """The reference of all other patients, as :func:`z_maps` reads one; components are taken off afterwards."""

    of_map: Mapping[str, Statistics]

    def statistics(self, key: str) -> Statistics:
        """Return the statistics of a map."""
        return self.of_map[key]

    def components(self, key: str) -> None:
        """Return none."""


def calibration_scans(results: Path) -> dict[str, str]:
    """Return patient of each calibration scan that passed quality control; nothing else is ever opened."""
    table = pd.read_csv(results / "cohort" / "participants.tsv", sep="\t", dtype=str)
    table = table[table["role"] == "calibrate"]
    scans = dict(zip(table["participant_id"], table["patient"], strict=True))
    for subject in scans:
        if (role := read_role(results / "score" / "raw" / f"{subject}.npz")) != "calibrate":
            raise SystemExit(f"{subject} was scored as {role}: no calibration scan")
    return {s: p for s, p in scans.items() if read_maps(results / "score" / "maps" / f"{s}.npz")}


class Study:
    """Networks, atlas and reference of a results folder, and the scans that anomalies are put into."""

    def __init__(self, results: Path, method: str, seed: str, calibrated: Mapping[str, Any]) -> None:
        self.results = results
        self.names = (ATLAS_MAP, f"{method}/seed-{seed}")
        self.fusions = {
            name: (ATLAS_MAP,) * atlas + (method,) * network for name, (atlas, network) in WEIGHTS.items()
        }
        self.module, _ = load_model(results / "train" / method / f"seed-{seed}" / "model.safetensors")
        with np.load(results / "score" / "statistical_atlas.npz", allow_pickle=False) as content:
            self.atlas = {name: content[name] for name in ("mean", "sd")}
        self.sums = SumsFile(results / "score" / "reference_sums.npz")
        self.scans = calibration_scans(results)
        # the file's own way of making maps; what the grid varies comes later
        self.settings = dict(calibrated) | self.sums.settings
        found = {name: self.sums.components(name) for name in self.names}
        self.components: dict[str, Components] = {name: c for name, c in found.items() if c}

    def slices(self, subject: str) -> SliceStore:
        """Return a scan's slices."""
        return read_slices(self.results / "preprocess" / subject / "slices.npz")

    def healthy_maps(self, subject: str) -> dict[str, NDArray[np.float16]]:
        """Return the maps that the results hold of an untouched scan."""
        maps = read_maps(self.results / "score" / "maps" / f"{subject}.npz")
        return {name: maps[name] for name in self.names}

    def others(self, subject: str) -> Others:
        """Return the reference without the scans of a scan's patient."""
        chosen, patient = ReferenceSettings.of(self.settings), self.scans[subject]
        scans = [s for s, p in self.scans.items() if p == patient]
        own = [(Frame(self.slices(s).mask, chosen), self.healthy_maps(s)) for s in scans]
        usual = {}
        for name in self.names:
            sums = self.sums.sums(name)
            for frame, maps in own:
                sums.add(frame, frame.smooth(maps[name]), sign=-1)
            usual[name] = statistics(sums, chosen)
        return Others(usual)

    def maps(
        self, store: SliceStore, changed: NDArray[np.bool_], healthy: Mapping[str, NDArray[np.float16]]
    ) -> dict[str, NDArray[np.float16]]:
        """Return the maps of a scan as inference makes them; slices that did not change (155,) keep those they had."""
        atlas, network = self.names
        # a network sees one slice at a time
        _, residual = score_network(
            self.module, replace(store, mask=store.mask & changed[:, None, None]), None, 0
        )
        maps = {
            atlas: atlas_z(store, self.atlas)[store.mask].astype(np.float16),
            network: healthy[network].copy(),
        }
        maps[network][changed[np.nonzero(store.mask)[0]]] = residual
        return maps

    def pooled(self, store: SliceStore, maps: dict[str, NDArray[np.float16]], others: Others) -> Pooled:
        """Return the pooled values of each map and of their fusion, without components and with."""
        z = z_maps(store, maps, others, self.settings)  # type: ignore[arg-type]
        found = {0: z}
        if len(self.components) == len(self.names):
            removers = dict(zip(z, (self.components[name] for name in maps), strict=True))
            kept = {key: removers[key].remove(values, store.mask) for key, values in z.items()}
            found[int(self.settings["components"])] = kept
        slices = np.nonzero(store.mask)[0]

        def fused(one: dict[Key, NDArray[np.float32]]) -> dict[Key, NDArray[np.float32]]:
            return {
                (name, seed): values
                for name, parts in self.fusions.items()
                for (_, seed), values in fuse(one, parts).items()
            }

        return {
            number: {k: pool(v, slices, POOL_SHARES) for k, v in (one | fused(one)).items()}
            for number, one in found.items()
        }

    def versions(self, subject: str, repeats: int) -> list[Version]:
        """Return a scan as it is, and with each of its anomalies."""
        store, others, patient = self.slices(subject), self.others(subject), self.scans[subject]
        names = list(self.scans)
        place = names.index(subject)
        donor = self.slices(names[(place + 1) % len(names)])
        healthy = self.healthy_maps(subject)
        untouched = self.pooled(store, healthy, others)
        found = [Version(patient, "healthy", untouched, store.usable, store.usable)]
        for number in range(repeats):
            kind = KINDS[number % len(KINDS)]
            rng = np.random.default_rng([place, number])
            # a patch of the scan itself and one of another, by turns
            given = (donor.image, donor.mask) if (place + number) % 2 else None
            made = add_anomaly(store.image, store.mask, kind, rng, given)
            touched = replace(store, image=made.image)
            changed = made.mask.any(axis=(1, 2))
            pooled = self.pooled(touched, self.maps(touched, changed, healthy), others)
            found.append(Version(patient, kind, pooled, changed & store.usable, store.usable))
            print(f"{subject}: {kind}, {made.volume_ml:.2f} mL, strength {made.strength:.2f}", flush=True)
        return found


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    arguments = argparse.ArgumentParser(description=__doc__, prog="python -m benchmarks.choose_scoring")
    arguments.add_argument("results", type=Path, nargs="?", default=Path("results_detection"))
    arguments.add_argument("--network", nargs=2, default=["denoising", "0"], metavar=("METHOD", "SEED"))
    arguments.add_argument("--out", type=Path, default=OUT, help="JSON to write")
    arguments.add_argument("--repeats", type=int, default=3, help="anomalies a scan, one at a time")
    args = arguments.parse_args(argv)
    torch.set_num_threads(1)
    calibrated = yaml.safe_load(Path("config.yaml").read_text("utf-8"))["score"]["calibrated"]
    study = Study(args.results, *args.network, calibrated)
    versions = [v for subject in study.scans for v in study.versions(subject, args.repeats)]
    rows = table(versions)
    best = max((r for r in rows if r["method"] == FUSED), key=lambda r: r["slices"])
    write_json(
        args.out, {"outlier_exposed": True, "scans": len(study.scans), "repeats": args.repeats, "rows": rows}
    )
    for method in dict.fromkeys(row["method"] for row in rows):
        print("\n" + markdown(rows, method))
    print("\n" + weighed(rows))
    print(f"\nhighest: { ({k: best[k] for k in list(best)[:4]}) }; now {NOW}, before {BEFORE}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
