"""Synthetic head CT: the same bytes again, lesions in their place and range, a true pose that is true."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from normct.common.anatomy import ct_atlas
from normct.common.geometry import angles_deg, resample
from normct.common.volumes import Volume, read_volume
from normct.phantom import subject
from normct.phantom import template as template_module
from normct.phantom.lesions import PAINTERS, RANGES
from normct.phantom.subject import Head, Phantom, build_head, make_subject
from normct.phantom.template import coordinates, template
from normct.phantom.warp import best_rigid, draw_warp, lattice

SETTINGS = {
    "seed": 5,
    "age_years": [20, 90],
    "pose": {"pitch_deg": 25, "roll_deg": 6, "yaw_deg": 6, "shift_mm": 6},
    "slice_thickness_mm": [5, 5],
    "noise_hu": [3, 6],
}
ID = "sub-someone001"


@pytest.fixture(scope="module")
def healthy() -> Phantom:
    return make_subject(ID, None, SETTINGS)


@pytest.fixture(scope="module")
def bleeding() -> Phantom:
    return make_subject(ID, "icb", SETTINGS)


@pytest.fixture(scope="module")
def head() -> Head:
    return build_head(ID, "", SETTINGS)


def test_command_line_gives_the_same_again(healthy: Phantom, tmp_path: Path) -> None:
    """With the template from a file, as the workflow does it, and without."""
    kept, tmp_path = tmp_path / "template.npz", tmp_path / "made"
    template_module.main([str(kept)])
    paths = {name: tmp_path / name for name in ("ct.nii.gz", "lesion.nii.gz", "truth.json")}
    subject.main(
        [
            ID,
            "--template",
            str(kept),
            "--settings",
            json.dumps(SETTINGS),
            "--ct",
            str(paths["ct.nii.gz"]),
            "--lesion",
            str(paths["lesion.nii.gz"]),
            "--truth",
            str(paths["truth.json"]),
        ]
    )
    ct, lesion = (read_volume(paths[n], dtype=None) for n in ("ct.nii.gz", "lesion.nii.gz"))
    assert ct.data.dtype == np.int16
    assert lesion.data.dtype == np.uint8
    assert np.array_equal(ct.data, healthy.ct.data)
    assert np.allclose(ct.affine, healthy.ct.affine, atol=1e-4)
    assert not lesion.data.any()
    truth = json.loads(paths["truth.json"].read_text("utf-8"))
    assert truth == json.loads(json.dumps(healthy.truth))
    assert truth["synthetic"] is True
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(paths)


def test_scan_is_a_head_ct(healthy: Phantom) -> None:
    data, zooms = healthy.ct.data, healthy.ct.zooms
    assert data.shape[0] == data.shape[1]
    assert data.shape[0] in (448, 512)
    assert 0.4 < zooms[0] < 0.6
    assert zooms[2] == 5
    assert data.min() >= -1024
    assert np.percentile(data[data > 300], 90) > 850  # compact bone
    air = data[:, :, -1]
    assert np.median(air) == pytest.approx(-1000, abs=10)  # air above the vertex: the scan is not truncated


def test_lesion_changes_neither_anatomy_nor_noise(healthy: Phantom, bleeding: Phantom) -> None:
    assert healthy.truth["pose"] == bleeding.truth["pose"]
    assert healthy.truth["anatomy"] == bleeding.truth["anatomy"]
    mask = bleeding.lesion.data > 0
    change = bleeding.ct.data.astype(int) - healthy.ct.data
    reach = ndimage.distance_transform_edt(~mask, sampling=bleeding.ct.zooms)
    assert np.abs(change[reach > 30]).max() == 0
    low, high = RANGES["icb"]["contrast_hu"]
    assert low - 3 < change[mask].mean() < high + 3
    rim = (reach > 1.5) & (reach < 4)
    assert change[rim].mean() < -0.5  # oedema
    low, high = RANGES["icb"]["volume_ml"]
    assert low <= bleeding.truth["lesion"]["volume_ml"] <= high
    assert bleeding.truth["lesion"]["volume_ml"] == pytest.approx(mask.sum() * bleeding.ct.voxel_ml, abs=1e-3)


def test_true_pose_brings_the_atlas_onto_the_brain(healthy: Phantom) -> None:
    image, mask = ct_atlas()
    pose = np.array(healthy.truth["pose"]["mni_to_native"])
    core = Volume(ndimage.binary_erosion(mask.data, iterations=14).astype(np.uint8), image.affine)

    def soft(points: np.ndarray) -> float:
        placed = (
            resample(core, healthy.ct.data.shape, healthy.ct.affine, np.linalg.inv(points), order=0).data > 0
        )
        return float(((healthy.ct.data > -25) & (healthy.ct.data < 90))[placed].mean())

    assert np.allclose(pose[:3, :3] @ pose[:3, :3].T, np.eye(3), atol=1e-5)
    assert soft(pose) > 0.98
    elsewhere = pose.copy()
    elsewhere[:3, 3] += [0, 40, 0]
    assert soft(elsewhere) < 0.95
    assert angles_deg(pose) == pytest.approx(
        [healthy.truth["pose"][f"{n}_deg"] for n in ("pitch", "roll", "yaw")], abs=0.01
    )


def test_poses_fill_the_range_asked_for(head: Head) -> None:
    limits = {"pitch_deg": 30, "roll_deg": 15, "yaw_deg": 15, "shift_mm": 5}
    found = []
    for number in range(12):
        rng = np.random.default_rng(number)
        warp = draw_warp(np.random.default_rng(100 + number), rng, "F", limits)
        place = lattice(warp, template(), head.skin)
        found.append(angles_deg(place.rigid))
        turn = place.rigid[:3, :3] @ warp.pose[:3, :3].T
        assert np.degrees(np.arccos(np.clip((np.trace(turn) - 1) / 2, -1, 1))) < 6
        assert place.residual_mm < 8
    spread = np.abs(np.array(found)).max(axis=0)
    assert (spread < [37, 22, 22]).all()
    assert (spread > [15, 7, 7]).all()


def test_best_rigid_recovers_a_motion() -> None:
    rng = np.random.default_rng(0)
    turn = np.linalg.qr(rng.standard_normal((3, 3)))[0]
    turn *= np.sign(np.linalg.det(turn))
    points = rng.standard_normal((50, 3)) * 60
    matrix = best_rigid(points, points @ turn.T + [3, -7, 11])
    assert np.allclose(matrix[:3, :3], turn)
    assert np.allclose(matrix[:3, 3], [3, -7, 11])


def test_bone_encloses_the_brain_but_for_the_foramen_magnum(head: Head) -> None:
    hu, hull = head.scene.hu, head.scene.hull
    z = coordinates()[2] + np.zeros_like(hu)
    labels, _ = ndimage.label((hu < 300) & (z > -60))
    inside = labels[95, 130, 150]  # the brain's middle
    assert inside > 0
    assert hull[labels == inside].max() < 12
    labels, _ = ndimage.label((hu > 0) & (hu < 100))
    joined = labels == labels[95, 130, 160]
    # thresholds alone do not strip the skull: the brain hangs together with the neck
    assert (joined & (hull > 25)).sum() > 1000


@pytest.mark.parametrize("kind", sorted(PAINTERS))
@pytest.mark.parametrize("seed", [0, 1])
def test_intracranial_lesions_keep_their_ranges(head: Head, kind: str, seed: int) -> None:
    before = head.scene.hu
    scene = replace(
        head.scene,
        hu=before.copy(),
        mask=np.zeros(before.shape, bool),
        parameters={},
        rng=np.random.default_rng(seed),
    )
    PAINTERS[kind](scene)
    assert scene.mask.any()
    assert (scene.hull[scene.mask] <= scene.inner + 1).all()
    assert (before[scene.mask] < 200).all()
    limits = RANGES[kind]
    volume = scene.mask.sum() * scene.scale / 1000
    change = (scene.hu - before)[scene.mask].mean()
    if "volume_ml" in limits:
        assert limits["volume_ml"][0] * 0.9 <= volume <= limits["volume_ml"][1]
    else:
        diameter = (6 * volume * 1000 / np.pi) ** (1 / 3)
        assert limits["diameter_mm"][0] * 0.8 <= diameter <= limits["diameter_mm"][1]
    if kind in {"icb", "ischemia", "cavernoma"}:
        assert np.sign(change) == np.sign(limits["contrast_hu"][1] + limits["contrast_hu"][0])
        low, high = limits["contrast_hu"]
        assert low - 0.1 <= change <= high + 0.1  # what comes out, soft edges and specks included
        assert change == pytest.approx(scene.parameters["contrast_hu"], abs=0.05)
    if "density_hu" in limits:
        core = ndimage.binary_erosion(scene.mask) if kind == "aneurysm" else scene.mask
        assert limits["density_hu"][0] - 12 < np.median(scene.hu[core]) < limits["density_hu"][1] + 5
    if kind in {"icb", "ischemia", "tumor", "cavernoma"}:
        tissue = np.zeros(before.shape, bool)
        tissue[scene.base.box] = scene.brain.tissue
        assert tissue[scene.mask].mean() > 0.98


@pytest.mark.parametrize("kind", ["subdural", "epidural"])
def test_collections_lie_between_skull_and_brain(kind: str) -> None:
    scene = build_head(ID, kind, SETTINGS).scene
    depth = (scene.inner - scene.hull[scene.mask]) * scene.scale ** (1 / 3)
    low, high = RANGES[kind]["thickness_mm"]
    assert 0 < depth.min() < 1
    assert 0.8 * low <= depth.max() <= high
    # of a flat crescent all but the last voxel; a lens lies on the skull's curve
    assert depth.max() > (0.75 if kind == "epidural" else 0.9) * scene.parameters["thickness_mm"] - 0.5
    low, high = RANGES[kind]["density_hu"]
    assert low - 3 < scene.hu[scene.mask].mean() < high + 3
    tissue = np.zeros(scene.mask.shape, bool)
    tissue[scene.base.box] = scene.brain.csf < 0.1
    assert tissue[scene.mask].mean() < 0.15  # the brain was pushed away, not overwritten
    x = coordinates()[0] + np.zeros(scene.mask.shape, np.float32)
    assert len(np.unique(np.sign(x[scene.mask]))) == 1


def test_atrophy_marks_csf_that_replaced_tissue(head: Head) -> None:
    scene = build_head(ID, "atrophy", SETTINGS).scene
    mask = scene.mask[scene.base.box]
    assert (scene.brain.csf[mask] >= 0.5).all()
    assert (head.scene.brain.csf[mask] < 0.5).all()
    assert 8 < mask.sum() * scene.scale / 1000 < 250


def test_unknown_pathology_is_named() -> None:
    with pytest.raises(ValueError, match="tumour"):
        make_subject(ID, "tumour", SETTINGS)
    with pytest.raises(ValueError, match="subgaleal"):
        make_subject(ID, "bleed", SETTINGS, subtype="subgaleal")
