"""The fixed part of the anatomy: MNI152 brain on a grid that has room for skull, face and neck.

The head grid is 1 mm, RAS+, its first voxel at MNI (-95, -130, -150) mm; 2 mm fields halve it.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from normct.common.anatomy import mni_tissues
from normct.common.cli import parser, run
from normct.common.files import atomic
from normct.phantom.fields import Array, upsample

SHAPE = (191, 243, 255)
ORIGIN = np.array([-95.0, -130.0, -150.0])
COARSE = tuple((n + 1) // 2 for n in SHAPE)


@dataclass(frozen=True)
class Template:
    """Brain tissue and the distances that everything else is built on.

    Attributes
    ----------
    box : tuple of slice
        Where the brain's box lies in the head grid.
    grey, white, brain : ndarray
        Tissue probability, and brain mask (with sulcal CSF), on the box at 1 mm.
    hull : ndarray
        Shape :data:`COARSE`: signed distance in mm to the brain's smooth closed surface, positive outside.
    gap : ndarray
        Shape :data:`COARSE`: distance in mm to the brain, 0 in it.
    ventricle : ndarray
        Shape :data:`COARSE`: signed distance in mm to the ventricles, negative inside.
    """

    box: tuple[slice, slice, slice]
    grey: Array
    white: Array
    brain: NDArray[np.bool_]
    hull: Array
    gap: Array
    ventricle: Array


def _signed(mask: NDArray[np.bool_], step: float) -> Array:
    outside, inside = ndimage.distance_transform_edt(~mask), ndimage.distance_transform_edt(mask)
    return ((outside - inside) * step).astype(np.float32)


def _closed(mask: NDArray[np.bool_], radius: float) -> NDArray[np.bool_]:
    """Close gaps narrower than twice ``radius`` (samples), by distances: far cheaper than a large ball."""
    grown = ndimage.distance_transform_edt(~mask) <= radius
    return ndimage.distance_transform_edt(grown) > radius


@lru_cache(maxsize=1)
def template() -> Template:
    """Return the template; a few CPU seconds, kept for the process. The workflow keeps it in a file."""
    maps, affine = mni_tissues()
    brain = ndimage.binary_fill_holes(maps["t1"] > 0)
    found = ndimage.find_objects(brain.astype(np.uint8))[0]
    shift = np.round(affine[:3, 3] - ORIGIN).astype(int)
    box = tuple(slice(s.start + d, s.stop + d) for s, d in zip(found, shift, strict=True))
    whole = np.zeros(SHAPE, bool)
    whole[box] = brain[found]
    coarse = whole[::2, ::2, ::2]
    csf = np.zeros(SHAPE, np.float32)
    csf[box] = np.where(brain[found], 1 - maps["gm"][found] - maps["wm"][found], 0)
    depth = ndimage.distance_transform_edt(coarse)
    grid = np.ogrid[tuple(slice(o, o + 2 * n, 2) for o, n in zip(ORIGIN, COARSE, strict=True))]
    # deep CSF of the lateral and third ventricles; cisterns and the fissure lie outside this box
    near = (np.abs(grid[0]) < 42) & (grid[1] > -62) & (grid[1] < 40) & (grid[2] > -14) & (grid[2] < 32)
    ventricle = (csf[::2, ::2, ::2] > 0.55) & (depth > 6) & near
    labels, count = ndimage.label(ventricle)
    sizes = ndimage.sum_labels(ventricle, labels, range(1, count + 1))
    ventricle = np.isin(labels, 1 + np.flatnonzero(np.asarray(sizes) > 60))
    hull = ndimage.gaussian_filter(_signed(_closed(coarse, 7.0), 2.0), 2.0)
    return Template(
        box,  # type: ignore[arg-type]
        # in the order a file gives back: sums in another order end in another last digit
        np.ascontiguousarray(maps["gm"][found]),
        np.ascontiguousarray(maps["wm"][found]),
        np.ascontiguousarray(brain[found]),
        hull,
        (ndimage.distance_transform_edt(~coarse) * 2).astype(np.float32),
        ndimage.gaussian_filter(_signed(ventricle, 2.0), 1.0),
    )


def write_template(path: Path, content: Template) -> None:
    """Write a template, uncompressed (40 MB): it is read once a subject."""
    arrays = {field.name: getattr(content, field.name) for field in fields(Template) if field.name != "box"}
    with atomic(path) as part:
        np.savez(part, box=np.array([[s.start, s.stop] for s in content.box]), **arrays)


def read_template(path: Path) -> Template:
    """Read what :func:`write_template` wrote."""
    with np.load(path, allow_pickle=False) as content:
        arrays = {name: content[name] for name in content.files}
    x, y, z = (slice(int(low), int(high)) for low, high in arrays.pop("box"))
    return Template((x, y, z), **arrays)


def fine(field: Array) -> Array:
    """Bring a 2 mm field to the 1 mm head grid."""
    return upsample(field, 2.0, SHAPE)


def coordinates(step: int = 1) -> tuple[Array, Array, Array]:
    """Return open grids of MNI x, y, z in mm, of the head grid at ``step`` mm."""
    return tuple(  # type: ignore[return-value]
        np.asarray(g, np.float32)
        for g in np.ogrid[tuple(slice(o, o + n, step) for o, n in zip(ORIGIN, SHAPE, strict=True))]
    )


def main(argv: list[str] | None = None) -> None:
    """Write the template that every subject of a cohort is made from."""
    cli = parser(__doc__, "normct.phantom.template")
    cli.add_argument("out", type=Path, help="template.npz to write")
    write_template(cli.parse_args(argv).out, template())


if __name__ == "__main__":
    run(main)
