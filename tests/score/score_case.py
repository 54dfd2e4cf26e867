"""A tiny cohort as preprocess and train leave it, with untrained networks."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from factories import make_store
from normct.common.files import write_json
from normct.common.slices import empty_store, write_slices
from normct.models import build_model, save_model
from normct.score import (
    build_reference,
    bundle,
    calibrate,
    calibrated_map,
    combine,
    export,
    infer,
    statistical_atlas,
    voxel_thresholds,
)

ROLES = {
    "sub-t1": "train",
    "sub-t2": "train",
    "sub-c1": "calibrate",
    "sub-c2": "calibrate",
    "sub-x1": "test",
    "sub-x2": "test",
}
ASIDE, LESION = "sub-x2", "sub-x1"
NETWORKS = [(m, s) for m in ("vae_kl", "multitask_pretrained") for s in (0, 1)]
SLICES = {"normalisation": "window", "window": [0, 80]}
SCORE = {
    "lambda": 0.5,
    "transforms": "dozen",
    "accelerator": "cpu",
    "head": {"combine": "mean", "anomaly": "1-p"},
    "voxel_fpr": 0.01,
    "statistical_atlas": {"prior_scans": 4, "sd_floor": 0.02},
    "calibrated": {
        "smooth_mm": {"axial": 2.5, "in_plane": 2.5},
        "prior_scans": 4,
        "band_mm": 8,
        "use_stop": True,
        "components": 5,
        "centre": True,
        "pool_share": 0.01,
        "position_mm": 8,
        "slice_smooth_mm": 3,
        "volume_share": 0.1,
    },
    "fusion": ["statistical_atlas", "networks"],
    "bundle_name": "tiny",
}
CONFIG = {
    "preprocess": {
        "skullstrip": {"engine": "morphology"},
        "register": {"atlas": {"image": "mine.nii.gz", "mask": "m.nii.gz"}},
        "slices": SLICES,
    },
    "score": SCORE,
    "train": {"methods": ["vae_kl", "multitask_pretrained"], "seeds": [0, 1], "multitask": {"max_shift": 16}},
    "handoff": {"method": "vae_kl"},
}
INFER = {"transforms": "dozen", "max_shift": 16, **SLICES}


def write_cohort(root: Path) -> None:
    """Write what preprocess and train leave behind, with untrained networks of a few channels."""
    for number, subject in enumerate(ROLES):
        folder = root / "preprocess" / subject
        folder.mkdir(parents=True)
        aside = subject == ASIDE
        store = empty_store(subject) if aside else make_store(subject, number, lesion=subject == LESION)
        write_slices(folder / "slices.npz", store)
        measures = {"slice_thickness_mm": 5.0 + number, "noise_hu": 4.0, "pitch_deg": 0.0, "mi": None}
        record = {"participant_id": subject, "verdict": "fail" if aside else "pass", "reasons": []}
        (root / "cohort" / subject).mkdir(parents=True)
        write_json(root / "cohort" / subject / "import.json", {"acquisition": {"kernel": "standard"}})
        write_json(folder / "quality.json", record | {"measures": {} if aside else measures})
    for method, seed in NETWORKS:
        torch.manual_seed(10 * seed + len(method))
        network = {"width": 2, "latent": 4, "head": method == "multitask_pretrained"}
        folder = root / "train" / method / f"seed-{seed}"
        folder.mkdir(parents=True)
        metadata = {"method": method, "seed": seed, "network": network}
        save_model(folder / "model.safetensors", build_model(network), metadata)
    (root / "preprocess" / "atlas").mkdir()
    for name in ("atlas.nii.gz", "atlas_mask.nii.gz"):
        (root / "preprocess" / "atlas" / name).write_bytes(b"\x1f\x8b stands for an image")


def network_arguments(root: Path) -> list[str]:
    """Return the --network arguments of every network."""
    return [
        part
        for m, s in NETWORKS
        for part in ("--network", m, str(s), str(root / "train" / m / f"seed-{s}" / "model.safetensors"))
    ]


def row(subject: str) -> str:
    """Return the --row argument of a scan."""
    role = ROLES[subject]
    abnormal = subject == LESION
    return json.dumps(
        {
            "group": "abnormal" if abnormal else "healthy",
            "pathology": "icb" if abnormal else "n/a",
            "split": "test" if role == "test" else "val",
            "role": role,
            "patient": subject,
        }
    )


def run_combine(root: Path, subject: str, settings: dict, out: Path) -> None:
    """Combine one scan through the command line."""
    combine.main(
        [str(root / f"score/raw/{subject}.npz"), str(root / f"preprocess/{subject}/quality.json"),
         str(out / "calibration.json"), "--pooled", str(root / f"score/pooled/{subject}.npz"),
         "--left-out", str(out / "left_out.npz"), "--row", row(subject), "--settings", json.dumps(settings),
         "--healthy-slices", str(out / "healthy_slices.npz"),
         "--table", str(out / f"subjects/{subject}.parquet"),
         "--volumes", str(out / f"subjects/{subject}.json")]
    )  # fmt: skip


def run_z(root: Path, calibrators: list[str], subjects: list[str]) -> None:
    """Make the reference and every scan's z maps."""
    score, preprocess = root / "score", str(root / "preprocess")
    build_reference.main(
        [str(score), preprocess, "--calibrate", *calibrators, "--patients", *calibrators,
         "--settings", json.dumps(SCORE["calibrated"]), "--reference", str(score / "reference.npz"),
         "--sums", str(score / "reference_sums.npz")]
    )  # fmt: skip
    for subject in subjects:
        own = [subject] if subject in calibrators else []
        reference = "reference_sums.npz" if own else "reference.npz"
        calibrated_map.main(
            [subject, str(score), preprocess, str(score / reference), "--own", *own, "--settings",
             json.dumps(SCORE), "--maps", str(score / f"calibrated/{subject}.npz"),
             "--pooled", str(score / f"pooled/{subject}.npz")]
        )  # fmt: skip


def run_calibrate(root: Path, calibrators: list[str], settings: dict, out: Path, *more: str) -> None:
    """Calibrate with scans of a scored cohort: voxel thresholds, then all that needs no map."""
    people = ["--subjects", *calibrators]
    chosen = ["--settings", json.dumps(settings)]
    voxels = str(out / "voxel_thresholds.json")
    voxel_thresholds.main([str(root / "score"), str(root / "preprocess"), voxels, *people, *chosen])
    calibrate.main(
        [str(root / "score"), str(out / "calibration.json"), "--voxels", voxels,
         "--left-out", str(out / "left_out.npz"), "--healthy-slices", str(out / "healthy_slices.npz"),
         "--patients", *calibrators, *people, *chosen, *more]
    )  # fmt: skip


def run_stage(root: Path) -> None:
    """Take a cohort through every module of the stage."""
    write_cohort(root)
    score = root / "score"
    trained = [s for s, role in ROLES.items() if role == "train"]
    atlas_settings = json.dumps(SCORE["statistical_atlas"] | SLICES)
    statistical_atlas.main(
        [str(root / "preprocess"), str(score / "statistical_atlas.npz"), "--subjects", *trained,
         "--settings", atlas_settings]
    )  # fmt: skip
    held_out = [s for s in ROLES if s not in trained]
    for subject in held_out:
        folder = root / "preprocess" / subject
        infer.main(
            [str(folder / "slices.npz"), str(folder / "quality.json"), str(score / "statistical_atlas.npz"),
             *network_arguments(root), "--role", ROLES[subject], "--settings", json.dumps(INFER),
             "--raw", str(score / f"raw/{subject}.npz"), "--maps", str(score / f"maps/{subject}.npz")]
        )  # fmt: skip
    calibrators = [s for s, role in ROLES.items() if role == "calibrate"]
    run_z(root, calibrators, held_out)
    run_calibrate(root, calibrators, SCORE, score, "--preprocess", str(root / "preprocess"))
    for subject in held_out:
        run_combine(root, subject, SCORE, score)
    export.main(
        [str(score / "subjects"), "--subjects", *held_out, "--slices", str(score / "slices.csv.gz"),
         "--volumes", str(score / "volumes.csv")]
    )  # fmt: skip
    settings = json.dumps({"config": CONFIG, "synthetic": True, "stop": 1})
    bundle.main(
        [str(score / "bundle"), *network_arguments(root),
         "--atlas", str(root / "preprocess/atlas/atlas.nii.gz"),
         "--atlas-mask", str(root / "preprocess/atlas/atlas_mask.nii.gz"),
         "--statistical-atlas", str(score / "statistical_atlas.npz"),
         "--calibration", str(score / "calibration.json"), "--reference", str(score / "reference.npz"),
         "--healthy-slices", str(score / "healthy_slices.npz"),
         "--settings", settings]
    )  # fmt: skip
