"""A scored cohort on disk, as the contract describes it, small enough for tests."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from factories import make_store
from normct.common.files import write_json
from normct.common.registry import TRIVIAL
from normct.common.slices import SliceStore, empty_store, write_slices

NETWORKS = (("vae_kl", "0"), ("vae_pretrained", "0"), ("vae_pretrained", "1"), ("multitask_pretrained", "0"))
SETTINGS = {"slices": "usable", "bootstrap": 200, "seed": 0, "specificities": [0.9, 0.95]}


@dataclass
class Scan:
    """One row of the cohort; ``strength`` is how far lesions stand out in scores and maps."""

    sub: str
    group: str
    pathology: str = "n/a"
    role: str = "test"
    patient: str = ""
    mask: bool = False
    verdict: str = "pass"
    strength: float = 1.0
    reasons: list[str] = field(default_factory=list)
    subtype: str = "n/a"


def default_scans(label: str = "icb") -> list[Scan]:
    """Healthy training, calibration and test scans, and abnormal ones of three pathologies."""
    scans = [Scan(f"sub-t{i}", "healthy", role="train") for i in range(3)]
    scans += [Scan("sub-s0", "healthy", role="stop")]
    scans += [Scan(f"sub-c{i}", "healthy", role="calibrate") for i in range(3)]
    scans += [Scan(f"sub-h{i}", "healthy", patient=f"p{i // 2}") for i in range(4)]
    scans += [Scan(f"sub-a{i}", "abnormal", label, mask=True) for i in range(3)]
    scans += [Scan("sub-a3", "abnormal", "ischemia", mask=True, strength=0.2)]
    scans[-1].subtype = "lacunar"
    scans += [Scan("sub-a4", "abnormal", "aneurysm")]
    scans += [
        Scan("sub-x0", "abnormal", "tumor", mask=True, verdict="fail", reasons=["brain volume 300 mL."])
    ]
    return scans


def _maps(store: SliceStore, strength: float, rng: np.random.Generator) -> dict[str, np.ndarray]:
    signal = (store.image[store.mask].astype(np.float32) > 0.6) * 0.3 * strength
    maps = {
        f"{method}/seed-{seed}": (signal + 0.03 * rng.standard_normal(signal.shape)).astype(np.float16)
        for method, seed in NETWORKS
    }
    maps["statistical_atlas"] = (10 * signal + rng.standard_normal(signal.shape)).astype(np.float16)
    return maps


Z_MAPS = ("vae_kl", "vae_pretrained", "multitask_pretrained", "statistical_atlas", "fused")


def _z_maps(store: SliceStore, strength: float) -> dict[str, np.ndarray]:
    """Signed z maps, one a method: noise of SD 1, ten times the lesion's strength above it in a lesion."""
    rng = np.random.default_rng(3)
    signal = 10 * strength * (store.image[store.mask] > 0.6)
    return {m: (signal + rng.standard_normal(signal.shape)).astype(np.float16) for m in Z_MAPS}


def score_rows(scan: Scan, store: SliceStore, rng: np.random.Generator) -> pd.DataFrame:
    """Slice scores in the contract's columns: noise, higher on slices with a lesion."""
    table = store.table()
    lesion = table["lesion_pixels"].to_numpy() > 0
    columns = [(m, "thesis", s) for m, s in NETWORKS]
    columns += [("multitask_pretrained", "head", "0"), ("multitask_pretrained", "residual", "0")]
    columns += [("vae_pretrained", "thesis", "all")]
    columns += [(m, "calibrated", s) for m, s in NETWORKS]
    columns += [("statistical_atlas", "calibrated", "n/a"), ("fused", "fused", "0"), ("fused", "fused", "1")]
    columns += [(t.name, "trivial", "n/a") for t in TRIVIAL.values() if t.slice_score]
    parts = []
    for method, score, seed in columns:
        value = rng.standard_normal(len(table)) + 2 * scan.strength * lesion
        part = table.assign(method=method, score=score, seed=seed, value=value)
        parts.append(
            part.assign(group=scan.group, pathology=scan.pathology, role=scan.role, patient=scan.patient)
        )
    return pd.concat(parts, ignore_index=True)


def write_cohort(root: Path, scans: list[Scan]) -> Path:
    """Write everything that evaluation reads below ``root``; returns it."""
    rng = np.random.default_rng(7)
    rows, healthy = [], {}
    for scan in scans:
        scan.patient = scan.patient or scan.sub
        rows.append(
            {
                "participant_id": scan.sub,
                "group": scan.group,
                "pathology": scan.pathology,
                "role": scan.role,
                "split": "test" if scan.role == "test" else "val",
                "patient": scan.patient,
                # the columns are optional: some scans lack them
                "age": "n/a" if len(rows) % 5 == 0 else str(40 + 7 * (len(rows) % 6)),
                "sex": "n/a",
                "scanner": ("A", "B")[len(rows) % 2],
                "subtype": scan.subtype,
                "has_lesion_mask": "true" if scan.mask else "false",
            }
        )
        quality = {
            "participant_id": scan.sub,
            "verdict": scan.verdict,
            "reasons": scan.reasons,
            "measures": {"slice_thickness_mm": 1.0 + len(rows) % 3} if len(rows) % 4 else {},
        }
        write_json(root / "preprocess" / scan.sub / "quality.json", quality)
        write_json(root / "cohort" / scan.sub / "import.json", {"sha256": f"{len(rows):064x}"})
        if scan.role in {"train", "stop"}:
            continue
        failed = scan.verdict == "fail"
        store = empty_store(scan.sub) if failed else make_store(scan.sub, len(rows), scan.mask)
        write_slices(root / "preprocess" / scan.sub / "slices.npz", store)
        store.table().to_csv(root / "preprocess" / scan.sub / "slices.tsv", sep="\t", index=False)
        scores = score_rows(scan, store, rng)
        (root / "score" / "subjects").mkdir(parents=True, exist_ok=True)
        (root / "score" / "maps").mkdir(parents=True, exist_ok=True)
        scores.to_parquet(root / "score" / "subjects" / f"{scan.sub}.parquet", index=False)
        volumes = []
        if not failed:
            usable = scores[scores["usable"] & (scores["method"] != "slice_position")]
            for (method, score, seed), part in usable.groupby(["method", "score", "seed"]):
                entry = {"method": method, "score": score, "seed": seed, "value": part["value"].mean()}
                if seed == "all":
                    entry |= {"uncertainty": rng.random(), "uncertainty_of": "seeds"}
                volumes.append(entry)
            volumes.append(
                {"method": "acquisition", "score": "trivial", "seed": "n/a", "value": rng.random()}
            )
        write_json(
            root / "score" / "subjects" / f"{scan.sub}.json", {"participant_id": scan.sub, "volumes": volumes}
        )
        np.savez(
            root / "score" / "maps" / f"{scan.sub}.npz",
            **({} if failed else _maps(store, scan.strength, rng)),
        )
        (root / "score" / "calibrated").mkdir(parents=True, exist_ok=True)
        np.savez(
            root / "score" / "calibrated" / f"{scan.sub}.npz",
            **({} if failed else _z_maps(store, scan.strength)),
        )
        if scan.role == "calibrate":
            for v in volumes:
                seeds = healthy.setdefault(v["method"], {}).setdefault(v["score"], {})
                seeds.setdefault(v["seed"], []).append(v["value"])
    (root / "cohort").mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).to_csv(root / "cohort" / "participants.tsv", sep="\t", index=False)
    seed_thresholds: dict[str, dict[str, float]] = {}
    for method, seed in NETWORKS:
        seed_thresholds.setdefault(method, {})[seed] = 0.1
        history = pd.DataFrame(
            {
                "epoch": range(1, 7),  # as train writes it
                "learning_rate": 1e-3,
                "train_loss": np.geomspace(1, 0.05, 6),
                "val_loss": np.geomspace(1.1, 0.08, 6),
                "val_rec": np.geomspace(0.9, 0.07, 6),
                "val_kl": np.geomspace(0.01, 3, 6),
            }
        )
        folder = root / "train" / method / f"seed-{seed}"
        folder.mkdir(parents=True, exist_ok=True)
        history.to_csv(folder / "history.csv", index=False)
    write_json(
        root / "score" / "calibration.json",
        {
            "voxel_fpr": 0.01,
            "healthy": healthy,
            "seed_thresholds": seed_thresholds,
            "thresholds": {"vae_kl": 0.1, "vae_pretrained": 0.1, "statistical_atlas": 2.5},
            "calibrated": {"thresholds": dict.fromkeys([*Z_MAPS], 2.5)},
        },
    )
    return root
