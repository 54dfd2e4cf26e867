"""Findings: sizes, signs, sides and words."""

import numpy as np
import pytest

from normct.common.volumes import Volume
from normct.handoff.findings import brain_box, find

AFFINE = np.diag([2.0, 2.0, 2.0, 1.0])
AFFINE[:3, 3] = -40.0
BOX = np.array([[-40.0, -40.0, -40.0], [38.0, 38.0, 38.0]])


def run(data, affine=AFFINE, min_ml=0.1, brain=None):
    brain = np.ones(data.shape, bool) if brain is None else brain
    return find(Volume(data, affine), brain, threshold=10.0, min_ml=min_ml, to_atlas=np.eye(4), box=BOX)


def test_signs_are_kept_apart_and_the_strongest_leads():
    data = np.zeros((40, 40, 40), np.float32)
    data[5:10, 30:35, 30:35] = 20  # left (x < 0), front, upper
    data[30:36, 5:11, 5:11] = -40  # right, back, lower
    data[5:10, 35, 30:35] = -15  # touches the first, of the other sign
    findings, mask = run(data)
    assert [f.kind for f in findings] == ["hypodense", "hyperdense", "hypodense"]
    assert (findings[0].side, findings[0].depth, findings[0].level) == ("right", "back", "lower")
    assert (findings[1].side, findings[1].depth, findings[1].level) == ("left", "front", "upper")
    assert findings[0].volume_ml == pytest.approx(216 * 0.008, abs=0.01)
    assert (findings[0].mean, findings[0].peak) == (-40.0, -40.0)
    assert findings[1].words == "hyperdense, 1.0 mL, left, front, upper third"
    assert (mask == 1).sum() == 125 and (mask == 2).sum() == 216 + 25


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
