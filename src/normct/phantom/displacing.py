"""Pathologies that move the brain itself: subdural and epidural collections, and atrophy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from normct.phantom.brain import Brain, Involution, shape_brain, ventricle_shift
from normct.phantom.fields import Array, noise
from normct.phantom.lesions import Mask, Scene, draw
from normct.phantom.template import SHAPE, Template, coordinates


@dataclass(frozen=True)
class Collection:
    """A subdural crescent or epidural lens: its thickness in mm at every point of the coarse grid."""

    kind: str
    thickness: Array
    density: float
    parameters: dict[str, Any]

    def shift(self, base: Template, inner: float) -> Array:
        """Return how far the brain is pushed inward, shape (3, *COARSE) in mm; it fades over 45 mm."""
        normal = np.stack(np.gradient(base.hull, 2.0))
        normal /= np.maximum(np.linalg.norm(normal, axis=0), 1e-3)
        room = np.clip(self.thickness - max(inner - 0.5, 0), 0, None)
        fade = np.clip(1 - np.clip(-base.hull - room, 0, None) / 45, 0, 1)
        return (-normal * room * fade).astype(np.float32)

    def paint(self, scene: Scene, thickness: Array) -> None:
        """Fill the space between inner table and the collection's depth (``thickness`` on the head grid)."""
        depth = scene.inner - scene.hull
        scene.mask = (depth > 0) & (depth < thickness) & (thickness > 1.0) & (scene.hu < 300)
        scene.hu[scene.mask] = (self.density + 2.5 * noise(scene.rng, SHAPE, 5))[scene.mask]
        scene.parameters |= self.parameters


def draw_collection(kind: str, rng: np.random.Generator, length: float = 1.0) -> Collection:
    """Draw a subdural (wide, thin, along one hemisphere) or an epidural (a lens of 25 to 45 mm radius).

    Parameters
    ----------
    kind : str
        subdural or epidural.
    rng : numpy.random.Generator
    length : float
        Length of the subject's head over the template's: thickness is drawn in the subject's mm.
    """
    thickness, density = draw(rng, kind, "thickness_mm"), draw(rng, kind, "density_hu")
    side = int(rng.choice([-1, 1]))
    x, y, z = coordinates(2)
    if kind == "subdural":
        centre = np.array([side * 52.0, rng.uniform(-45, 25), rng.uniform(15, 40)])
        reach = np.array([60.0, rng.uniform(45, 80), rng.uniform(35, 60)])
    else:
        centre = np.array([side * 66.0, rng.uniform(-35, 15), rng.uniform(-8, 25)])
        reach = np.array([60.0, 1.0, 1.0]) * rng.uniform(25, 42)
        reach[0] = 60.0
    q = (
        ((x - centre[0]) / reach[0]) ** 2
        + ((y - centre[1]) / reach[1]) ** 2
        + ((z - centre[2]) / reach[2]) ** 2
    )
    profile = np.clip(1 - q, 0, None) ** (0.5 if kind == "subdural" else 1.0)
    hemisphere = np.clip(x * side / 10 - 0.4, 0, 1)  # neither crosses the falx here
    field_mm = (thickness / length * profile * hemisphere).astype(np.float32)
    return Collection(
        kind,
        field_mm,
        density,
        {
            "subtype": kind,
            "side": "left" if side < 0 else "right",
            "thickness_mm": round(thickness, 2),
            "density_hu": round(density, 1),
        },
    )


def atrophied(involution: Involution, rng: np.random.Generator) -> Involution:
    """Return an involution beyond the subject's age."""
    return Involution(
        involution.ventricle_mm + draw(rng, "atrophy", "ventricle_mm"),
        max(involution.sulcus - draw(rng, "atrophy", "sulcus_drop"), 0.16),
    )


def atrophy_mask(base: Template, healthy: Involution, brain: Brain) -> Mask:
    """Return, on the brain's box, CSF that replaced tissue of the same head at its age's norm."""
    before = shape_brain(base, healthy, ventricle_shift(base, healthy))
    return before.tissue & (brain.csf >= 0.5) & brain.mask
