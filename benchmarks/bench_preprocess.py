"""What preprocessing costs a subject, beside the thesis's chain on the same scan, and how good it is."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from statistics import mean, median

import numpy as np
import yaml

from benchmarks import phantoms
from benchmarks.child import cost
from benchmarks.entry import Entry
from benchmarks.thesis_chain import STEPS

ROOT = Path(__file__).resolve().parents[1]
PIXEL_MM, THICKNESS_MM, SEED = 0.45, 3.0, 7
REPEATS = 3
KEPT = ("brain.nii.gz", "brain_mask.nii.gz", "skullstrip.json", "native_to_atlas.mat", "register.json",
        "quality.json", "quality.png", "slices.npz", "slices.tsv")  # fmt: skip
CASES: tuple[tuple[str | None, str | None, float, float], ...] = (
    ("bleed", "subdural", 5, 1), ("bleed", "subdural", 5, 25), ("bleed", "epidural", 4, 20),
    ("bleed", "subarachnoid", 3, 10), (None, None, 5, 25), ("bleed", "subdural", 3, 15),
    ("ischemia", None, 2.5, 20), ("bleed", "subdural", 6, 10),
)  # fmt: skip
"""Pathology, subtype, slice thickness in mm, and largest pitch in degrees of the heads that are stripped."""

Cost = tuple[float, float]


def child(module: str, *arguments: object) -> Cost:
    """Run a module in a process of its own; return CPU seconds (its children's too) and peak memory in MB."""
    one_thread = {"OMP_NUM_THREADS": "1", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS": "1"}
    found = cost([sys.executable, "-m", module, *map(str, arguments)], ROOT, one_thread)
    return found.cpu_s, found.mb


def chain(raw: Path, atlas: Path, out: Path) -> dict[str, Cost]:
    """Run every step of one subject, from the raw NIfTI to packed slices, as the rules do."""
    settings = yaml.safe_load((ROOT / "config.yaml").read_text("utf-8"))["preprocess"]
    register = settings["register"]
    made, masks = out / "import", ("atlas.nii.gz", "atlas_mask.nii.gz")
    image, mask = (atlas / name for name in masks)
    brain, inside, transform = (out / n for n in ("brain.nii.gz", "brain_mask.nii.gz", "native_to_atlas.mat"))
    steps: dict[str, Sequence[object]] = {
        "cohort.importer": ["--subject", "sub-bench", "--ct", raw, "--out", made],
        "preprocess.resample": [made / "ct.nii.gz", out / "head.nii", "--import-json", made / "import.json"],
        "preprocess.skullstrip": [
            out / "head.nii", brain, inside, out / "skullstrip.json",
            "--settings", json.dumps(settings["skullstrip"] | {"engine": "morphology"}),
        ],
        "preprocess.register": [
            brain, inside, image, mask, transform, out / "register.json",
            "--pitch-starts", *register["pitch_starts"], "--side-starts", *register["side_starts"],
        ],
        "preprocess.quality": [
            out / "quality.json", out / "quality.png", "--subject", "sub-bench",
            "--import-json", made / "import.json", "--skullstrip-json", out / "skullstrip.json",
            "--register-json", out / "register.json", "--brain", brain, "--mask", inside,
            "--transform", transform, "--atlas", image, "--atlas-mask", mask,
            "--settings", json.dumps(settings["quality"]),
        ],
        "preprocess.slices": [
            brain, inside, transform, image, made / "lesion.nii.gz", made / "import.json",
            out / "quality.json", out / "slices.npz", out / "slices.tsv",
            "--settings", json.dumps(settings["slices"]), "--interpolation", register["interpolation"],
        ],
    }  # fmt: skip
    return {name: child(f"normct.{name}", *arguments) for name, arguments in steps.items()}


def strip_quality(number: int) -> tuple[float, float | None]:
    """Return the morphology engine's Dice on one head, and the share of its lesion that the mask keeps."""
    from normct.common.geometry import resample
    from normct.preprocess.engine_morphology import extract
    from normct.preprocess.resample import resample_head

    pathology, subtype, thickness, pitch = CASES[number]
    pose = phantoms.POSE | {"pitch_deg": pitch}
    name = f"sub-strip{number}"
    phantom, brain = phantoms.with_brain(name, pathology, subtype, thickness=thickness, pose=pose, seed=SEED)
    head = resample_head(phantom.ct)
    found = extract(head, (0, 100))
    truth, lesion = (
        resample(v, head.data.shape, head.affine, order=0).data > 0 for v in (brain, phantom.lesion)
    )
    kept = float((found & lesion).sum() / lesion.sum()) if pathology == "bleed" else None
    return float(2 * (found & truth).sum() / (found.sum() + truth.sum())), kept


def make_inputs(folder: Path) -> list[list[float]]:
    """Write the scan and the atlas; return the scan's true pose."""
    from normct.common.anatomy import ct_atlas
    from normct.common.volumes import write_volume

    phantom = phantoms.on_grid("sub-bench", "icb", THICKNESS_MM, PIXEL_MM, SEED)
    for volume, file in zip(
        (*ct_atlas(), phantom.ct), ("atlas.nii.gz", "atlas_mask.nii.gz", "ct.nii.gz"), strict=True
    ):
        write_volume(folder / file, volume)
    pose: list[list[float]] = phantom.truth["pose"]["mni_to_native"]
    return pose


def pose_error(truth: list[list[float]], found: Path, atlas_mask: Path) -> tuple[float, float]:
    """Return degrees and mm (at the atlas brain's centre) between the true pose and a transform."""
    from normct.common.geometry import read_transform
    from normct.common.volumes import read_volume
    from normct.preprocess.pose import centre_of_mass, distance

    return distance(np.array(truth), read_transform(found), centre_of_mass(read_volume(atlas_mask, None)))


def measure() -> list[Entry]:
    """Measure on synthetic heads made here; about four minutes."""
    with tempfile.TemporaryDirectory(prefix="normct-bench-") as name:
        folder = Path(name)
        # a child's peak memory starts from its parent's: what is large is made in processes of its own
        with ProcessPoolExecutor(2) as pool:
            strips = list(pool.map(strip_quality, range(len(CASES))))
            truth = pool.submit(make_inputs, folder).result()
        runs = [chain(folder / "ct.nii.gz", folder, folder / f"run-{n}") for n in range(REPEATS)]
        ours = median(sum(cpu for cpu, _ in run.values()) for run in runs)
        thesis = {step: child("benchmarks.thesis_chain", step, folder) for step in STEPS}
        errors = [
            pose_error(truth, folder / file, folder / "atlas_mask.nii.gz")
            for file in ("run-0/native_to_atlas.mat", "thesis.mat")
        ]
        megabytes = sum((folder / "run-0" / file).stat().st_size for file in KEPT) / 1e6
    for step in runs[0]:
        seconds = median(run[step][0] for run in runs)
        print(
            f"  {step:24s} {seconds:6.2f} CPU s  {max(run[step][1] for run in runs):6.0f} MB", file=sys.stderr
        )
    for step, (seconds, peak) in thesis.items():
        print(f"  thesis {step:17s} {seconds:6.2f} CPU s  {peak:6.0f} MB", file=sys.stderr)
    kept = [share for _, share in strips if share is not None]
    return [
        Entry("preprocess_cpu_s", ours, "CPU s", "<= 10"),
        Entry("preprocess_peak_mb", max(peak for run in runs for _, peak in run.values()), "MB", "<= 1500"),
        Entry("preprocess_thesis_cpu_s", sum(cpu for cpu, _ in thesis.values()), "CPU s"),
        Entry("preprocess_speedup_vs_thesis", sum(cpu for cpu, _ in thesis.values()) / ours, "x", ">= 6"),
        Entry("preprocess_pose_error_deg", errors[0][0], "deg", "<= 5"),
        Entry("preprocess_pose_error_mm", errors[0][1], "mm", "<= 5"),
        Entry("preprocess_pose_error_thesis_deg", errors[1][0], "deg"),
        Entry("preprocess_pose_error_thesis_mm", errors[1][1], "mm"),
        Entry("preprocess_disk_mb", megabytes, "MB"),
        Entry("preprocess_strip_dice", mean(dice for dice, _ in strips), "Dice", ">= 0.95"),
        Entry("preprocess_strip_dice_worst", min(dice for dice, _ in strips), "Dice", ">= 0.9"),
        Entry("preprocess_bleed_kept", mean(kept), "share"),
    ]
