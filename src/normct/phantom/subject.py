"""Make one synthetic head CT: the scan, its lesion mask, and the truth behind both."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from normct.common.cli import parser, run
from normct.common.files import write_json
from normct.common.geometry import angles_deg
from normct.common.volumes import Volume, write_volume
from normct.phantom.brain import (
    draw_involution,
    embed,
    normal_calcifications,
    paint_brain,
    shape_brain,
    ventricle_shift,
)
from normct.phantom.displacing import atrophied, atrophy_mask, draw_collection
from normct.phantom.fields import Array, upsample
from normct.phantom.head import draw_build, paint_head
from normct.phantom.lesions import PAINTERS, Scene
from normct.phantom.plan import BLEEDS, MISSING, demographics
from normct.phantom.scanner import SCANNERS, draw_acquisition, scan
from normct.phantom.template import SHAPE, Template, read_template, template
from normct.phantom.warp import Warp, draw_warp, lattice

PATHOLOGIES = ("aneurysm", "atrophy", "bleed", "cavernoma", "icb", "ischemia", "tumor")


@dataclass(frozen=True)
class Phantom:
    """A synthetic scan.

    Attributes
    ----------
    ct, lesion : Volume
        int16 HU and uint8 0/1, on the scan's own grid; the lesion is all 0 in the healthy.
    truth : dict
        What ``truth.json`` holds; ``mni_to_native`` is the (4, 4) true pose, RAS+ mm.
    """

    ct: Volume
    lesion: Volume
    truth: dict[str, Any]


def _generator(seed: int, participant_id: str, purpose: str) -> np.random.Generator:
    """Return a generator of its own for each purpose, so that a lesion changes neither anatomy nor noise."""
    digest = hashlib.sha256(f"{seed}/{participant_id}/{purpose}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "big"))


@dataclass
class Head:
    """A subject's head on the 1 mm head grid, before it is scanned.

    Attributes
    ----------
    scene : Scene
        Density, tissue and lesion.
    skin : ndarray
        2 mm field: mm to the skin, negative inside.
    warp : Warp
        Pose, size and shape.
    anatomy : dict
        What ``truth.json`` says of the anatomy.
    """

    scene: Scene
    skin: Array
    warp: Warp
    anatomy: dict[str, Any]


def build_head(
    participant_id: str, kind: str, settings: Mapping[str, Any], base: Template | None = None
) -> Head:
    """Build a head with a lesion.

    Parameters
    ----------
    participant_id : str
    kind : str
        A pathology, a bleed's subtype in place of "bleed", or "" for a healthy head.
    settings : mapping
        As in :func:`make_subject`, with ``seed``.
    base : Template, optional
        What the head is made from, where it need not be built anew.
    """
    person = demographics(participant_id, dict(settings))
    age = float(person["age"])
    anatomy, lesion_rng, calcium, posing = (
        _generator(settings["seed"], participant_id, purpose)
        for purpose in ("anatomy", "lesion", "calcium", "pose")
    )
    base = template() if base is None else base
    build = draw_build(anatomy, age)
    normal = draw_involution(anatomy, age)
    warp = draw_warp(anatomy, posing, person["sex"], settings["pose"])
    involution = atrophied(normal, lesion_rng) if kind == "atrophy" else normal
    length = float(np.prod(warp.scale)) ** (1 / 3)
    collection = draw_collection(kind, lesion_rng, length) if kind in {"subdural", "epidural"} else None
    shift = ventricle_shift(base, involution)
    if collection is not None:
        shift += collection.shift(base, build.csf_gap)
    brain = shape_brain(base, involution, shift)
    hu, hull, skin = paint_head(base, build, anatomy)
    paint_brain(hu, base, brain, hull, anatomy)
    calcified = normal_calcifications(hu, calcium, age, embed(brain.mask, base))
    scene = Scene(base, hu, hull, build.csf_gap - 1.0, brain, float(np.prod(warp.scale)), lesion_rng)
    if collection is not None:
        collection.paint(scene, upsample(collection.thickness, 2.0, SHAPE))
    elif kind == "atrophy":
        scene.mask = embed(atrophy_mask(base, normal, brain), base)
        scene.parameters = {
            "ventricle_mm": round(involution.ventricle_mm - normal.ventricle_mm, 2),
            "sulcus_drop": round(normal.sulcus - involution.sulcus, 3),
        }
    elif kind:
        PAINTERS[kind](scene)
    facts = {
        "scale": [round(float(v), 4) for v in warp.scale],
        "brain_ml": round(float(brain.mask.sum() * np.prod(warp.scale) / 1000), 1),
        "csf_gap_mm": round(build.csf_gap, 2),
        "skull_mm": round(build.skull, 2),
        "ventricle_mm": round(involution.ventricle_mm, 2),
        "sulcus": round(involution.sulcus, 3),
        "calcifications_mm": calcified,
    }
    return Head(scene, skin, warp, facts)


def make_subject(
    participant_id: str,
    pathology: str | None,
    settings: Mapping[str, Any],
    seed: int | None = None,
    subtype: str | None = None,
    base: Template | None = None,
) -> Phantom:
    """Make a synthetic head CT; about 5 CPU seconds and 1.2 GB.

    Parameters
    ----------
    participant_id : str
        Together with the seed it decides everything; the same ID and seed give the same bytes.
    pathology : str or None
        One of the thesis's seven; None or "n/a" for a healthy head.
    settings : mapping
        ``age_years``, ``pose``, ``slice_thickness_mm``, ``noise_hu`` of the ``phantom:`` section.
    seed : int, optional
        Instead of ``settings["seed"]``.
    subtype : str, optional
        Of a bleed: subdural (default), epidural or subarachnoid.
    base : Template, optional
        What heads are made from, where it need not be built anew.

    Raises
    ------
    ValueError
        Unknown pathology or subtype.
    """
    pathology = MISSING if pathology is None else pathology
    if pathology not in (MISSING, *PATHOLOGIES):
        raise ValueError(f"pathology '{pathology}' is not one of {', '.join(PATHOLOGIES)}")
    kind = "" if pathology == MISSING else pathology
    if pathology == "bleed":
        kind = BLEEDS[0] if subtype in (None, MISSING) else str(subtype)
        if kind not in BLEEDS:
            raise ValueError(f"subtype '{kind}' is not one of {', '.join(BLEEDS)}")
    settings = {**settings, "seed": int(settings["seed"] if seed is None else seed)}
    person = demographics(participant_id, settings)
    head = build_head(participant_id, kind, settings, base)
    taking, grain = (_generator(settings["seed"], participant_id, p) for p in ("acquisition", "noise"))
    place = lattice(head.warp, head.scene.base, head.skin)
    thickness, noise_hu = settings["slice_thickness_mm"], settings["noise_hu"]
    taken = draw_acquisition(taking, (thickness[0], thickness[1]), (noise_hu[0], noise_hu[1]))
    lesion = head.scene.mask if kind else None
    ct, mask = scan(head.scene.hu, lesion, place, SCANNERS[person["scanner"]], taken=taken, rng=grain)
    pose = place.rigid.copy()
    pose[2, 3] += taken.table
    pitch, roll, yaw = angles_deg(pose)
    truth = {
        "synthetic": True,
        "participant_id": participant_id,
        "pathology": pathology,
        **person,
        "age": int(person["age"]),
        "pose": {
            "mni_to_native": [[round(float(v), 6) for v in row] for row in pose],
            "pitch_deg": round(pitch, 3),
            "roll_deg": round(roll, 3),
            "yaw_deg": round(yaw, 3),
            "residual_mm": round(place.residual_mm, 3),
        },
        "acquisition": {"slice_thickness_mm": round(taken.thickness, 3), "noise_hu": round(taken.noise, 3)},
        "anatomy": head.anatomy,
        "lesion": {
            "kind": kind or MISSING,
            "volume_ml": round(float(mask.data.sum()) * mask.voxel_ml, 4),
            **head.scene.parameters,
        },
    }
    return Phantom(ct, mask, truth)


def main(argv: list[str] | None = None) -> None:
    """Parse the command line and write the subject's three files."""
    cli = parser(__doc__, "normct.phantom.subject")
    cli.add_argument("participant_id")
    cli.add_argument("--pathology", default=MISSING, help="n/a for a healthy head")
    cli.add_argument("--subtype", default=MISSING, help="of a bleed: subdural, epidural, subarachnoid")
    cli.add_argument("--settings", required=True, type=json.loads, help="JSON of the phantom: section")
    cli.add_argument("--template", type=Path, help="template.npz; without it, it is built anew")
    for name in ("ct", "lesion", "truth"):
        cli.add_argument(f"--{name}", required=True, type=Path, help=f"{name} to write")
    args = cli.parse_args(argv)
    base = read_template(args.template) if args.template else None
    phantom = make_subject(
        args.participant_id, args.pathology, args.settings, subtype=args.subtype, base=base
    )
    write_volume(args.ct, phantom.ct)
    write_volume(args.lesion, phantom.lesion)
    write_json(args.truth, phantom.truth)


if __name__ == "__main__":
    run(main)
