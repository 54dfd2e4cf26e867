"""A finished run in miniature, as the earlier stages leave it, by the project's own writers."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from head_case import ball_mask, head, native_grid, rigid, small, template
from PIL import Image

from normct.cohort.importer import run_import
from normct.common.anatomy import ATLAS_SHAPE, atlas_affine
from normct.common.files import write_json
from normct.common.geometry import resample, write_transform
from normct.common.slices import SliceStore, empty_store, write_slices
from normct.common.volumes import Volume, write_volume
from normct.score.percentile import standing
from normct.score.trained_on import scanner_mark

METHOD = "vae_pretrained"
SETTINGS = {
    "method": METHOD,
    "score": "thesis",
    "windows": {"brain": [40, 80], "stroke": [35, 30], "subdural": [75, 215], "bone": [600, 2800]},
    "min_finding_ml": 0.1,
    "title": "Test cohort",
    "synthetic": True,
    "trained_on_synthetic": False,
    "hu_range": [0, 80],
    "voxel_fpr": 0.01,
    "threshold_factor": 1.0,
    "viewer": {"pixels": 256, "max_slices": 200, "max_mb": 7},
    "dicom": {"write": True, "uid_root": "2.25", "copy_patient": False},
    "person": {"age": 55, "scanner": "A"},
}
TRAINED = {
    "n": 6,
    "age": [30, 80],
    "slice_thickness_mm": [3, 5],
    "noise_hu": [3, 6],
    "kernels": [],
    "vendors": ["GE"],
    "scanners": [scanner_mark("A")],
}
Z_SETTINGS = {"method": "fused", "score": "calibrated"}
"""The default: z against healthy scans, of statistical atlas and networks together."""
Z_PER_HU = 0.25
Z_THRESHOLD = 2.72
CONFIG = yaml.safe_load((Path(__file__).resolve().parents[2] / "config.yaml").read_text("utf-8"))
HEALTHY = [0.9, 1.0, 1.05, 1.2]


def write_subject(
    root: Path,
    subject: str,
    shape=(180, 200, 34),
    zooms=(1.1, 1.1, 5.0),
    flips="LPS",
    ball=(-35.0, 30.0, 20.0, 16.0),
    delta=30.0,
    score=1.6,
    seed=0,
    dicom=None,
    turn=None,
) -> None:
    """Write everything the earlier stages leave for one scan.

    ``dicom``: a folder to import instead; ``turn``: shape (4, 4), what turns or shears the scan's grid.
    """
    affine, points = native_grid(shape, zooms, flips), rigid()
    affine = affine if turn is None else turn @ affine
    if dicom:
        mask, inside = template()[1], ball_mask(ball)
        run_import(subject, dicom, None, root / "cohort" / subject)
    else:
        ct, mask, inside = head(shape, affine, points, ball, delta, seed)
        write_volume(root / "cohort" / subject / "ct.nii.gz", Volume(ct, affine))
        write_import(root, subject)
    rng = np.random.default_rng(seed)
    folder, scored = root / "preprocess" / subject, root / "score"
    spacing = np.diag([1.0, 1.0, 1.0, 1.0])
    spacing[:3, 3] = -130
    own = resample(
        Volume(mask.data.astype(np.uint8), mask.affine),
        (260, 260, 260),
        spacing,
        np.linalg.inv(points),
        order=0,
    )
    write_volume(folder / "brain_mask.nii.gz", own)
    write_transform(folder / "native_to_atlas.mat", points)
    brain = mask.data.transpose(2, 1, 0) > 0
    lesion = inside.transpose(2, 1, 0)
    mask128 = small(brain) > 0.5
    usable = brain.sum(axis=(1, 2)) >= 10
    empty = np.zeros_like(brain)
    image = np.where(mask128, 0.4 + small(lesion) * delta / 80, 0)
    write_slices(
        folder / "slices.npz",
        SliceStore(subject, image.astype(np.float16), mask128, brain, empty, usable, False),
    )
    residual = small(lesion) * delta / 80 + rng.normal(0, 0.02, mask128.shape)
    maps = {f"{METHOD}/seed-{n}": (residual[mask128] + 0.001 * n).astype(np.float16) for n in (0, 1)}
    path = scored / "maps" / f"{subject}.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, **maps)
    z = (residual[mask128] * 80 * Z_PER_HU).astype(np.float16)
    (scored / "calibrated").mkdir(exist_ok=True)
    np.savez_compressed(
        scored / "calibrated" / f"{subject}.npz",
        **{METHOD: z * np.float16(0.5), "statistical_atlas": z, "fused": z},
    )
    write_levels(scored / "subjects" / f"{subject}.parquet", usable, lesion.any(axis=(1, 2)))
    measures = {"slice_thickness_mm": zooms[2], "noise_hu": 4.0}
    write_json(
        folder / "quality.json",
        {"participant_id": subject, "verdict": "pass", "reasons": [], "measures": measures},
    )
    Image.new("RGB", (300, 100), (40, 40, 40)).save(folder / "quality.png")
    rows = [
        {
            "method": method,
            "score": kind,
            "seed": s,
            "value": float(value),
            "uncertainty": 0.15 * factor * score if s == "all" else None,
            "uncertainty_of": "seeds",
            **standing(float(value), [factor * h for h in HEALTHY]),
        }
        for method, kind, factor in ((METHOD, "thesis", 1), (METHOD, "calibrated", 2), ("fused", "fused", 3))
        for s, value in zip(("0", "1", "all"), factor * score * np.array([0.85, 1.15, 1.0]), strict=True)
    ]
    write_json(
        scored / "subjects" / f"{subject}.json",
        {"participant_id": subject, "verdict": "pass", "volumes": rows},
    )


def write_levels(path: Path, usable: np.ndarray, high: np.ndarray) -> None:
    """Write scores of slices: of four healthy people all score lower where ``high``, two elsewhere."""
    z = np.arange(len(usable))
    below = np.where(high, len(HEALTHY), 2)
    rows = {"z": z, "rank": below, "n_healthy": len(HEALTHY), "usable": usable}
    tables = [
        pd.DataFrame(rows | {"method": m, "score": s, "seed": seed, "value": 0.1 * z + (seed != "all")})
        for m, s in ((METHOD, "thesis"), (METHOD, "calibrated"), ("fused", "fused"))
        for seed in ("0", "1", "all")
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    pd.concat(tables).to_parquet(path, index=False)


def write_import(root: Path, subject: str) -> None:
    """Write what the import of a NIfTI scan says of it."""
    taken = {"slice_thickness_mm": None, "kernel": None, "tube_current_ma": None, "vendor": "GE"}
    write_json(root / "cohort" / subject / "import.json", {"participant_id": subject, "acquisition": taken})
    write_json(root / "cohort" / subject / "dicom_private.json", {"instances": []})


def write_aside(root: Path, subject: str, reason: str) -> None:
    """Write what a scan that quality control set aside leaves."""
    folder = root / "preprocess" / subject
    write_import(root, subject)
    write_volume(root / "cohort" / subject / "ct.nii.gz", Volume(np.zeros((1, 1, 1), np.int16), np.eye(4)))
    write_volume(folder / "brain_mask.nii.gz", Volume(np.zeros((1, 1, 1), np.uint8), np.eye(4)))
    write_transform(folder / "native_to_atlas.mat", np.eye(4))
    write_slices(folder / "slices.npz", empty_store(subject))
    write_json(
        folder / "quality.json",
        {"participant_id": subject, "verdict": "fail", "reasons": [reason], "measures": {}},
    )
    Image.new("RGB", (300, 100)).save(folder / "quality.png")
    write_json(
        root / "score" / "subjects" / f"{subject}.json",
        {"participant_id": subject, "verdict": "fail", "volumes": []},
    )
    nowhere = np.zeros(ATLAS_SHAPE[2], bool)
    write_levels(root / "score" / "subjects" / f"{subject}.parquet", nowhere, nowhere)
    path = root / "score" / "maps" / f"{subject}.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path)
    (root / "score" / "calibrated").mkdir(exist_ok=True)
    np.savez_compressed(root / "score" / "calibrated" / f"{subject}.npz")


def write_shared(root: Path, roles: dict[str, str]) -> None:
    """Write table, atlas and calibration."""
    table = root / "cohort" / "participants.tsv"
    table.parent.mkdir(parents=True, exist_ok=True)
    rows = "".join(f"{s}\tabnormal\tsecretlabel\t{r}\n" for s, r in roles.items())
    table.write_text("participant_id\tgroup\tpathology\trole\n" + rows, "utf-8")
    write_volume(
        root / "preprocess" / "atlas" / "atlas.nii.gz",
        Volume(np.zeros(ATLAS_SHAPE, np.int16), atlas_affine()),
    )
    (root / "score").mkdir(exist_ok=True)
    np.savez(root / "score" / "statistical_atlas.npz", trained_on=np.array(json.dumps(TRAINED)))
    write_json(
        root / "score" / "calibration.json",
        {
            "thresholds": {METHOD: 0.12},
            "healthy": {
                METHOD: {
                    "thesis": dict.fromkeys(("0", "1", "all"), HEALTHY),
                    "calibrated": {seed: [2 * h for h in HEALTHY] for seed in ("0", "1", "all")},
                },
                "fused": {"fused": {seed: [3 * h for h in HEALTHY] for seed in ("0", "1", "all")}},
            },
            "calibrated": {
                "thresholds": {METHOD: 1.5, "statistical_atlas": 3.0, "fused": Z_THRESHOLD},
                "false_findings": {
                    "factors": [0.5, 1.0, 2.0],
                    "sizes_ml": [0.05, 0.1, 0.5],
                    "n_scans": 4,
                    "mean": {"fused": [[90, 60, 9], [50, 29.33, 3], [2, 1, 0]]},
                    "largest": {"fused": [[95, 70, 12], [60, 46, 5], [3, 2, 0]]},
                },
            },
            "false_findings": {
                "factors": [0.5, 1.0, 2.0],
                "sizes_ml": [0.05, 0.1, 0.5],
                "n_scans": 4,
                "mean": {METHOD: [[80, 40, 8], [12, 6.5, 1], [2, 1, 0]]},
                "largest": {METHOD: [[90, 50, 9], [14, 9, 2], [3, 2, 0]]},
            },
        },
    )


def arguments(root: Path, subject: str, **changes) -> list[str]:
    """Command line of the patient job."""
    pre, score = root / "preprocess" / subject, root / "score"
    paths = {
        "ct": root / "cohort" / subject / "ct.nii.gz",
        "record": root / "cohort" / subject / "import.json",
        "private": root / "cohort" / subject / "dicom_private.json",
        "statistical-atlas": score / "statistical_atlas.npz",
        "transform": pre / "native_to_atlas.mat",
        "atlas": root / "preprocess" / "atlas" / "atlas.nii.gz",
        "quality": pre / "quality.json",
        "picture": pre / "quality.png",
        "slices": pre / "slices.npz",
        "brain-mask": pre / "brain_mask.nii.gz",
        "scores": score / "subjects" / f"{subject}.json",
        "slice-scores": score / "subjects" / f"{subject}.parquet",
        "maps": score / "maps" / f"{subject}.npz",
        "z-maps": score / "calibrated" / f"{subject}.npz",
        "calibration": score / "calibration.json",
    }
    listed = [text for name, path in paths.items() for text in (f"--{name}", str(path))]
    out = root / "handoff" / "patients" / subject
    return [subject, str(out), *listed, "--settings", json.dumps(SETTINGS | changes)]


SHARED = (
    "title",
    "method",
    "score",
    "synthetic",
    "trained_on_synthetic",
    "min_finding_ml",
    "voxel_fpr",
    "threshold_factor",
)
INDEX = {k: SETTINGS[k] for k in SHARED} | {
    "networks": [METHOD],
    "fusion": ["statistical_atlas", "networks"],
    "config": CONFIG
    | {"results_dir": "/home/someone/results", "cohort": {"participants": "/home/someone/p.tsv"}},
    "seeds": [0, 1],
    "code": "abc",
}


def make_run(root: Path, **changes: str) -> Path:
    """Three scored scans, one set aside with a page and one without; returns the hand-off's folder."""
    from normct.handoff.index import build
    from normct.handoff.patient import main

    write_shared(
        root,
        {
            "sub-low": "test",
            "sub-high": "unlabelled",
            "sub-dark": "test",
            "sub-bad": "test",
            "sub-cal": "calibrate",
        },
    )
    write_subject(root, "sub-low", ball=(0, 0, 0, 0.0), delta=0, score=0.95)
    write_subject(root, "sub-high", score=1.6, seed=1)
    write_subject(
        root, "sub-dark", flips="RAI", ball=(38.0, -50.0, 15.0, 14.0), delta=-22.0, score=1.1, seed=2
    )
    write_aside(root, "sub-bad", "no brain was found")
    write_aside(root, "sub-cal", "brain volume 300 mL")
    for subject in ("sub-low", "sub-high", "sub-dark", "sub-bad"):
        main(arguments(root, subject, **changes))
    build(root, INDEX | changes, [], None)
    return root / "handoff"


def make_many(root: Path, record: dict, count: int, findings: int = 20) -> Path:
    """Worklist of many scans made of one scan's record; returns the hand-off's folder."""
    from normct.handoff.index import build

    names = [f"sub-x{n:03d}" for n in range(count)]
    (root / "cohort").mkdir(parents=True)
    rows = "".join(f"{name}\tn/a\tn/a\ttest\n" for name in names)
    (root / "cohort" / "participants.tsv").write_text("participant_id\tgroup\tpathology\trole\n" + rows)
    listed = (record["findings"] * findings)[:findings]
    for number, name in enumerate(names):
        folder = root / "handoff" / "patients" / name
        own = {"participant_id": name, "score": number / 10, "findings": listed}
        write_json(folder / "patient.json", record | own)
        (folder / "index.html").write_text("<span data-stamp></span>")
    build(root, INDEX, [], None)
    return root / "handoff"


@lru_cache(maxsize=1)
def shared_run(folder: Path) -> Path:
    """The same run for every test of the session that only reads it."""
    root = folder / "handoff_run"
    make_run(root)
    return root


@lru_cache(maxsize=1)
def shared_z_run(folder: Path) -> Path:
    """The same scans with the map of the default settings, in SD."""
    root = folder / "handoff_z_run"
    make_run(root, **Z_SETTINGS)
    return root
