"""Accuracy of registration, and of quality control's judgement of it, on hard synthetic subjects.

    python benchmarks/registration_study.py run study-A.csv --seed 101 --subjects 60  # to set limits on
    python benchmarks/registration_study.py run study-B.csv --seed 202 --subjects 60     # to report
    python benchmarks/registration_study.py report study-B.csv  # judges anew, by the limits in config.yaml

Each subject is made with a known pose (pitch ±30°, roll and yaw ±15°, shifts, slices 3 to 6 mm, neck), half
of them with a pathology, then resampled, stripped, registered and judged by the stage's own functions.
Success: within 5° and 5 mm (at the atlas brain's centre of mass) of the best rigid fit of the true pose.
One line a subject is appended, so that an interrupted run goes on where it was; with ``--keep`` the
stripped brains stay, and another run skips making them.

To know what quality control says of failures that hardly occur, each subject is also judged at poses turned
away from the one found by 10, 15 and 25 degrees (``turned_*``), and where climbs from starts 60, 100 and 180
degrees off end (``trapped_*``; many find the right pose all the same, the others are failures). These poses
are judged without ``mi_lead``, for no other start competes with them.
"""

from __future__ import annotations

import argparse
import csv
import multiprocessing
import os
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import yaml

ROOT = Path(__file__).resolve().parents[1]
HARD = {
    "pose": {"pitch_deg": 30, "roll_deg": 15, "yaw_deg": 15, "shift_mm": 15},
    "slice_thickness_mm": [3, 6],
    "noise_hu": [3, 6],
    "age_years": [20, 90],
}
PATHOLOGIES = ("aneurysm", "atrophy", "bleed", "cavernoma", "icb", "ischemia", "tumor")
LIMIT_DEG, LIMIT_MM = 5.0, 5.0
TURNED_DEG, TRAPPED_DEG = (10, 15, 25), (60, 100, 180)
POSE_MEASURES = ("mi", "mi_lead", "mi_peak", "overlap_share", "pitch_deg", "roll_deg", "yaw_deg")
POSE_MEASURES += ("vertex_in_view", "base_in_view")


def strip_subject(subject: str, pathology: str | None, seed: int, settings: dict, keep: Path | None):
    """Return stripped brain, mask and records of import, strip and truth; from ``keep`` if it has them."""
    from normct.common.files import read_json, write_json
    from normct.common.volumes import Volume, read_volume, write_volume

    folder = keep / f"seed-{seed}" / subject if keep else None
    names = ("brain.nii", "mask.nii", "records.json")
    if folder and all((folder / name).exists() for name in names):
        return (
            read_volume(folder / names[0]),
            read_volume(folder / names[1], dtype=None),
            read_json(folder / names[2]),
        )
    from normct.phantom.subject import make_subject
    from normct.preprocess.resample import resample_head
    from normct.preprocess.skullstrip import strip

    phantom = make_subject(subject, pathology, HARD, seed=seed)
    head = resample_head(phantom.ct)
    mask, stripped = strip(head, settings["skullstrip"])
    brain = Volume(np.where(mask, head.data, -1024).astype(np.int16), head.affine)
    volume = Volume(mask.astype(np.uint8), head.affine)
    imported = {"shape": list(phantom.ct.data.shape), "zooms_mm": phantom.ct.zooms.tolist()}
    records = {"import": imported, "strip": stripped, "truth": phantom.truth}
    if folder:
        write_volume(folder / names[0], brain)
        write_volume(folder / names[1], volume)
        write_json(folder / names[2], records)
    return brain, volume, records


def study_subject(number: int, seed: int, settings: dict[str, Any], keep: Path | None) -> dict[str, Any]:
    """Make, register and judge one subject."""
    from scipy.spatial.transform import Rotation

    from normct.common.anatomy import ct_atlas
    from normct.common.geometry import angles_deg
    from normct.preprocess.pose import (
        COARSE_MM,
        FINE_MM,
        RADIUS_MM,
        MutualInformation,
        centre_of_mass,
        climb,
        distance,
        peak,
        rigid,
    )
    from normct.preprocess.quality import measure
    from normct.preprocess.register import overlap, register, two_mm

    subject = f"sub-study{number:03d}"
    pathology = PATHOLOGIES[number // 2 % len(PATHOLOGIES)] if number % 2 else None
    brain, mask, records = strip_subject(subject, pathology, seed, settings, keep)
    atlas, atlas_mask = ct_atlas()
    started = time.process_time()
    found, record = register(
        brain,
        mask,
        atlas,
        atlas_mask,
        pitch_starts=settings["register"]["pitch_starts"],
        side_starts=settings["register"]["side_starts"],
    )
    seconds = time.process_time() - started
    true = np.array(records["truth"]["pose"]["mni_to_native"])
    centre = centre_of_mass(atlas_mask)
    degrees, mm = distance(true, found, centre)

    def judged(matrix: np.ndarray, registered: dict) -> dict[str, Any]:
        return measure(
            records["import"],
            records["strip"],
            registered,
            brain=brain,
            mask=mask,
            atlas_mask=atlas_mask,
            matrix=matrix,
        )

    measures = judged(found, asdict(record))
    row: dict[str, Any] = {
        "subject": subject,
        "seed": seed,
        "pathology": pathology or "n/a",
        **{f"true_{n}": a for n, a in zip(("pitch", "roll", "yaw"), angles_deg(true), strict=True)},
        "error_deg": degrees,
        "error_mm": mm,
        "success": int(degrees < LIMIT_DEG and mm < LIMIT_MM),
        "cpu_s": seconds,
        **measures,
    }
    if record.mi is not None:
        fixed, fixed_mask = two_mm(atlas, atlas_mask)
        moving, moving_mask = two_mm(brain, mask)
        metric = MutualInformation(fixed, moving, fixed_mask, FINE_MM)
        row["true_mi"], row["true_overlap"] = metric(true), overlap(fixed_mask, moving_mask, true)

        def at_pose(name: str, matrix: np.ndarray) -> dict[str, Any]:
            there = asdict(record) | {
                "mi": metric(matrix),
                "runner_up_mi": None,
                "mi_peak": peak(metric, matrix, centre),
                "overlap_dice": overlap(fixed_mask, moving_mask, matrix),
                **dict(zip(("pitch_deg", "roll_deg", "yaw_deg"), angles_deg(matrix), strict=True)),
            }
            values = judged(matrix, there)
            return {f"{name}_{key}": values[key] for key in POSE_MEASURES}

        def turned(matrix: np.ndarray, degrees: float, axis: np.ndarray) -> np.ndarray:
            wrong = matrix.copy()
            turn = Rotation.from_rotvec(np.radians(degrees) * axis / np.linalg.norm(axis))
            wrong[:3, :3] = matrix[:3, :3] @ turn.as_matrix()
            wrong[:3, 3] += (matrix @ np.append(centre, 1) - wrong @ np.append(centre, 1))[:3]
            return wrong

        axes = np.random.default_rng([seed, number]).standard_normal((2, 3, 3))
        for turn, axis in zip(TURNED_DEG, axes[0], strict=True):
            row |= at_pose(f"turned_{turn}", turned(found, turn, axis))
        # a search that starts far off and stays there: what a real failure looks like
        coarse = MutualInformation(fixed, moving, fixed_mask, COARSE_MM)
        shift = (found @ np.append(centre, 1))[:3] - centre
        for turn, axis in zip(TRAPPED_DEG, axes[1], strict=True):
            start = Rotation.from_matrix(turned(found, turn, axis)[:3, :3]).as_euler("xyz") * RADIUS_MM
            end = rigid(climb(coarse, np.append(start, np.zeros(3)), centre, shift, 0.5), centre, shift)
            row[f"trapped_{turn}_error_deg"] = distance(true, end, centre)[0]
            row |= at_pose(f"trapped_{turn}", end)
    return {k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()}


def run_study(
    out: Path, seed: int, subjects: int, settings: dict[str, Any], *, jobs: int = 2, keep: Path | None = None
):
    """Append a line for each subject that ``out`` does not hold yet; return all lines."""
    done = read_rows(out)
    todo = [n for n in range(1, subjects + 1) if f"sub-study{n:03d}" not in {r["subject"] for r in done}]
    for name in ("OMP_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"):
        os.environ[name] = "1"
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        for job in as_completed([pool.submit(study_subject, n, seed, settings, keep) for n in todo]):
            row = job.result()
            new = not out.exists()
            with out.open("a", encoding="utf-8", newline="") as handle:
                # a brain that was not registered has fewer measures; the header comes from one that was
                names = list(row) if new else next(csv.reader(out.open(encoding="utf-8", newline="")))
                writer = csv.DictWriter(handle, names, restval="", extrasaction="ignore", lineterminator="\n")
                if new:
                    writer.writeheader()
                writer.writerow(row)
            print(
                f"{row['subject']}: {row['error_deg']:.1f}°, {row['error_mm']:.1f} mm",
                flush=True,
            )
    return read_rows(out)


def read_rows(path: Path) -> list[dict[str, str]]:
    """Read a study's lines; none if there is no file."""
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle))


def verdict(row: dict[str, str], settings: dict[str, Any], forced: str | None = None) -> str:
    """Judge a line by the limits given; ``forced`` names a pose in place of the one found."""
    from normct.preprocess.quality_rules import CHECKS, judge

    names = {"mi", *(name for name, _ in CHECKS), *POSE_MEASURES}
    taken = {name: row[f"{forced}_{name}" if forced and name in POSE_MEASURES else name] for name in names}
    return judge({k: float(v) if v else None for k, v in taken.items()}, settings["quality"])[0]


def report(rows: list[dict[str, str]], settings: dict[str, Any]) -> dict[str, Any]:
    """Summarise: success rate, distribution, failures flagged, good ones flagged or failed."""
    good = [r for r in rows if r["success"] == "1"]
    bad = [r for r in rows if r["success"] != "1"]
    degrees, mm = (np.array([float(r[k]) for r in rows]) for k in ("error_deg", "error_mm"))
    quantiles = (50, 75, 90, 95, 100)
    verdicts = [verdict(r, settings) for r in good]
    summary: dict[str, Any] = {
        "subjects": len(rows),
        "success_rate": len(good) / len(rows),
        "error_deg": dict(zip(quantiles, np.percentile(degrees, quantiles).round(2).tolist(), strict=True)),
        "error_mm": dict(zip(quantiles, np.percentile(mm, quantiles).round(2).tolist(), strict=True)),
        "cpu_s_median": float(np.median([float(r["cpu_s"]) for r in rows])),
        "failures": len(bad),
        "failures_flagged": sum(verdict(r, settings) != "pass" for r in bad),
        "good_flagged": sum(v == "warn" for v in verdicts),
        "good_failed": sum(v == "fail" for v in verdicts),
    }
    for turn in TURNED_DEG:
        flagged = [verdict(r, settings, f"turned_{turn}") != "pass" for r in good]
        summary[f"turned_{turn}_flagged"] = f"{sum(flagged)} of {len(flagged)}"
    ends = [(r, f"trapped_{t}") for r in rows for t in TRAPPED_DEG if r.get(f"trapped_{t}_error_deg")]
    missed = [(r, name) for r, name in ends if float(r[f"{name}_error_deg"]) > LIMIT_DEG]
    summary["trapped_flagged"] = (
        f"{sum(verdict(r, settings, name) != 'pass' for r, name in missed)} of {len(missed)}"
    )
    for name in ("mi", "mi_lead", "mi_peak", "overlap_share"):
        values = [float(r[name]) for r in good if r[name]]
        wrong = [float(r[f"{n}_{name}"]) for r, n in missed if r[f"{n}_{name}"]]
        worst = f"{max(wrong):.3f}" if wrong else "n/a"
        lowest = f"{min(values):.3f}" if values else "n/a"
        summary[f"{name}: least of good, most of trapped"] = f"{lowest}, {worst}"
    return summary


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run")
    run.add_argument("csv", type=Path)
    run.add_argument("--seed", type=int, required=True)
    run.add_argument("--subjects", type=int, default=60)
    run.add_argument("--jobs", type=int, default=2)
    run.add_argument("--keep", type=Path, help="folder for the stripped brains")
    commands.add_parser("report").add_argument("csv", type=Path)
    args = parser.parse_args()
    settings = yaml.safe_load((ROOT / "config.yaml").read_text("utf-8"))["preprocess"]
    if args.command == "run":
        run_study(args.csv, args.seed, args.subjects, settings, jobs=args.jobs, keep=args.keep)
    for name, value in report(read_rows(args.csv), settings).items():
        print(f"{name:20s} {value}")


if __name__ == "__main__":
    main()
