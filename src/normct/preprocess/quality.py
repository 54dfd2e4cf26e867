"""Quality control of one scan: measures, a verdict (pass, warn, fail) and reasons a clinician understands.

``fail`` sets the scan aside, ``warn`` asks a person to look. A verdict from the participants table overrides
the measured one, and says so. No header text, path or date of the scan reaches the record or the picture.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from normct.common.cli import parser, run
from normct.common.files import read_json, write_json
from normct.common.geometry import read_transform
from normct.common.volumes import Volume, read_volume
from normct.preprocess.quality_rules import RANK, judge

END_MM = 25.0
"""Height of the vertex and of the base whose presence in the scan is measured."""


def noise_hu(brain: Volume, mask: NDArray[np.bool_]) -> float | None:
    """Noise in HU: robust spread of differences between voxels 2 mm apart in plane, deep in the brain.

    Parameters
    ----------
    brain : Volume
        Stripped brain, 1 mm.
    mask : ndarray of bool
        Brain mask. Voxels within 5 mm of its border are left out.
    """
    deep = ndimage.binary_erosion(mask[::2, ::2, ::2], iterations=3)  # 6 mm
    here, there = deep[:-1], deep[1:]
    values = brain.data[::2, ::2, ::2].astype(np.float32)
    pairs = here & there
    if pairs.sum() < 500:
        return None
    difference = (values[1:] - values[:-1])[pairs]
    return float(1.4826 * np.median(np.abs(difference - np.median(difference))) / np.sqrt(2))


def ends_in_view(brain: Volume, atlas_mask: Volume, matrix: NDArray[np.float64]) -> tuple[float, float]:
    """Share of the atlas brain's top and of its lowest :data:`END_MM` that lie inside the scan's box."""
    index = np.argwhere(atlas_mask.data[::3, ::3, ::3] > 0) * 3
    world = atlas_mask.affine @ np.c_[index, np.ones(len(index))].T
    voxel = (np.linalg.inv(brain.affine) @ matrix @ world)[:3]
    inside = ((voxel >= -0.5) & (voxel <= np.array(brain.data.shape)[:, None] - 0.5)).all(axis=0)
    z = world[2]
    return float(inside[z > z.max() - END_MM].mean()), float(inside[z < z.min() + END_MM].mean())


def overlap_share(dice: float | None, mask: Volume, atlas_mask: Volume) -> float | None:
    """Dice as a share of the most that two brains of these sizes can reach: a small brain is no misfit."""
    if dice is None:
        return None
    sizes = [float((v.data > 0).sum()) * v.voxel_ml for v in (mask, atlas_mask)]
    return min(1.0, dice * sum(sizes) / (2 * min(sizes)))


def measure(
    imported: dict[str, Any],
    stripped: dict[str, Any],
    registered: dict[str, Any],
    *,
    brain: Volume,
    mask: Volume,
    atlas_mask: Volume,
    matrix: NDArray[np.float64],
) -> dict[str, Any]:
    """Collect every measure; None for what could not be taken.

    Parameters
    ----------
    imported, stripped, registered : dict
        Contents of ``import.json``, ``skullstrip.json`` and ``register.json``.
    brain, mask : Volume
        Stripped brain and mask, the scan's own pose.
    atlas_mask : Volume
        Atlas brain mask.
    matrix : ndarray
        Shape (4, 4): atlas point to scan point.
    """
    inside = mask.data > 0
    zooms = [float(z) for z in imported.get("zooms_mm") or []]
    shape = imported.get("shape") or []
    coarse = int(np.argmax(zooms)) if zooms else None
    recorded = (imported.get("acquisition") or {}).get("slice_thickness_mm")
    angles = [registered.get(f"{name}_deg") for name in ("pitch", "roll", "yaw")]
    mi, runner_up = registered.get("mi"), registered.get("runner_up_mi")
    vertex, base = ends_in_view(brain, atlas_mask, matrix) if mi is not None else (None, None)
    return {
        "brain_volume_ml": stripped.get("brain_volume_ml"),
        "components": stripped.get("components"),
        "symmetry": stripped.get("symmetry"),
        "border_contact_cm2": stripped.get("border_contact_cm2"),
        "median_hu": float(np.median(brain.data[inside])) if inside.any() else None,
        "noise_hu": noise_hu(brain, inside) if inside.any() else None,
        "slice_thickness_mm": recorded if recorded is not None else (max(zooms) if zooms else None),
        "n_slices": int(shape[coarse]) if coarse is not None and len(shape) == 3 else None,
        "mi": mi,
        "runner_up_mi": runner_up,
        "mi_lead": None if mi is None or runner_up is None else (mi - runner_up) / mi,
        "mi_peak": registered.get("mi_peak"),
        "pitch_deg": angles[0],
        "roll_deg": angles[1],
        "yaw_deg": angles[2],
        "overlap_dice": registered.get("overlap_dice"),
        "overlap_share": overlap_share(registered.get("overlap_dice"), mask, atlas_mask),
        "vertex_in_view": vertex,
        "base_in_view": base,
    }


def assess(
    subject: str,
    measures: dict[str, Any],
    settings: dict[str, Any],
    set_aside: str | None = None,
    override: tuple[str, str] | None = None,
) -> dict[str, Any]:
    """Return the content of ``quality.json``.

    Parameters
    ----------
    subject : str
        Participant ID.
    measures : dict
        From :func:`measure`.
    settings : dict
        ``preprocess.quality`` of the configuration.
    set_aside : str, optional
        Reason for which an earlier step found nothing to judge; the verdict is fail.
    override : tuple of str, optional
        Verdict and reason from the participants table.
    """
    verdict, reasons = ("fail", [set_aside]) if set_aside else judge(measures, settings)
    record: dict[str, Any] = {"participant_id": subject, "verdict": verdict, "reasons": reasons}
    if override is not None and override[0] != verdict:
        wanted, why = override
        record["automatic_verdict"] = verdict
        if RANK[wanted] > RANK["fail"] and measures.get("mi") is None:
            reasons.append(
                f"The participants table asks for '{wanted}' ({why}), but there is no brain to go on with."
            )
        else:
            record["verdict"] = wanted
            reasons.insert(0, f"Set to '{wanted}' by hand: {why} (measured: {verdict}).")
    record["measures"] = {k: round(v, 4) if isinstance(v, float) else v for k, v in measures.items()}
    return record


def main(argv: list[str] | None = None) -> None:
    """Command line; see ``--help``."""
    cli = parser(__doc__, "normct.preprocess.quality")
    cli.add_argument("out_json")
    cli.add_argument("out_png")
    cli.add_argument("--subject", required=True)
    for name in ("import-json", "skullstrip-json", "register-json"):
        cli.add_argument(f"--{name}", required=True)
    for name in ("brain", "mask", "transform", "atlas", "atlas-mask"):
        cli.add_argument(f"--{name}", required=True)
    cli.add_argument("--settings", required=True, type=json.loads, help="preprocess.quality as JSON")
    cli.add_argument("--override-verdict", choices=sorted(RANK), help="verdict of the participants table")
    cli.add_argument("--override-reason", default="no reason given")
    args = cli.parse_args(argv)
    imported, stripped = read_json(args.import_json), read_json(args.skullstrip_json)
    brain, mask = read_volume(args.brain), read_volume(args.mask, dtype=None)
    atlas_mask, matrix = read_volume(args.atlas_mask, dtype=None), read_transform(args.transform)
    registered = read_json(args.register_json)
    measures = measure(
        imported, stripped, registered, brain=brain, mask=mask, atlas_mask=atlas_mask, matrix=matrix
    )
    set_aside = stripped.get("reason")
    if imported.get("verdict") == "set_aside":
        set_aside = imported.get("reason") or "Set aside when it was read."
    override = (args.override_verdict, args.override_reason) if args.override_verdict else None
    record = assess(args.subject, measures, args.settings, set_aside, override)

    from normct.preprocess.quality_picture import draw

    draw(args.out_png, record, brain=brain, mask=mask, atlas_mask=atlas_mask, matrix=matrix)
    write_json(Path(args.out_json), record)


if __name__ == "__main__":
    run(main)
