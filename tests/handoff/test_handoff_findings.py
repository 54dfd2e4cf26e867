"""Findings: sizes, signs, sides and words."""

import numpy as np
import pytest
from scipy import ndimage

from normct.common.volumes import Volume
from normct.handoff.findings import RIM_MM, depth_map, find
from normct.handoff.regions import brain_box, lobe, proportional, words

AFFINE = np.diag([2.0, 2.0, 2.0, 1.0])
AFFINE[:3, 3] = -40.0
BOX = np.array([[-40.0, -40.0, -40.0], [38.0, 38.0, 38.0]])
DEEP = Volume(np.full((80, 80, 80), 20, np.float32), np.diag([1.0, 1.0, 1.0, 1.0]))
DEEP.affine[:3, 3] = -41


def run(data, affine=AFFINE, min_ml=0.1, brain=None, depth=DEEP, hu=None):
    brain = np.ones(data.shape, bool) if brain is None else brain
    settings = {"threshold": 10.0, "min_ml": min_ml, "to_atlas": np.eye(4), "box": BOX}
    return find(Volume(data, affine), brain, hu=hu, depth=depth, **settings)


def test_signs_are_kept_apart_and_the_strongest_leads():
    data = np.zeros((40, 40, 40), np.float32)
    data[5:10, 30:35, 30:35] = 20  # left (x < 0), front, upper
    data[30:36, 5:11, 5:11] = -40  # right, back, lower
    data[5:10, 35, 30:35] = -15  # touches the first, of the other sign
    findings, mask = run(data)
    assert [f.kind for f in findings] == ["hypodense", "hyperdense", "hypodense"]
    assert (findings[0].side, findings[0].region) == ("right", "cerebellum")
    assert (findings[1].side, findings[1].region) == ("left", "frontal")
    assert findings[1].box == [[5, 30, 30], [9, 34, 34]]
    assert findings[0].volume_ml == pytest.approx(216 * 0.008, abs=0.01)
    assert (findings[0].mean, findings[0].peak) == (-40.0, -40.0)
    assert findings[1].words == "hyperdense, 1.0 mL, left frontal"
    assert (mask == 1).sum() == 125 and (mask == 2).sum() == 216 + 25


def test_peak_hu_is_the_scans_own_within_the_region():
    """71 HU in a bleed and 8 in an infarct; a single noisy voxel of hundreds and voxels beside count for nothing."""
    data, scan = np.zeros((40, 40, 40), np.float32), np.full((40, 40, 40), 35, np.int16)
    data[5:15, 30:35, 30:35], scan[5:15, 30:35, 30:35] = 20, 60
    scan[5:15, 30:32, 30:32], scan[7, 33, 33], scan[20, 33, 33] = 71, 900, 800
    data[30:36, 5:11, 5:11], scan[30:36, 5:11, 5:11] = -40, 22
    scan[30:33, 5:7, 5:8], scan[33, 9, 9] = 8, -500
    data[20:23, 20:23, 20], scan[20:23, 20:23, 20] = 15, 50
    scan[21, 21, 20] = 90  # few voxels: the extreme itself
    found = {(f.kind, f.volume_ml): f.peak_hu for f in run(data, hu=scan, min_ml=0.05)[0]}
    assert found == {("hypodense", 1.73): 8, ("hyperdense", 2.0): 71, ("hyperdense", 0.07): 90}
    assert [f.peak_hu for f in run(data)[0]] == [None, None]  # intensities that are not HU


def test_small_regions_and_those_outside_the_brain_are_left_out():
    data = np.zeros((40, 40, 40), np.float32)
    data[5, 5, 5] = 50  # 0.008 mL
    data[20:30, 20:30, 20:30] = 50
    brain = np.ones(data.shape, bool)
    brain[20:30, 20:30, 20:30] = False
    findings, mask = run(data, brain=brain)
    assert findings == [] and not mask.any()


def test_side_does_not_depend_on_the_files_orientation():
    data = np.zeros((40, 40, 40), np.float32)
    data[2:8, 18:24, 18:24] = 30
    data[4, 20, 21] = 60
    flipped = np.diag([-2.0, 2.0, 2.0, 1.0])
    flipped[:3, 3] = [38.0, -40.0, -40.0]
    one, two = run(data)[0][0], run(data[::-1], flipped)[0][0]
    assert one.side == two.side == "left"
    assert one.voxel == [4, 20, 21] and two.voxel == [35, 20, 21]


def test_midline():
    data = np.zeros((40, 40, 40), np.float32)
    data[18:22, 18:22, 18:22] = 30
    assert run(data)[0][0].side == "midline"


def test_brain_box_spans_the_brain_in_mm():
    brain = np.zeros((10, 20, 30), bool)  # z, y, x
    brain[2:5, 4:11, 6:21] = True
    affine = np.diag([1.0, 1.0, 1.0, 1.0])
    affine[:3, 3] = [100, 200, 300]
    np.testing.assert_array_equal(brain_box(brain, affine), [[106, 204, 302], [120, 210, 304]])


def test_thin_layer_at_the_rim_is_listed_last_however_large():
    """Bone's partial volume must not lead the list; a collection that reaches deeper may."""
    brain = np.zeros((80, 80, 80), bool)
    brain[5:75, 5:75, 5:75] = True
    depth = Volume(depth_map(brain.transpose(2, 1, 0)).transpose(2, 1, 0), DEEP.affine)
    data = np.zeros(brain.shape, np.float32)
    data[5:8, 10:70, 10:70] = 60  # 3 mm thick, 10.8 mL
    data[40:46, 40:46, 40:46] = 20  # 0.2 mL
    findings, _ = run(data, DEEP.affine, brain=brain, depth=depth)
    assert [(f.rim, f.volume_ml) for f in findings] == [(False, 0.22), (True, 10.8)]
    assert findings[1].words.endswith("at the brain's rim")
    data[5:17, 10:70, 10:70] = 60  # 12 mm thick: a subdural
    findings, _ = run(data, DEEP.affine, brain=brain, depth=depth)
    assert not findings[0].rim and findings[0].volume_ml == 43.2
    assert depth.data[5, 40, 40] == 1 and depth.data[5 + int(RIM_MM), 40, 40] == RIM_MM + 1


# anatomy at well-known MNI152 coordinates
PLACES = {
    "frontal": [(20, 40, 40), (-38, -18, 58), (50, 25, 10), (20, 40, -15)],
    "parietal": [(-45, -32, 55), (45, -62, 38), (5, -60, 45)],
    "temporal": [(40, 10, -30), (-60, -30, -8), (35, -50, -16), (-58, -40, 12)],
    "occipital": [(15, -95, 0), (12, -75, -5)],
    "deep": [(12, -18, 8), (28, 0, 2)],
    "cerebellum": [(25, -65, -35), (0, -60, -15)],
    "brainstem": [(0, -28, -32)],
}


@pytest.mark.parametrize("scale", [0.92, 1.0, 1.06])
def test_parts_of_the_brain_at_known_places_in_heads_of_any_size(scale):
    box = np.array([[-72.0, -107.0, -72.0], [72.0, 73.0, 82.0]]) * scale + 11.0
    for part, points in PLACES.items():
        for point in points:
            assert lobe(*proportional(np.array(point) * scale + 11.0, box)) == part, point


def test_words_of_places():
    assert words("left", "temporal") == "left temporal"
    assert words("midline", "brainstem") == "midline, brainstem"


def test_depth_of_the_rim_is_that_of_scipy():
    brain = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=(40, 45, 50)), 4) > -0.005
    expected = ndimage.distance_transform_edt(np.pad(brain, 1))[1:-1, 1:-1, 1:-1]
    found = depth_map(brain)
    near = expected <= 5
    assert (near & brain).sum() > 1000 and (expected > 5).sum() > 1000
    np.testing.assert_allclose(found[near], expected[near], rtol=1e-6)
    assert found[~near].min() > 5
