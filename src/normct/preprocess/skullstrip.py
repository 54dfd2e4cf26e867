"""Skull stripping: the brain in HU, its mask, and what quality control wants to know of the mask.

The engine is the one named in the configuration, never another picked silently. Data in which no brain is
found give empty files and a reason; a missing program, a time-out or too little memory fails the job.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from normct.common import cli
from normct.common.files import write_json
from normct.common.volumes import Volume, box_of, read_volume, write_volume
from normct.preprocess.skullstrip_engines import EngineError, engine_faults

OUTSIDE_HU = -1024
ABSURD_ML = (
    100.0,
    3000.0,
)  # outside: no brain of any age or any state; the plausible range is quality's to judge
TRUNCATED_CM2 = 8.0  # above the spinal canal, by which a brain may leave the field of view
log = logging.getLogger(__name__)


def brain_mask(head: Volume, settings: dict[str, Any]) -> NDArray[np.bool_]:
    """Run the configured engine.

    Parameters
    ----------
    head : Volume
        HU, isotropic, axes nearest to RAS+.
    settings : dict
        ``preprocess.skullstrip`` of the configuration.
    """
    engine, hu_range = settings["engine"], tuple(settings["hu_range"])
    faults = engine_faults(engine)
    if faults:
        raise EngineError("\n".join(faults))
    if engine == "morphology":
        from normct.preprocess import engine_morphology

        return engine_morphology.extract(head, hu_range)
    from normct.preprocess import engine_bet

    return engine_bet.extract(
        head,
        engine,
        hu_range=hu_range,
        smooth_mm=settings["smooth_mm"],
        fraction=settings["fractional_intensity"],
        timeout_s=settings["timeout_s"],
    )


def symmetry(mask: NDArray[np.bool_]) -> float:
    """Dice of the mask and its mirror image across the plane through its centroid, along axis 0."""
    count = mask.sum(axis=(1, 2), dtype=float)
    centre = float((count * np.arange(len(count))).sum() / count.sum())
    twice = round(2 * centre)  # index i has its mirror at twice - i
    index = twice - np.arange(len(count))
    valid = (index >= 0) & (index < len(count))
    shared = (mask[valid] & mask[index[valid]]).sum()
    return float(shared / mask.sum())


def border_contact_cm2(head: Volume, mask: NDArray[np.bool_]) -> float:
    """Area of brain that lies against the border of the field of view, in cm².

    The border is that of the array and that of the padding a tilted gantry leaves (-1024 HU exactly:
    no tissue, and no air in a scan with noise).
    """
    box = box_of(mask)
    face = 0
    for axis, size in enumerate(mask.shape):
        face += int(np.take(mask, 0, axis).sum()) + int(np.take(mask, size - 1, axis).sum())
    wide = tuple(slice(max(0, s.start - 4), s.stop + 4) for s in box)
    padding = head.data[wide] <= OUTSIDE_HU
    if padding.any():
        # linear interpolation and the rounded mask leave up to three voxels between brain and padding
        near = ndimage.binary_dilation(padding, iterations=3) & mask[wide]
        face += int(near.sum()) // 3
    return face * float(head.zooms.mean()) ** 2 / 100.0


def measure(head: Volume, mask: NDArray[np.bool_]) -> dict[str, Any]:
    """Return volume, components of at least 1 mL, symmetry, and contact with the field of view's border."""
    if not mask.any():
        return {
            "brain_volume_ml": 0.0, "components": 0, "symmetry": None,
            "border_contact_cm2": None, "touches_fov_border": None,
        }  # fmt: skip
    labels, _ = ndimage.label(mask[box_of(mask)])
    sizes = np.bincount(labels.ravel())[1:] * head.voxel_ml
    contact = border_contact_cm2(head, mask)
    return {
        "brain_volume_ml": round(float(sizes.sum()), 1),
        "components": int((sizes >= 1.0).sum()),
        "symmetry": round(symmetry(mask), 4),
        "border_contact_cm2": round(contact, 2),
        "touches_fov_border": contact >= TRUNCATED_CM2,
    }


def strip(head: Volume, settings: dict[str, Any]) -> tuple[NDArray[np.bool_], dict[str, Any]]:
    """Return the brain mask and its record.

    Returns
    -------
    mask : ndarray of bool
        All False when no brain was found.
    record : dict
        ``engine``, ``reason`` (a sentence when no brain was found, else None), and :func:`measure`'s.
    """
    reason = None
    if min(head.data.shape) < 8:
        mask = np.zeros(head.data.shape, bool)
        reason = "No head in the scan: it is empty, or was set aside at import."
    else:
        mask = brain_mask(head, settings)
        volume = float(mask.sum()) * head.voxel_ml
        if volume == 0:
            reason = "Skull stripping found no brain."
        elif not ABSURD_ML[0] <= volume <= ABSURD_ML[1]:
            reason = f"Skull stripping found {volume:.0f} mL, which is no brain."
    record = {"engine": settings["engine"], "reason": reason, **measure(head, mask)}
    return (np.zeros_like(mask) if reason else mask), record


def main(argv: list[str] | None = None) -> None:
    """Strip one head."""
    parser = cli.parser(__doc__, "normct.preprocess.skullstrip")
    parser.add_argument("head", type=Path, help="head_1mm.nii")
    parser.add_argument("brain", type=Path, help="brain.nii.gz to write: int16 HU, -1024 outside the brain")
    parser.add_argument("mask", type=Path, help="brain_mask.nii.gz to write: uint8 0/1")
    parser.add_argument("record", type=Path, help="skullstrip.json to write")
    parser.add_argument("--settings", type=json.loads, required=True, help="preprocess.skullstrip as JSON")
    args = parser.parse_args(argv)
    stored = read_volume(args.head, None)
    # C order: what meets a mask in a file's order is walked through twice, against the grain once
    head = Volume(np.ascontiguousarray(stored.data), stored.affine)
    mask, record = strip(head, args.settings)
    log.info(
        "%s: %.0f mL; %s", record["engine"], record["brain_volume_ml"], record["reason"] or "brain found"
    )
    brain = np.where(mask, head.data, OUTSIDE_HU).astype(np.int16)
    write_volume(args.brain, Volume(brain, head.affine))
    write_volume(args.mask, Volume(mask.astype(np.uint8), head.affine))
    write_json(args.record, record)


if __name__ == "__main__":
    cli.run(main)
