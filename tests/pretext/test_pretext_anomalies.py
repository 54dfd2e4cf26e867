"""Artificial anomalies: where they say they are, of the size asked for, the same again, and none of the phantom's."""

from __future__ import annotations

import ast
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from factories import make_store
from normct.common.codehash import closure
from normct.phantom.lesions import RANGES
from normct.pretext import anomalies
from normct.pretext.anomalies import KINDS, SHIFT, VOLUME_ML, VOXEL_ML, add_anomaly

STORE, DONOR = make_store(), make_store(seed=1)
REPOSITORY = Path(__file__).resolve().parents[2]


def made(kind: str, seed: int = 0, donor: bool = False) -> anomalies.Anomaly:
    other = (DONOR.image, DONOR.mask) if donor else None
    return add_anomaly(STORE.image, STORE.mask, kind, np.random.default_rng(seed), other)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kind", KINDS)
def test_mask_is_where_the_image_changed_and_inside_the_brain(kind, seed):
    found = made(kind, seed, donor=seed % 2 == 1)
    changed = found.image != STORE.image
    assert found.image.dtype == np.float16
    assert found.mask.dtype == bool
    assert not (changed & ~found.mask).any()
    assert not (found.mask & ~STORE.mask).any()
    # a value at the window's end cannot go further, and two scans agree in some voxels
    assert changed.sum() > (0.98 if kind == "patch" else 0.999) * found.mask.sum()
    assert float(found.image.min()) >= 0
    assert float(found.image.max()) <= 1
    # a voxel more or less is what rounding may do
    assert VOLUME_ML[0] - VOXEL_ML <= found.volume_ml <= VOLUME_ML[1] + VOXEL_ML


def test_volumes_and_contrasts_cover_their_ranges():
    found = [made(kind, seed) for seed in range(24) for kind in KINDS[:2]]
    volumes = np.array([a.volume_ml for a in found])
    assert volumes.min() < 0.6
    assert volumes.max() > 20
    assert 2 < np.median(volumes) < 6  # evenly in the logarithm
    sizes = np.abs([a.strength for a in found])
    assert SHIFT[0] <= sizes.min() < 0.07
    assert 0.3 < sizes.max() <= SHIFT[1]


@pytest.mark.parametrize(("kind", "sign"), [("denser", 1), ("less_dense", -1)])
def test_contrast_has_the_sign_of_its_kind_and_fades_in(kind, sign):
    found = made(kind, 3)
    change = sign * (found.image.astype(np.float32) - STORE.image)
    assert sign * found.strength > 0
    assert (change >= 0).all()
    depth = ndimage.distance_transform_edt(found.mask, sampling=anomalies.SPACING_MM)
    outer, deep = change[(depth > 0) & (depth < 2)], change[depth == depth.max()]
    assert outer.mean() < deep.mean() <= abs(found.strength) + 1e-3


def test_a_grown_shape_is_one_piece_and_no_ball():
    for seed in range(4):
        mask = made("denser", seed).mask
        assert ndimage.label(mask)[1] == 1
        spread = np.argwhere(mask) * anomalies.SPACING_MM
        radius = (3 * mask.sum() * VOXEL_ML * 1000 / (4 * np.pi)) ** (1 / 3)
        # the farthest voxel of a ball is a radius away
        assert np.linalg.norm(spread - spread.mean(0), axis=1).max() > 1.15 * radius


def test_a_patch_comes_from_the_donor():
    donor = (np.where(DONOR.mask, np.float16(0.9), DONOR.image), DONOR.mask)
    found = add_anomaly(STORE.image, STORE.mask, "patch", np.random.default_rng(2), donor)
    change = (found.image.astype(np.float32) - STORE.image)[found.mask]
    assert (change > -1e-3).all()
    assert 0.2 < change.max() < 0.7
    own = made("patch", 2)
    assert not np.array_equal(own.image, found.image)


def test_same_generator_same_anomaly():
    first, again, other = made("denser", 5), made("denser", 5), made("denser", 6)
    assert np.array_equal(first.image, again.image)
    assert np.array_equal(first.mask, again.mask)
    assert not np.array_equal(first.mask, other.mask)


def test_unknown_kind_and_too_small_a_brain_are_refused():
    with pytest.raises(ValueError, match="no such anomaly"):
        made("bleed")
    speck = np.zeros_like(STORE.mask)
    speck[70, 60:64, 60:64] = True
    for kind in KINDS:
        with pytest.raises(ValueError, match="no room"):
            add_anomaly(STORE.image, speck, kind, np.random.default_rng(0))


def imported(text: str) -> set[str]:
    """Every module that a text imports, wherever in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "a relative import would not be seen"
            names |= {node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


@pytest.mark.parametrize("path", ["src/normct/pretext/anomalies.py", "benchmarks/choose_scoring.py"])
def test_the_generator_and_its_study_share_no_code_with_the_phantom(path):
    todo, seen = imported((REPOSITORY / path).read_text("utf-8")), set()
    while todo:
        name = todo.pop()
        seen.add(name)
        if name.startswith("benchmarks."):
            file = REPOSITORY.joinpath(*name.split(".")).with_suffix(".py")
            todo |= (imported(file.read_text("utf-8")) if file.is_file() else set()) - seen
        elif name.startswith("normct."):
            # what that imports, and so on
            seen |= {module for module, _ in closure(name)}
    assert not [name for name in seen if name.startswith("normct.phantom")]


def test_the_generator_reads_no_settings_and_shares_no_range_with_the_phantom():
    path = REPOSITORY / "src" / "normct" / "pretext" / "anomalies.py"
    text = path.read_text("utf-8")
    assert "phantom" not in text
    # nothing of ours, and no reader of files: every number stands in the module
    assert imported(text) <= {
        *("__future__", "__future__.annotations", "heapq", "dataclasses", "dataclasses.dataclass"),
        *("numpy", "numpy.typing", "numpy.typing.NDArray", "scipy", "scipy.ndimage"),
    }
    theirs = {limits for ranges in RANGES.values() for limits in ranges.values()}
    ours = {
        VOLUME_ML,
        SHIFT,
        tuple(80 * s for s in SHIFT),
        anomalies.BLEND,
        anomalies.EDGE_MM,
        anomalies.GRAIN,
    }
    assert not ours & theirs
