"""What the synthetic cohort really holds: `python -m benchmarks.phantom_study [subjects]` (20 to 40 CPU s each).

Every head is made once healthy and once with each lesion. Anatomy of an ID does not depend on the lesion, so
contrast is the difference of the two heads inside the mask, at 1 mm, before the scanner's noise and partial volume;
of lesions that move the brain the density inside the mask is taken instead. No score is computed.

How much one healthy brain differs from another is the Dice of the ventricles, and of all CSF inside the brain,
between pairs after the best rigid registration (the true pose): what a statistical atlas would meet.
"""

from __future__ import annotations

import itertools
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from scipy import ndimage

from normct.common.files import write_json
from normct.phantom.lesions import PAINTERS, RANGES, Scene
from normct.phantom.plan import demographics
from normct.phantom.subject import Head, build_head
from normct.phantom.template import ORIGIN, SHAPE
from normct.phantom.warp import LOW, STEP, lattice

MOVING = ("subdural", "epidural", "atrophy")
SEED = 11  # neither the demo's nor a detection cohort's
OUT = Path("results/phantom_study.json")


def lesion_figures(kind: str, scene: Scene, healthy: Scene) -> dict[str, float]:
    """Return volume, contrast or density and, where it is drawn, size of a lesion at 1 mm."""
    mask = scene.mask
    figures = {
        "volume_ml": float(mask.sum() * scene.scale / 1000),
        "density_hu": float(scene.hu[mask].mean()),
    }
    if kind not in MOVING:
        figures["contrast_hu"] = float((scene.hu - healthy.hu)[mask].mean())
    length = scene.scale ** (1 / 3)
    if kind == "aneurysm":
        figures["diameter_mm"] = float((6000 * figures["volume_ml"] / np.pi) ** (1 / 3))
    if kind in {"subdural", "epidural"}:
        figures["thickness_mm"] = float((scene.inner - scene.hull[mask]).max() * length)
    kept = ("contrast_hu", "density_hu", "diameter_mm", "thickness_mm")
    return figures | {f"drawn_{k}": float(v) for k, v in scene.parameters.items() if k in kept}


def csf_maps(head: Head) -> tuple[np.ndarray, np.ndarray]:
    """Return ventricles and all CSF of a head on MNI's 2 mm grid, after the best rigid fit (bool)."""
    place = lattice(head.warp, head.scene.base, head.skin)
    fluid = np.zeros(SHAPE, np.float32)
    fluid[head.scene.base.box] = head.scene.brain.csf * head.scene.brain.mask
    grid = np.stack(
        np.meshgrid(*(np.arange(-76, 77, 2), np.arange(-110, 77, 2), np.arange(-60, 85, 2)), indexing="ij")
    )
    flat = grid.reshape(3, -1).astype(float)
    world = place.rigid[:3, :3] @ flat + place.rigid[:3, 3:]
    index = (world - np.asarray(LOW, float)[:, None]) / STEP
    points = np.stack([ndimage.map_coordinates(p, index, order=1, mode="nearest") for p in place.points])
    csf = ndimage.map_coordinates(fluid, points - ORIGIN[:, None], order=1).reshape(grid.shape[1:]) > 0.5
    # the template's own field, grown by 8 mm, parts the ventricles from cisterns and sulci
    near = ndimage.map_coordinates(
        head.scene.base.ventricle, (points - ORIGIN[:, None]) / 2, order=1, cval=99.0, mode="constant"
    )
    return csf & (near.reshape(grid.shape[1:]) < 8), csf


def dice(a: np.ndarray, b: np.ndarray) -> float:
    """Return the Dice overlap."""
    return float(2 * (a & b).sum() / max(a.sum() + b.sum(), 1))


def spread(values: list[float]) -> dict[str, float]:
    """Return smallest, median and largest."""
    return {
        "min": round(min(values), 3),
        "median": round(float(np.median(values)), 3),
        "max": round(max(values), 3),
    }


def main(arguments: list[str]) -> int:
    """Measure, print as it goes and write ``results/phantom_study.json``."""
    number = int(arguments[0]) if arguments else 10
    settings = yaml.safe_load(Path("config.yaml").read_text("utf-8"))["phantom"] | {"seed": SEED}
    if Path("configs/detection.yaml").is_file():
        settings |= yaml.safe_load(Path("configs/detection.yaml").read_text("utf-8"))["phantom"] | {
            "seed": SEED
        }
    found: dict[str, list[dict[str, Any]]] = {kind: [] for kind in (*PAINTERS, *MOVING)}
    brains = []
    for n in range(1, number + 1):
        subject = f"sub-study{n:03d}"
        head = build_head(subject, "", settings)
        healthy = head.scene
        brains.append((int(demographics(subject, settings)["age"]), *csf_maps(head)))
        for kind, rows in found.items():
            if kind in MOVING:
                scene = build_head(subject, kind, settings).scene
            else:
                scene = replace(
                    healthy,
                    hu=healthy.hu.copy(),
                    mask=np.zeros(SHAPE, bool),
                    parameters={},
                    rng=np.random.default_rng([SEED, n, len(rows), len(kind)]),
                )
                PAINTERS[kind](scene)
            rows.append(lesion_figures(kind, scene, healthy))
            print(
                json.dumps({"subject": n, "kind": kind, **{k: round(v, 3) for k, v in rows[-1].items()}}),
                flush=True,
            )
    pairs = list(itertools.combinations(brains, 2))
    result = {
        "subjects": number,
        "seed": SEED,
        "lesions": {
            kind: {key: spread([row[key] for row in rows]) for key in rows[0]} | {"range": RANGES[kind]}
            for kind, rows in found.items()
        },
        "variety": {
            "ages": [b[0] for b in brains],
            "ventricles_ml": spread([float(b[1].sum() * 8 / 1000) for b in brains]),
            "ventricles_dice": spread([dice(a[1], b[1]) for a, b in pairs]),
            "csf_dice": spread([dice(a[2], b[2]) for a, b in pairs]),
        },
    }
    write_json(OUT, result)
    print(json.dumps(result, indent=1))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
