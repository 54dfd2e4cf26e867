"""Skull, scalp, face and neck around the brain, in HU on the 1 mm head grid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from normct.phantom.fields import Array, noise, smoothstep
from normct.phantom.template import COARSE, ORIGIN, SHAPE, Template, coordinates, fine

AIR, FAT, MUSCLE, SKIN, CSF, DURA = -1000.0, -85.0, 52.0, 40.0, 8.0, 48.0


@dataclass(frozen=True)
class Build:
    """How a head is built, all in mm.

    Attributes
    ----------
    csf_gap : float
        CSF between the brain's hull and the skull.
    skull, scalp : float
        Mean thickness of the vault and of what covers it.
    fat : float
        Subcutaneous fat of the face and neck.
    face_length, neck_width : float
        Scale factors.
    sinus : float
        Scale factor of the air sinuses.
    """

    csf_gap: float
    skull: float
    scalp: float
    fat: float
    face_length: float
    neck_width: float
    sinus: float


def draw_build(rng: np.random.Generator, age: float) -> Build:
    """Draw a build; the CSF gap widens with age."""
    return Build(
        csf_gap=float(np.clip(1.2 + 0.025 * (age - 20) + rng.normal(0, 0.3), 0.8, 4.0)),
        skull=float(rng.uniform(5.0, 8.0)),
        scalp=float(rng.uniform(7.0, 11.0)),
        fat=float(rng.uniform(2.5, 7.0)),
        face_length=float(rng.uniform(0.93, 1.08)),
        neck_width=float(rng.uniform(0.88, 1.12)),
        sinus=float(rng.uniform(0.75, 1.2)),
    )


class Canvas:
    """Paints shapes given in MNI mm onto the head grid, each inside its own bounding box."""

    def __init__(self, hu: Array) -> None:
        self.hu = hu
        self.x, self.y, self.z = coordinates()

    def box(
        self, low: NDArray, high: NDArray
    ) -> tuple[tuple[slice, slice, slice], tuple[Array, Array, Array]]:
        """Return the index box between two MNI points and its open grids."""
        start = np.clip(np.floor(np.asarray(low) - ORIGIN), 0, None).astype(int)
        stop = np.clip(np.ceil(np.asarray(high) - ORIGIN) + 1, 0, SHAPE).astype(int)
        at = tuple(slice(int(a), int(b)) for a, b in zip(start, stop, strict=True))
        return at, (self.x[at[0]], self.y[:, at[1]], self.z[:, :, at[2]])  # type: ignore[return-value]

    def ellipsoid(
        self, centre: tuple[float, ...], radii: tuple[float, ...], margin: float = 0.0
    ) -> tuple[tuple, Array]:
        """Return a box and, in it, about the distance in mm to an ellipsoid's surface (negative inside)."""
        c, r = np.array(centre, float), np.array(radii, float)
        at, grids = self.box(c - r - margin, c + r + margin)
        q = np.sqrt(sum(((g - m) / n) ** 2 for g, m, n in zip(grids, c, r, strict=True)))
        return at, ((q - 1) * r.min()).astype(np.float32)

    def capsule(
        self,
        start: tuple[float, ...],
        end: tuple[float, ...],
        radius: tuple[float, float],
        margin: float = 0.0,
    ) -> tuple[tuple, Array]:
        """Return a box and the distance in mm to a capsule whose radius grows from ``start`` to ``end``."""
        a, b = np.array(start, float), np.array(end, float)
        reach = max(radius) + margin
        at, grids = self.box(np.minimum(a, b) - reach, np.maximum(a, b) + reach)
        axis = b - a
        t = sum((g - m) * d for g, m, d in zip(grids, a, axis, strict=True)) / float(axis @ axis)
        t = np.clip(t, 0, 1)
        square = sum((g - m - t * d) ** 2 for g, m, d in zip(grids, a, axis, strict=True))
        return at, (np.sqrt(square) - radius[0] - t * (radius[1] - radius[0])).astype(np.float32)

    def fill(
        self, shape: tuple[tuple, Array], value: float | Array, where: NDArray[np.bool_] | None = None
    ) -> None:
        """Set HU inside a shape, optionally only where a mask of the whole grid holds."""
        at, distance = shape
        inside = distance < 0 if where is None else (distance < 0) & where[at]
        part = self.hu[at]
        part[inside] = value[at][inside] if isinstance(value, np.ndarray) else value

    def shell(
        self,
        shape: tuple[tuple, Array],
        thickness: float,
        value: float,
        where: NDArray[np.bool_] | None = None,
    ) -> None:
        """Set HU in a shell outside a shape's surface."""
        at, distance = shape
        inside = (distance >= 0) & (distance < thickness)
        self.hu[at][inside if where is None else inside & where[at]] = value


def _outline(build: Build, hull: Array, bone: Array) -> Array:
    """Return the signed distance to the skin at 2 mm: one smooth surface over vault, face, ears and neck."""
    x, y, z = coordinates(2)

    def ellipsoid(c: tuple[float, float, float], r: tuple[float, float, float]) -> Array:
        q = ((x - c[0]) / r[0]) ** 2 + ((y - c[1]) / r[1]) ** 2 + ((z - c[2]) / r[2]) ** 2
        return ((np.sqrt(q) - 1) * min(r)).astype(np.float32)

    length = build.face_length
    face = ellipsoid((0, 34, -62 * length), (66, 60, 66 * length))
    jaw = ellipsoid((0, 48, -100 * length), (48, 40, 28))
    nose = ellipsoid((0, 93, -56 * length), (13, 17, 20))
    neck = (
        np.sqrt(
            (x / (58 * build.neck_width)) ** 2 + ((y + 30 - 0.1 * (z + 70)) / (60 * build.neck_width)) ** 2
        )
        - 1
    ) * 55
    neck = np.maximum(neck, z + 45)
    surface = np.minimum(hull - bone - build.scalp, face)
    for part in (jaw, nose, neck):
        surface = np.minimum(surface, part)
    surface = ndimage.gaussian_filter(surface.astype(np.float32), 2.5)
    for side in (-1, 1):  # the smoothing would erase ears
        surface = np.minimum(surface, ellipsoid((side * 78, -20, -42), (8, 15, 25)))
    return surface


def bone_thickness(build: Build, rng: np.random.Generator) -> Array:
    """Return the skull's thickness in mm, on the 2 mm grid: thin squama and base, thick brow and inion."""
    x, y, z = coordinates(2)
    thickness = build.skull * (1 + 0.15 * noise(rng, COARSE, 20))
    temporal = smoothstep(np.abs(x), 45, 62) * smoothstep(-np.abs(y + 5), -40, -20) * smoothstep(-z, -25, 5)
    base = smoothstep(-z, 18, 34)
    thickness = thickness * (1 - 0.45 * temporal) * (1 - 0.4 * base)
    inion = np.exp(-(((x / 18) ** 2) + ((y + 105) / 20) ** 2 + ((z + 22) / 16) ** 2))
    brow = np.exp(-(((x / 26) ** 2) + ((y - 76) / 18) ** 2 + ((z + 14) / 13) ** 2))
    return np.clip(thickness + 5 * inion + 4.5 * build.sinus * brow, 2.0, 18.0).astype(np.float32)


def _face(canvas: Canvas, build: Build, free: NDArray[np.bool_], air_cells: Array) -> None:
    """Orbits, sinuses, nasal cavity, jaws: everything below the frontal lobes that confuses a threshold."""
    s, length = build.sinus, build.face_length
    bone = 750.0
    for side in (-1.0, 1.0):
        maxillary = canvas.ellipsoid((side * 29, 46, -64 * length), (13 * s, 16 * s, 15 * s), 3)
        canvas.shell(maxillary, 2.0, bone, free)
        canvas.fill(maxillary, AIR, free)
        canvas.fill(canvas.capsule((side * 50, 52, -52), (side * 66, 2, -44), (4.5, 3)), bone, free)
        canvas.fill(canvas.capsule((side * 50, 12, -60), (side * 42, 18, -104 * length), (5, 7)), bone, free)
        canvas.fill(
            canvas.capsule((side * 44, 20, -104 * length), (side * 8, 78, -112 * length), (7, 8)), bone, free
        )
        canvas.fill(
            canvas.capsule((side * 32, 42, -82 * length), (side * 6, 78, -84 * length), (6, 7)), bone, free
        )
        canvas.fill(
            canvas.capsule((side * 34, 44, -94 * length), (side * 6, 80, -97 * length), (4, 4)), 1600.0, free
        )
    at, (x, y, z) = canvas.box(np.array([-26, 14, -84 * length]), np.array([26, 92, -22]))
    nasal = (np.abs(x) < 15) & (y > 22) & (y < 84) & (z > -76 * length) & (z < -44)
    ethmoid = (np.abs(x) < 14) & (y > 28) & (y < 64) & (z >= -44) & (z < -28)
    palate = (np.abs(x) < 24) & (y > 24) & (y < 78) & (np.abs(z + 78 * length) < 2.5)
    septa = (np.abs(x) < 1) | (np.sin(y * 0.7) * np.cos(z * 0.6 + x * 0.5) > 0.55)
    part, allowed = canvas.hu[at], free[at]
    part[nasal & allowed] = AIR
    part[nasal & (np.abs(x) < 1.2) & allowed] = 250.0
    part[ethmoid & allowed] = AIR
    part[ethmoid & septa & allowed] = 350.0
    part[palate & allowed] = bone
    for side, height in ((s_, h) for s_ in (-1.0, 1.0) for h in (-52.0, -60.0, -68.0)):
        radius = 2.0 + 0.1 * (-52.0 - height)
        canvas.fill(
            canvas.capsule(
                (side * 10, 30, height * length), (side * 8, 74, (height + 3) * length), (radius, radius)
            ),
            45.0,
            free,
        )
    sphenoid = canvas.ellipsoid((0, 14, -40), (13 * s, 11 * s, 8 * s), 3)
    canvas.shell(sphenoid, 2.5, bone, free)
    canvas.fill(sphenoid, AIR, free)
    canvas.fill(canvas.capsule((0, 20, -72 * length), (0, 4, -150), (9, 8)), AIR, free)
    for side in (-1.0, 1.0):
        orbit = canvas.capsule((side * 17, 26, -33), (side * 34, 60, -37), (5, 17), 3)
        canvas.shell(orbit, 2.0, bone, free)
        canvas.fill(orbit, FAT, free)
        at, distance = orbit
        muscles = (np.abs(distance + 3.5) < 1.3) & (air_cells[at] > -0.2) & free[at]
        canvas.hu[at][muscles] = 50.0
        globe = canvas.ellipsoid((side * 33, 65, -37), (12, 12, 12))
        canvas.fill(canvas.capsule((side * 17, 24, -33), (side * 32, 60, -37), (2.2, 2.2)), 38.0, free)
        canvas.fill(globe, 50.0)
        canvas.fill(canvas.ellipsoid((side * 33, 65, -37), (10.5, 10.5, 10.5)), 12.0)
        canvas.fill(canvas.ellipsoid((side * 33, 73, -37), (4.5, 2, 4.5)), 85.0)


def _base(canvas: Canvas, clear: NDArray[np.bool_], outer: NDArray[np.bool_], air_cells: Array) -> None:
    """Petrous and mastoid bones, clivus and sella: bone that reaches into the clefts of the hull."""
    for side in (-1.0, 1.0):
        mastoid = canvas.ellipsoid((side * 57, -30, -52), (12, 16, 19))
        canvas.fill(mastoid, np.where(air_cells > 0.15, -750.0, 650.0).astype(np.float32), outer & clear)
        canvas.fill(canvas.capsule((side * 13, -14, -40), (side * 54, -30, -40), (7, 11)), 1050.0, clear)
        canvas.fill(
            canvas.capsule((side * 62, -20, -41), (side * 90, -20, -41), (3.5, 3.5)), AIR, outer
        )  # ear canal
        canvas.fill(
            canvas.capsule((side * 10, 2, -26), (side * 50, 12, -22), (2.5, 2.5)), 800.0, clear
        )  # sphenoid wing
    canvas.fill(canvas.capsule((0, -4, -27), (0, -24, -64), (6, 6)), 700.0, clear)
    at, distance = canvas.ellipsoid((0, 0, -36), (13, 9, 10))
    sella = (distance < 0) & clear[at] & (canvas.hu[at] > -500)
    canvas.hu[at][sella] = 600.0
    canvas.fill(canvas.ellipsoid((0, 3, -25), (6, 5, 3.5)), 42.0, clear)  # pituitary


def _spine(canvas: Canvas, rng: np.random.Generator) -> None:
    """Foramen magnum, spinal canal with cord, and the upper cervical vertebrae."""
    at, (x, y, z) = canvas.box(np.array([-40, -95, -150]), np.array([40, 20, -60]))
    centre = -44 + 0.12 * (z + 72)
    radius = np.sqrt((x / 1.1) ** 2 + (y - centre) ** 2)
    below = z < -76
    part = canvas.hu[at]
    part[(np.sqrt((x / 15) ** 2 + ((y - centre) / 17) ** 2) < 1) & (z > -82) & (z < -66) & (part > 100)] = CSF
    level = np.sin((z + rng.uniform(0, 4)) * 2 * np.pi / 17)
    ring = (radius > 10) & (radius < 17) & (level > -0.55)
    body = (np.sqrt((x / 13) ** 2 + ((y - centre - 21) / 10) ** 2) < 1) & (level > -0.75)
    rim = (np.sqrt((x / 11) ** 2 + ((y - centre - 21) / 8) ** 2) > 1) | (np.abs(level) > 0.93)
    spinous = (np.abs(x) < 4) & (y < centre - 14) & (y > centre - 36) & (level > 0.2)
    lateral = (np.abs(np.abs(x) - 21) < 8) & (np.abs(y - centre - 8) < 8) & (level > -0.3)
    part[below & (ring | spinous | lateral)] = 620.0
    part[below & body] = 380.0
    part[below & body & rim] = 800.0
    inside = below & (radius < 10)
    part[inside] = np.where(radius > 8.8, FAT / 2, CSF)[inside]
    part[(z < -71) & (np.sqrt((x / 6) ** 2 + ((y - centre) / 4.5) ** 2) < 1)] = 32.0


def paint_head(base: Template, build: Build, rng: np.random.Generator) -> tuple[Array, Array, Array]:
    """Paint everything but the brain.

    Returns
    -------
    hu : ndarray
        Head grid; CSF where the brain will be.
    hull : ndarray
        Head grid: mm to the brain's smooth hull, positive outside.
    skin : ndarray
        Shape of 2 mm fields: mm to the skin, negative inside.
    """
    coarse_bone = bone_thickness(build, rng)
    outline = _outline(build, base.hull, coarse_bone + build.csf_gap)
    hull, bone, skin, gap = (fine(f) for f in (base.hull, coarse_bone, outline, base.gap))
    z = coordinates()[2]
    hu = np.full(SHAPE, AIR, np.float32)
    texture = noise(rng, SHAPE, 4)
    planes = noise(rng, SHAPE, 9)
    inside = skin < 0
    hu[inside] = MUSCLE
    hu += 4.0 * texture * inside
    low = z < -30
    hu[inside & low & (np.abs(planes) < 0.17)] = FAT  # fat planes between muscles
    outer = hull - build.csf_gap - bone
    hu[inside & (skin > -2.3 - np.where(low, build.fat, build.scalp - 6.0))] = FAT
    # fat between skull base and neck: without it any stripping leaks into the muscles
    hu[inside & (outer > 0) & (outer < 3.5) & (z < -38)] = FAT
    hu[inside & (skin > -2.3)] = SKIN
    canvas = Canvas(hu)
    cells = noise(rng, SHAPE, 3)
    depth = (hull - build.csf_gap) / bone
    shell = (depth >= 0) & (depth < 1)
    _face(canvas, build, depth > 0.6, cells)
    diploe = shell & (depth > 0.3) & (depth < 0.68) & (bone > 3.5)
    hu[shell] = np.where(depth > 0.5, 1150.0, 1000.0)[shell]
    hu[diploe] = (560 + 90 * cells)[diploe]
    x, y, _ = coordinates()
    brow = (np.abs(x) < 24) & (np.abs(x) > 1) & (y > 50) & (z > -26) & (z < 2) & (bone > 8 / build.sinus)
    hu[brow & (depth > 0.3) & (depth < 0.75) & (planes > -0.6)] = AIR  # frontal sinus
    hu[(depth < 0) & inside] = CSF
    hu[(depth < 0) & (hull > build.csf_gap - 1.0)] = DURA
    _base(canvas, gap > 2.2, depth > 0.6, cells)
    _spine(canvas, rng)
    return hu, hull, outline
