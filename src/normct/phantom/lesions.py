"""Lesions painted into a healthy head, drawn within clinical ranges (docs/phantom.md gives the sources)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from normct.phantom.brain import Brain
from normct.phantom.fields import Array, noise
from normct.phantom.template import ORIGIN, SHAPE, Template, coordinates

Mask = NDArray[np.bool_]

RANGES: dict[str, dict[str, tuple[float, float]]] = {
    "icb": {"volume_ml": (1, 60), "contrast_hu": (20, 50), "oedema_mm": (3, 9)},
    "ischemia": {"volume_ml": (2, 150), "contrast_hu": (-12, -2)},
    "tumor": {"volume_ml": (2, 60), "contrast_hu": (-8, 18), "oedema_mm": (5, 18)},
    "cavernoma": {"volume_ml": (0.1, 2), "contrast_hu": (5, 40)},
    "aneurysm": {"diameter_mm": (3, 15), "density_hu": (45, 75)},
    "subdural": {"thickness_mm": (3, 12), "density_hu": (25, 75)},
    "epidural": {"thickness_mm": (8, 25), "density_hu": (55, 80)},
    "subarachnoid": {"volume_ml": (5, 40), "density_hu": (40, 65)},
    "atrophy": {"ventricle_mm": (2.5, 5.5), "sulcus_drop": (0.12, 0.22)},
}
"""What is drawn for each pathology, evenly, or evenly in the logarithm for volumes and diameters."""


# what the smaller territories hold; the middle cerebral artery's holds the whole range
LARGEST_INFARCT_ML = {"mca": 150.0, "pca": 70.0, "aca": 60.0, "pica": 35.0}


@dataclass
class Scene:
    """A healthy head that a lesion is put into; a lesion changes ``hu`` and sets ``mask``.

    Attributes
    ----------
    hu : ndarray
        Head grid, HU.
    hull : ndarray
        Head grid, mm to the brain's hull, positive outside.
    inner : float
        Value of ``hull`` at the skull's inner table.
    brain : Brain
        Tissue on the brain's box.
    scale : float
        Volume of the subject's head over the template's.
    """

    base: Template
    hu: Array
    hull: Array
    inner: float
    brain: Brain
    scale: float
    rng: np.random.Generator
    mask: Mask = field(default_factory=lambda: np.zeros(SHAPE, bool))
    parameters: dict[str, Any] = field(default_factory=dict)


def draw(rng: np.random.Generator, kind: str, name: str) -> float:
    """Draw a parameter from :data:`RANGES`; sizes evenly in the logarithm, as small ones are common."""
    low, high = RANGES[kind][name]
    if name in {"volume_ml", "diameter_mm"}:
        # resampling to the scan's slices moves a volume by some per cent: stay that far within the range
        return float(np.exp(rng.uniform(np.log(low * 1.15), np.log(high * 0.87))))
    return float(rng.uniform(low, high))


def _window(scene: Scene, centre: NDArray, reach: float) -> tuple[tuple[slice, ...], tuple[Array, ...]]:
    start = np.clip(np.floor(centre - reach - ORIGIN), 0, None).astype(int)
    stop = np.clip(np.ceil(centre + reach - ORIGIN) + 1, 0, SHAPE).astype(int)
    at = tuple(slice(int(a), int(b)) for a, b in zip(start, stop, strict=True))
    grids = np.ogrid[at]
    return at, tuple((g + o - c).astype(np.float32) for g, o, c in zip(grids, ORIGIN, centre, strict=True))


def _whole(scene: Scene, part: Mask) -> Mask:
    result = np.zeros(SHAPE, bool)
    result[scene.base.box] = part
    return result


def _smallest(field_values: Array, allowed: Mask, count: int) -> Mask:
    """Return the ``count`` allowed voxels of smallest value, holes filled, largest piece only."""
    values = field_values[allowed]
    if len(values) == 0:
        return np.zeros(allowed.shape, bool)
    level = np.partition(values, min(count, len(values)) - 1)[min(count, len(values)) - 1]
    labels, number = ndimage.label(allowed & (field_values <= level))
    if number > 1:
        sizes = np.bincount(labels.ravel())
        sizes[0] = 0
        return labels == sizes.argmax()
    return labels > 0


def _blob(scene: Scene, centre: NDArray, volume_ml: float, rough: float, allowed: Mask) -> Mask:
    """Return an irregular ellipsoid of the volume asked for, on the head grid, within ``allowed``."""
    rng = scene.rng
    radius = (volume_ml / scene.scale * 1000 * 3 / (4 * np.pi)) ** (1 / 3)
    at, grids = _window(scene, centre, 2.2 * radius + 4)
    axes = np.exp(rng.normal(0, 0.16, 3))
    turn = np.linalg.qr(rng.standard_normal((3, 3)))[0]
    distance = np.zeros(tuple(s.stop - s.start for s in at), np.float32)
    for row, axis in zip(turn, axes / np.prod(axes) ** (1 / 3), strict=True):
        distance += (sum(g * r for g, r in zip(grids, row, strict=True)) / axis) ** 2
    distance = np.sqrt(distance) / radius
    distance += rough * noise(rng, distance.shape, max(radius * 0.7, 1.5))
    result = np.zeros(SHAPE, bool)
    result[at] = _smallest(distance, allowed[at], max(round(volume_ml / scene.scale * 1000), 1))
    return result


def _soften(mask: Mask, sigma: float) -> Array:
    """Return a mask with soft edges, computed near it only."""
    found = ndimage.find_objects(mask.astype(np.uint8))
    soft = np.zeros(mask.shape, np.float32)
    if found:
        pad = int(4 * sigma) + 2
        at = tuple(slice(max(s.start - pad, 0), s.stop + pad) for s in found[0])
        soft[at] = ndimage.gaussian_filter(mask[at].astype(np.float32), sigma)
    return soft


def _place(scene: Scene, allowed: Mask, depth_mm: float) -> NDArray:
    """Draw a point in allowed tissue at least ``depth_mm`` under the brain's hull."""
    candidates = np.flatnonzero(allowed & (scene.hull < -depth_mm))
    index = np.unravel_index(int(scene.rng.choice(candidates)), SHAPE)
    return np.array(index) + ORIGIN


def _oedema(scene: Scene, tissue: Mask, width: float, depth: float) -> None:
    """Darken white matter around the lesion; not part of the mask, which marks the lesion alone."""
    found = ndimage.find_objects(scene.mask.astype(np.uint8))[0]
    at = tuple(slice(max(s.start - 25, 0), s.stop + 25) for s in found)
    distance = ndimage.distance_transform_edt(~scene.mask[at])
    white = np.zeros(SHAPE, np.float32)
    white[scene.base.box] = scene.brain.white
    reach = width * (1 + 0.35 * noise(scene.rng, distance.shape, 9))
    rim = np.clip((reach - distance) / 3, 0, 1) * (0.25 + 0.75 * white[at]) * (tissue[at] & ~scene.mask[at])
    scene.hu[at] -= (depth * rim).astype(np.float32)
    scene.parameters["oedema_mm"] = round(width, 2)


def _icb(scene: Scene) -> None:
    rng, tissue = scene.rng, _whole(scene, scene.brain.tissue)
    volume, contrast = draw(rng, "icb", "volume_ml"), draw(rng, "icb", "contrast_hu")
    side = rng.choice([-1, 1])
    site = str(rng.choice(["putamen", "thalamus", "lobar", "cerebellum"], p=[0.4, 0.2, 0.3, 0.1]))
    fixed = {"putamen": (28, 0, 3), "thalamus": (13, -18, 9), "cerebellum": (22, -62, -36)}
    centre = np.array(fixed[site], float) * (side, 1, 1) if site in fixed else _place(scene, tissue, 14)
    scene.mask = _blob(scene, centre, volume, 0.12, tissue)
    _oedema(scene, tissue, draw(rng, "icb", "oedema_mm"), rng.uniform(6, 11))
    mean = float(scene.hu[scene.mask].mean())
    soft = _soften(scene.mask, 0.6)
    target = mean + contrast + 2.0 * noise(rng, SHAPE, 5)
    change = np.where(tissue | scene.mask, soft * (target - scene.hu), 0)
    change *= contrast / change[scene.mask].mean()  # soft edges must not take the mean below its range
    scene.hu += change
    scene.parameters |= {"site": site, "contrast_hu": round(contrast, 2)}


def _ischemia(scene: Scene) -> None:
    """Darken a wedge of one arterial territory, base at the cortex; grey matter loses most."""
    rng, tissue = scene.rng, _whole(scene, scene.brain.tissue)
    volume, contrast = draw(rng, "ischemia", "volume_ml"), draw(rng, "ischemia", "contrast_hu")
    side = rng.choice([-1, 1])
    territories = {  # apex and axis of the wedge, MNI mm
        "mca": ((24, 0, 6), (1, rng.uniform(-0.7, 0.5), rng.uniform(-0.1, 0.8))),
        "pca": ((18, -45, 2), (0.25, -1, rng.uniform(-0.1, 0.3))),
        "aca": ((6, 20, 20), (0.12, rng.uniform(0.1, 0.8), 1)),
        "pica": ((16, -50, -35), (0.5, -1, -0.3)),
    }
    name = str(rng.choice(list(territories), p=[0.6, 0.2, 0.1, 0.1]))
    volume = min(volume, LARGEST_INFARCT_ML[name])
    apex, axis = (np.array(v, float) * (side, 1, 1) for v in territories[name])
    axis /= np.linalg.norm(axis)
    at, grids = _window(scene, apex, 95)
    along = sum(g * a for g, a in zip(grids, axis, strict=True))
    square = sum(g**2 for g in grids)
    angle = np.sqrt(np.maximum(square - along**2, 0)) / np.maximum(along + 6, 0.5)
    spread = angle + 0.10 * noise(rng, angle.shape, 9) + 0.004 * np.maximum(28 - along, 0)
    hemisphere = coordinates()[0] * side > 2
    region = tissue & hemisphere
    # the brainstem has arteries of its own, and the tentorium parts the territories
    region &= (coordinates()[2] < -20) if name == "pica" else (coordinates()[2] > -32)
    scene.mask[at] = _smallest(
        spread.astype(np.float32), region[at] & (along > -4), round(volume / scene.scale * 1000)
    )
    soft = _soften(scene.mask, 1.2) * tissue
    grey = np.zeros(SHAPE, np.float32)
    grey[scene.base.box] = 1 - scene.brain.white
    weight = soft * (0.75 + 0.5 * grey)
    weight /= float(weight[scene.mask].mean())  # the mean contrast is the one drawn, soft edges included
    scene.hu += contrast * weight
    scene.parameters |= {"territory": name, "contrast_hu": round(contrast, 2)}


def _tumor(scene: Scene) -> None:
    """Add a mass: solid rim iso- to hyperdense, often a hypodense necrotic core, oedema around it."""
    rng, tissue = scene.rng, _whole(scene, scene.brain.tissue)
    volume, contrast = draw(rng, "tumor", "volume_ml"), draw(rng, "tumor", "contrast_hu")
    centre = _place(scene, tissue & (coordinates()[2] > -45), 12)
    scene.mask = _blob(scene, centre, volume, 0.16, tissue)
    _oedema(scene, tissue, draw(rng, "tumor", "oedema_mm"), rng.uniform(7, 12))
    at = tuple(
        slice(max(s.start - 4, 0), s.stop + 4) for s in ndimage.find_objects(scene.mask.astype(np.uint8))[0]
    )
    mask = scene.mask[at]
    depth = ndimage.distance_transform_edt(mask)
    necrotic = bool(rng.random() < 0.6)
    core = (depth > rng.uniform(0.35, 0.6) * depth.max()) & mask if necrotic else np.zeros_like(mask)
    part, soft = scene.hu[at], ndimage.gaussian_filter(mask.astype(np.float32), 0.8)
    target = part[mask].mean() + contrast + 3.5 * noise(rng, mask.shape, 3.5)
    target = np.where(core, rng.uniform(14, 22), target)
    allowed = tissue[at]
    part[allowed] += (soft * (target - part))[allowed]
    if rng.random() < 0.2:
        specks = mask & (noise(rng, mask.shape, 2) > 2.0)
        part[specks] = rng.uniform(90, 160)
    scene.parameters |= {"contrast_hu": round(contrast, 2), "necrotic_core": necrotic}


def _cavernoma(scene: Scene) -> None:
    """Add a small popcorn-like lesion, iso- to hyperdense, often with calcified specks; no oedema."""
    rng, tissue = scene.rng, _whole(scene, scene.brain.tissue)
    volume, contrast = draw(rng, "cavernoma", "volume_ml"), draw(rng, "cavernoma", "contrast_hu")
    scene.mask = _blob(scene, _place(scene, tissue, 8), volume, 0.2, tissue)
    at = tuple(
        slice(max(s.start - 3, 0), s.stop + 3) for s in ndimage.find_objects(scene.mask.astype(np.uint8))[0]
    )
    mask = scene.mask[at]
    lobules = np.exp(0.45 * noise(rng, mask.shape, 1.7))
    calcified = bool(rng.random() < 0.5)
    if calcified:
        lobules += 1.2 * (noise(rng, mask.shape, 1.5) > 1.2)
    change = ndimage.gaussian_filter(mask.astype(np.float32), 0.5) * lobules * tissue[at]
    # the mean contrast is the one drawn, specks and soft edges included
    scene.hu[at] += (change * (contrast / change[mask].mean())).astype(np.float32)
    scene.parameters |= {"contrast_hu": round(contrast, 2), "calcified": calcified}


ANEURYSM_SITES = {
    "anterior_communicating": (0, 6, -14),
    "carotid_terminus": (13, 1, -17),
    "middle_cerebral": (36, 2, -19),
    "posterior_communicating": (12, -9, -19),
    "basilar_tip": (0, -14, -19),
}


def _aneurysm(scene: Scene) -> None:
    rng = scene.rng
    diameter, density = draw(rng, "aneurysm", "diameter_mm"), draw(rng, "aneurysm", "density_hu")
    site = str(rng.choice(list(ANEURYSM_SITES)))
    centre = np.array(ANEURYSM_SITES[site], float) * (rng.choice([-1, 1]), 1, 1) + rng.normal(0, 1, 3)
    radius = diameter / 2 / scene.scale ** (1 / 3)
    at, grids = _window(scene, centre, radius + 3)
    ball = np.sqrt(sum(g**2 for g in grids)) < max(radius, 0.9)
    ball &= scene.hu[at] < 200
    scene.mask[at] = ball
    soft = ndimage.gaussian_filter(ball.astype(np.float32), 0.4)
    free = scene.hu[at] < 200
    scene.hu[at] += np.where(free, soft * (density - scene.hu[at]), 0)
    calcified = bool(diameter > 7 and rng.random() < 0.4)
    if calcified:
        shell = ball & ~ndimage.binary_erosion(ball) & (noise(rng, ball.shape, 4) > 0.5)
        scene.hu[at][shell] = rng.uniform(120, 250)
    scene.parameters |= {
        "site": site,
        "diameter_mm": round(diameter, 2),
        "density_hu": round(density, 1),
        "calcified": calcified,
    }


def _subarachnoid(scene: Scene) -> None:
    """Fill cisterns, Sylvian fissures and sulci around a source, not the ventricles."""
    rng = scene.rng
    volume, density = draw(rng, "subarachnoid", "volume_ml"), draw(rng, "subarachnoid", "density_hu")
    x, y, z = coordinates()
    side = rng.uniform(-30, 30)
    fluid = (scene.hu > 2) & (scene.hu < 22) & (scene.hull < scene.inner - 1.2) & (scene.hull > -30)
    ventricles = np.repeat(np.repeat(np.repeat(scene.base.ventricle < 6, 2, 0), 2, 1), 2, 2)
    fluid &= ~ventricles[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    fluid &= (z > -50) & (z < 45)
    spread = np.sqrt(((x - side) / 1.5) ** 2 + ((y - 5) / 1.2) ** 2 + ((z + 17) * 1.2) ** 2) + 5 * noise(
        rng, SHAPE, 14
    )
    count = round(volume / scene.scale * 1000)
    values = spread[fluid]
    level = np.partition(values, min(count, len(values)) - 1)[min(count, len(values)) - 1]
    scene.mask = fluid & (spread <= level)
    soft = np.clip(_soften(scene.mask, 0.5) * 1.3, 0, 1)
    room = (scene.hu > -10) & (scene.hu < 60)
    scene.hu[:] = np.where(room, scene.hu + soft * np.maximum(density - scene.hu, 0), scene.hu)
    scene.parameters |= {"density_hu": round(density, 1)}


PAINTERS: dict[str, Callable[[Scene], None]] = {
    "icb": _icb,
    "ischemia": _ischemia,
    "tumor": _tumor,
    "cavernoma": _cavernoma,
    "aneurysm": _aneurysm,
    "subarachnoid": _subarachnoid,
}
