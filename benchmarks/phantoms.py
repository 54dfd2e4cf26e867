"""Synthetic heads for the benchmarks: on one grid, or with the true brain mask beside the scan."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from unittest.mock import patch

import numpy as np

from normct.common.volumes import Volume
from normct.phantom import scanner, subject
from normct.phantom.brain import embed

POSE = {"pitch_deg": 15, "roll_deg": 6, "yaw_deg": 6, "shift_mm": 6}


def settings(thickness: float, pose: dict[str, float] | None = None) -> dict[str, Any]:
    """Return the phantom's settings for slices of one thickness in mm."""
    return {
        "pose": pose or POSE,
        "slice_thickness_mm": [thickness, thickness],
        "noise_hu": [4, 5],
        "age_years": [20, 90],
    }


def on_grid(
    name: str, pathology: str | None, thickness: float, pixel_mm: float, seed: int
) -> subject.Phantom:
    """Make a subject on a 512×512 grid of this pixel size, whatever its scanner."""
    same = {key: replace(s, pixel_mm=pixel_mm, matrix=512) for key, s in scanner.SCANNERS.items()}
    with patch.dict(scanner.SCANNERS, same):
        return subject.make_subject(name, pathology, settings(thickness), seed=seed)


def with_brain(
    name: str,
    pathology: str | None,
    subtype: str | None = None,
    *,
    thickness: float,
    pose: dict[str, float],
    seed: int,
) -> tuple[subject.Phantom, Volume]:
    """Make a subject, and its true brain mask (what the dura holds) on the same grid."""
    seen: dict[str, Any] = {}
    build, scan = subject.build_head, subject.scan

    def remember(*args: Any, **kwargs: Any) -> Any:
        seen["head"] = build(*args, **kwargs)
        return seen["head"]

    def twice(hu: Any, lesion: Any, grid: Any, scanner: Any, *, taken: Any, rng: Any) -> Any:
        scene = seen["head"].scene
        brain = embed(scene.brain.mask, scene.base) > 0
        if scene.mask is not None:
            brain |= scene.mask > 0
        seen["brain"] = scan(hu, brain, grid, scanner, taken=taken, rng=np.random.default_rng(0))[1]
        return scan(hu, lesion, grid, scanner, taken=taken, rng=rng)

    with patch.object(subject, "build_head", remember), patch.object(subject, "scan", twice):
        phantom = subject.make_subject(name, pathology, settings(thickness, pose), seed=seed, subtype=subtype)
    return phantom, seen["brain"]
