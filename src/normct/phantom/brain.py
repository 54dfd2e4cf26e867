"""The brain: ventricles and sulci by age, mass effect, density, and the calcifications of the healthy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from normct.common.anatomy import HU_CSF, HU_GREY, HU_WHITE
from normct.phantom.fields import Array, noise, smoothstep, upsample
from normct.phantom.template import COARSE, SHAPE, Template, coordinates


@dataclass(frozen=True)
class Involution:
    """How wide the CSF spaces are.

    Attributes
    ----------
    ventricle_mm : float
        Outward shift of the ventricles' wall; negative in the young.
    sulcus : float
        CSF probability above which a voxel of the averaged atlas is drawn as CSF; lower is wider.
    """

    ventricle_mm: float
    sulcus: float


def draw_involution(rng: np.random.Generator, age: float) -> Involution:
    """Draw what is normal for an age: ventricles widen slowly to 60 years and faster after."""
    shift = -1.0 + 0.02 * (age - 20) + 0.04 * max(age - 60, 0) + rng.normal(0, 0.6)
    sulcus = 0.56 - 0.0038 * (age - 20) + rng.normal(0, 0.03)
    return Involution(float(np.clip(shift, -1.5, 3.5)), float(np.clip(sulcus, 0.27, 0.62)))


def ventricle_shift(base: Template, involution: Involution) -> Array:
    """Return the displacement, shape (3, *COARSE) in mm, that widens the ventricles; it fades over 14 mm."""
    gradient = np.stack(np.gradient(base.ventricle, 2.0))
    gradient /= np.maximum(np.linalg.norm(gradient, axis=0), 1e-3)
    size = involution.ventricle_mm * np.exp(-np.abs(base.ventricle) / np.where(base.ventricle > 0, 14.0, 5.0))
    return (gradient * size).astype(np.float32)


@dataclass
class Brain:
    """Tissue on the brain's box at 1 mm.

    Attributes
    ----------
    csf : ndarray
        Share of CSF, 0 to 1.
    white : ndarray
        Share of white matter in the tissue, 0 to 1.
    mask : ndarray
        Brain with sulci and ventricles.
    """

    csf: Array
    white: Array
    mask: NDArray[np.bool_]

    @property
    def tissue(self) -> NDArray[np.bool_]:
        """Voxels mostly of brain tissue."""
        return self.mask & (self.csf < 0.5)

    def hu(self) -> Array:
        """Return the density of healthy tissue and CSF."""
        return (self.csf * HU_CSF + (1 - self.csf) * (HU_GREY + self.white * (HU_WHITE - HU_GREY))).astype(
            np.float32
        )


def shape_brain(base: Template, involution: Involution, shift: Array) -> Brain:
    """Move the atlas's tissue by ``shift`` (outward displacement, shape (3, *COARSE), mm) and sharpen it.

    The atlas is a mean of 152 brains: its probabilities are turned back into tissue with borders.
    """
    corner = tuple(slice(s.start // 2, -(-s.stop // 2) + 1) for s in base.box)
    offset = [s.start - 2 * c.start for s, c in zip(base.box, corner, strict=True)]
    size = base.grey.shape
    place = np.empty((3, *size), np.float32)
    for axis in range(3):
        part = shift[axis][corner]
        full = upsample(part, 2.0, tuple(o + n for o, n in zip(offset, size, strict=True)))
        place[axis] = -full[tuple(slice(o, None) for o in offset)]
    for axis, grid in enumerate(np.ogrid[tuple(slice(0, n) for n in size)]):
        place[axis] += grid
    grey, white, mask = (
        ndimage.map_coordinates(m, place, order=1, prefilter=False, output=np.float32)
        for m in (base.grey, base.white, base.brain.astype(np.float32))
    )
    fluid = np.clip(1 - grey - white, 0, 1)
    csf = smoothstep(fluid, involution.sulcus - 0.16, involution.sulcus + 0.16)
    csf = np.where(mask > 0.5, csf, 1.0)
    share = smoothstep(white / np.maximum(grey + white, 0.05), 0.3, 0.75)
    return Brain(csf.astype(np.float32), share, mask > 0.5)


def paint_brain(hu: Array, base: Template, brain: Brain, hull: Array, rng: np.random.Generator) -> None:
    """Paint the brain into the head, with falx, venous sinus and slow variation of density."""
    part = hu[base.box]
    density = brain.hu() + (1 - brain.csf) * (
        0.8 * noise(rng, part.shape, 18) + 1.2 * noise(rng, part.shape, 2.5) + rng.normal(0, 0.7)
    )
    part[brain.mask] = density[brain.mask]
    x, y, z = coordinates()
    # beam hardening between the petrous bones
    band = np.exp(-((x / 26) ** 2 + ((y + 22) / 9) ** 2 + ((z + 38) / 9) ** 2)) * rng.uniform(0, 5)
    part[brain.mask] -= band[base.box][brain.mask]
    near = (hull > -32) & (hull < 3) & (z > -5) & (np.abs(x + rng.normal(0, 0.4)) < 0.9)
    soft = (hu > -20) & (hu < 60)
    hu[near & soft & ((z > 20) | (np.abs(y + 18) > 45))] = rng.uniform(42, 56)
    sinus = (np.abs(x) < 5) & (hull > -4) & (hull < 3) & (z > -12) & ((y < -30) | (z > 40)) & soft
    hu[sinus] = rng.uniform(48, 60)


def normal_calcifications(
    hu: Array, rng: np.random.Generator, age: float, brain: NDArray[np.bool_]
) -> dict[str, float]:
    """Paint calcified pineal gland, choroid plexus and falx, as common in the healthy as radiology says.

    About two thirds of adults have a calcified pineal gland, half a calcified plexus, one in ten the falx,
    and pallidal calcification comes with age.

    Returns
    -------
    dict
        Radius in mm of each that is present.
    """
    x, y, z = coordinates()
    found: dict[str, float] = {}

    def speck(name: str, centre: tuple[float, float, float], radius: float, density: float) -> None:
        low = [int(c - radius - 2 - o) for c, o in zip(centre, (-95, -130, -150), strict=True)]
        at = tuple(slice(max(a, 0), a + int(2 * radius + 5)) for a in low)
        square = (
            (x[at[0]] - centre[0]) ** 2 + (y[:, at[1]] - centre[1]) ** 2 + (z[:, :, at[2]] - centre[2]) ** 2
        )
        inside = (square < radius**2) & (hu[at] < 100) & brain[at]
        hu[at][inside] = density
        found[name] = round(float(radius), 2)

    older = np.clip((age - 20) / 50, 0, 1)
    if rng.random() < 0.35 + 0.35 * older:
        speck("pineal", (rng.normal(0, 0.5), -29, 1), rng.uniform(1.2, 3.0), rng.uniform(100, 220))
    if rng.random() < 0.2 + 0.5 * older:
        for side, name in ((-1, "plexus_left"), (1, "plexus_right")):
            centre = (side * 24 + rng.normal(0, 1), -42 + rng.normal(0, 1), 9 + rng.normal(0, 1))
            speck(name, centre, rng.uniform(1.5, 4.0), rng.uniform(80, 140))
    if rng.random() < 0.1 + 0.1 * older:
        speck(
            "falx",
            (0, rng.uniform(20, 45), rng.uniform(40, 50)),
            rng.uniform(1.5, 4.0),
            rng.uniform(120, 300),
        )
    if rng.random() < 0.02 + 0.12 * older:
        for side, name in ((-1, "pallidum_left"), (1, "pallidum_right")):
            speck(name, (side * 19, -3, 0), rng.uniform(1.0, 2.5), rng.uniform(60, 110))
    return found


def embed(part: NDArray, base: Template, fill: float = 0.0) -> NDArray:
    """Put an array on the brain's box into the head grid."""
    whole = np.full(SHAPE, fill, part.dtype)
    whole[base.box] = part
    return whole


def no_shift() -> Array:
    """Return a displacement of zero, shape (3, *COARSE)."""
    return np.zeros((3, *COARSE), np.float32)
