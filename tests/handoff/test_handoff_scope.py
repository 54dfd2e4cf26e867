"""Warnings that a scan is a stranger to the model."""

import json
import re
from html import unescape

import numpy as np
import pytest
from handoff_case import HEALTHY, arguments, write_shared, write_subject
from head_case import rigid

from normct.common.files import read_json
from normct.common.volumes import Volume, read_volume, write_volume
from normct.handoff.patient import main
from normct.handoff.scope import acquisition_warnings, contrast_ml, metal_ml, skull_gap_cm2
from normct.score.trained_on import describe

TRAINED = describe(
    [{"kernel": "STD+", "vendor": "GE"}],
    [{"slice_thickness_mm": 5.0, "noise_hu": 4.0}, {"slice_thickness_mm": 3.0, "noise_hu": 5.0}],
    {"ages": [40, 70], "scanners": ["A"]},
)
LIKE = (
    {"slice_thickness_mm": 4.0, "noise_hu": 4.5},
    {"kernel": "STD+", "vendor": "GE"},
    {"age": 50, "scanner": "a "},
)


def test_scan_like_those_of_the_training_gets_no_warning():
    assert acquisition_warnings(TRAINED, *LIKE) == ([], [])


@pytest.mark.parametrize(
    ("place", "change", "word"),
    [
        (0, {"slice_thickness_mm": 1.0}, "slice thickness 1 mm: the model was trained on 3–5 mm"),
        (0, {"noise_hu": 15.0}, "noise 15 HU"),
        (1, {"kernel": "BONE"}, "kernel BONE"),
        (1, {"vendor": "Siemens"}, "vendor Siemens"),
        (2, {"age": 88}, "age 88 years: the model was trained on 40–70 years"),
        (2, {"age": 9}, "adult brains only"),
        (2, {"scanner": "B"}, "scanner"),
    ],
)
def test_what_differs_is_named_alone(place, change, word):
    given = [dict(part) for part in LIKE]
    given[place] |= change
    warnings, unchecked = acquisition_warnings(TRAINED, *given)
    assert len(warnings) == 1 and word in warnings[0] and unchecked == []


def test_what_nobody_knows_is_not_called_checked():
    warnings, unchecked = acquisition_warnings({}, {}, {}, {"age": None, "scanner": None})
    assert warnings == []
    assert unchecked == ["age", "slice thickness", "noise", "kernel", "vendor", "scanner"]


def ball_head(slices=30):
    """Skull and brain of a ball in the viewer's slices: 1 mm pixels, 5 mm apart."""
    z, y, x = np.indices((slices, 220, 220), dtype=np.float32)
    r = np.sqrt(((z - slices / 2) * 5) ** 2 + (y - 110) ** 2 + (x - 110) ** 2)
    hu = np.where(r < 70, 35, np.where(r < 78, 900, np.where(r < 84, 40, -1000))).astype(np.float32)
    return hu, r < 68


def test_contrast_metal_and_a_gap_in_the_skull_are_seen_and_else_nothing():
    hu, brain = ball_head()
    ct = Volume(hu, np.diag([5.0, 1.0, 1.0, 1.0]))
    mask = brain.astype(np.uint8)
    assert contrast_ml(hu, brain, 1.0, 5.0) == 0
    assert metal_ml(ct, mask) == 0
    assert skull_gap_cm2(hu, brain, 1.0, 5.0) < 1
    vessel = hu.copy()
    vessel[12:20, 100:112, 100:112] = 180
    assert contrast_ml(vessel, brain, 1.0, 5.0) == pytest.approx(8 * 144 * 5 / 1000)
    clip = hu.copy()
    clip[15, 90:94, 90:94] = 3071
    assert metal_ml(Volume(clip, ct.affine), mask) == pytest.approx(0.08)
    open_skull = hu.copy()
    side = np.s_[17:22, 85:135, 150:]  # 5 slices, 5 cm along: about 12 cm²
    open_skull[side] = np.minimum(open_skull[side], 40)
    assert skull_gap_cm2(open_skull, brain, 1.0, 5.0) == pytest.approx(12, abs=4)


def test_gap_is_one_wherever_it_lies():
    """A gap across the ray where counting starts is not cut in two."""
    hu, brain = ball_head()
    areas = []
    for turns in range(4):
        cut = hu.copy()
        cut[17:22, 85:135, 150:] = np.minimum(cut[17:22, 85:135, 150:], 40)
        areas.append(skull_gap_cm2(np.rot90(cut, turns, (1, 2)), np.rot90(brain, turns, (1, 2)), 1.0, 5.0))
    assert max(areas) - min(areas) < 2


def test_page_warns_of_a_stranger(finished_run):
    low = finished_run / "handoff" / "patients" / "sub-low"
    assert read_json(low / "patient.json")["out_of_scope"] == []
    assert 'id="scope"' not in (low / "index.html").read_text("utf-8")


@pytest.fixture(scope="module")
def stranger(tmp_path_factory):
    """Page and record of an old patient's thin slices, another scanner's, with contrast agent, a clip and a gap."""
    root = tmp_path_factory.mktemp("stranger")
    write_shared(root, {"sub-a": "test"})
    write_subject(root, "sub-a", shape=(100, 110, 170), zooms=(2.0, 2.0, 1.0))
    path = root / "cohort" / "sub-a" / "ct.nii.gz"
    ct = read_volume(path)
    to_atlas = np.linalg.inv(rigid()) @ ct.affine
    x, y, z = np.einsum("ab,bijk->aijk", to_atlas[:3, :3], np.indices(ct.data.shape)) + to_atlas[
        :3, 3
    ].reshape(3, 1, 1, 1)
    ct.data[np.abs([x + 30, y - 10, z - 25]).max(axis=0) < 10] = 180  # a block of contrast agent
    ct.data[np.abs([x - 25, y + 20, z - 20]).max(axis=0) < 3] = 3071  # a clip
    gap = (x > 30) & (np.abs(y + 10) < 35) & (z > 28) & (z < 60) & (ct.data > 60)
    ct.data[gap] = 40
    write_volume(path, Volume(ct.data.astype(np.int16), ct.affine))
    np.savez(root / "score" / "statistical_atlas.npz", trained_on=np.array(json.dumps(TRAINED)))
    record = root / "cohort" / "sub-a" / "import.json"
    other = {"slice_thickness_mm": 1.0, "kernel": "BONE", "tube_current_ma": None, "vendor": "Siemens"}
    record.write_text(json.dumps(read_json(record) | {"acquisition": other}))
    main(arguments(root, "sub-a", person={"age": 88, "scanner": "B"}))
    folder = root / "handoff" / "patients" / "sub-a"
    return unescape((folder / "index.html").read_text("utf-8")), read_json(folder / "patient.json")


def test_page_names_everything_that_is_strange(stranger):
    text, record = stranger
    box = re.search(r'<div class="note" role="note" id="scope">(.*?)</div>', text, re.DOTALL)[1]
    listed = re.findall(r"<li>(.*?)</li>", box)
    for words in (
        "age 88 years: the model was trained on 40–70 years",
        "slice thickness 1 mm: the model was trained on 3–5 mm",
        "kernel BONE: not among those that the model was trained on",
        "vendor Siemens: not among",
        "scanner (by its name in the table): not among",
        "contrast agent suspected",
        "metal suspected in or near the brain",
        "a gap in the skull of about",
    ):
        assert sum(line.startswith(words) for line in listed) == 1, words
    assert len(listed) == 8 and record["out_of_scope"] == listed


def test_page_shows_quality_picture_and_score_among_healthy_scans(stranger):
    text, _ = stranger
    assert re.search(r'<img class="quality" src="data:image/png;base64,[A-Za-z0-9+/=]{50,}"', text)
    svg = re.search(r'<svg class="score".*?</svg>', text, re.DOTALL)[0]
    assert svg.count('<circle class="healthy"') == len(HEALTHY)
    assert svg.count('class="this"') == 1 and "this scan: 1.6" in svg
