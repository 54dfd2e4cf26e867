"""Where along the head a scan stands out: levels of the atlas, and the scan's own slices that they point to."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from handoff_case import SETTINGS, Z_SETTINGS, arguments, write_levels, write_shared, write_subject
from head_case import ball_mask, native_grid, rigid

from normct.common.anatomy import ATLAS_SHAPE, atlas_affine
from normct.common.files import read_json
from normct.common.slices import GRID, SIZE, SliceStore
from normct.handoff.levels import (
    above_all,
    high_slices,
    place_levels,
    read_levels,
    strip_svg,
    unusual_places,
)
from normct.handoff.patient import main
from normct.handoff.viewer import Frame

POLE = (20.0, 52.0, 25.0, 10.0)
"""A ball near the frontal pole: with the head pitched by 12 degrees the slice through the brain's middle at its level
misses it."""
SHAPE, ZOOMS = (180, 200, 50), (1.1, 1.1, 3.0)


def slices_of(ball, flips):
    """Numbers, counted from 1 along the file, of the scan's slices that hold a tenth of the ball's largest section."""
    affine = native_grid(SHAPE, ZOOMS, flips)
    points = np.argwhere(ball_mask(ball)) @ atlas_affine()[:3, :3].T + atlas_affine()[:3, 3]
    native = points @ rigid()[:3, :3].T + rigid()[:3, 3]
    along = np.rint((native - affine[:3, 3]) @ np.linalg.inv(affine[:3, :3]).T)[:, 2].astype(int)
    count = np.bincount(along, minlength=SHAPE[2])
    return np.flatnonzero(count >= count.max() / 10) + 1


def numbers(words):
    spans = [[int(n) for n in part.split(" to ")] for part in words.split(", ")]
    return np.concatenate([np.arange(s[0], s[-1] + 1) for s in spans])


@pytest.mark.parametrize("flips", ["LPS", "LPI"])
def test_levels_point_to_the_slices_that_show_the_lesion(tmp_path, flips):
    write_shared(tmp_path, {"sub-a": "test"})
    write_subject(tmp_path, "sub-a", SHAPE, ZOOMS, flips=flips, ball=POLE)
    main(arguments(tmp_path, "sub-a", **Z_SETTINGS))
    record = read_json(tmp_path / "handoff" / "patients" / "sub-a" / "patient.json")
    true, said = slices_of(POLE, flips), numbers(record["high_slices"])
    assert set(said) <= set(range(true[0] - 1, true[-1] + 2))
    assert len(set(said) & set(true)) >= len(true) - 2
    # by the middle of the brain it would be other slices: what this test is for
    middle = native_grid(SHAPE, ZOOMS, flips)
    at = (rigid() @ (0, -20, POLE[2], 1))[:3] - middle[:3, 3]
    assert abs((np.linalg.inv(middle[:3, :3]) @ at)[2] + 1 - true.mean()) > 3
    levels = record["levels"]
    inside = ball_mask(POLE).any(axis=(0, 1))
    assert [level["z"] for level in levels if level["n_below"] == 4] == np.flatnonzero(inside).tolist()
    assert all(level["n_healthy"] == 4 and level["n_below"] in (2, 4) for level in levels)
    # of the two networks together, not of one of them
    assert levels[0]["score"] == pytest.approx(0.1 * levels[0]["z"])
    page = (tmp_path / "handoff" / "patients" / "sub-a" / "index.html").read_text("utf-8")
    assert f"slices {record['high_slices']}<" in page
    assert page.count('class="all"') == inside.sum()


def test_scores_without_healthy_slices_leave_the_drawing_out(tmp_path):
    """Scored with a bundle that was made before healthy slices were kept."""
    write_shared(tmp_path, {"sub-a": "test"})
    write_subject(tmp_path, "sub-a")
    table = tmp_path / "score" / "subjects" / "sub-a.parquet"
    pd.read_parquet(table).assign(rank=0, n_healthy=0).to_parquet(table)
    main(arguments(tmp_path, "sub-a"))
    folder = tmp_path / "handoff" / "patients" / "sub-a"
    record, page = read_json(folder / "patient.json"), (folder / "index.html").read_text("utf-8")
    assert record["status"] == "ok" and record["high_slices"] is None
    assert 'id="levels"' not in page and 'id="high"' not in page and 'id="level"' not in page


def test_only_usable_slices_of_the_wanted_score_are_levels(tmp_path):
    usable = np.zeros(ATLAS_SHAPE[2], bool)
    usable[40:60] = True
    high = np.zeros_like(usable)
    high[50:52] = True
    write_levels(tmp_path / "a.parquet", usable, high)
    levels = read_levels(tmp_path / "a.parquet", SETTINGS["method"], "thesis", "1")
    assert [level["z"] for level in levels] == list(range(40, 60))
    assert [level["score"] for level in levels] == pytest.approx([0.1 * z + 1 for z in range(40, 60)])
    assert [level["z"] for level in levels if above_all(level, 4)] == [50, 51]


@pytest.mark.parametrize("sign", [1, -1])
def test_the_most_unusual_place_of_a_slice_is_found_on_its_side_denser_or_not(sign):
    """Voxels of the atlas: a place on one side, far from the midline and off the middle from front to back."""
    mask = np.zeros((ATLAS_SHAPE[2], SIZE, SIZE), bool)
    mask[60:63, 10:118, 10:118] = True
    x, y, z = 60.0, 170.0, 61
    strange = np.zeros(mask.shape, np.float32)
    row, column = (round((v + 0.5) * SIZE / GRID - 0.5) for v in (y, x))
    strange[z, row - 2 : row + 3, column - 2 : column + 3] = sign * 8.0
    strange[z, 64, 64] = -sign * 9.0  # a single pixel is no place
    fine = np.zeros((len(mask), GRID, GRID), bool)
    store = SliceStore("sub-a", mask.astype(np.float16), mask, fine, fine, mask.any(axis=(1, 2)), False)
    places = unusual_places(store, strange[mask])
    assert places[z] == pytest.approx([x, y, z], abs=GRID / SIZE)
    assert np.isnan(places[:60]).all() and np.isnan(places[63:]).all() and np.isfinite(places[60:63]).all()


def test_slices_are_named_as_the_file_counts_them():
    levels = [{"slice": n, "n_below": 4, "n_healthy": 4} for n in (3, 3, 4, 5, 10)]
    levels += [{"slice": 7, "n_below": 3, "n_healthy": 4}, {"slice": 8, "n_below": 0, "n_healthy": 0}]
    assert high_slices(levels) == "3 to 5, 10"
    # of slices thinner than a level every second or third is pointed to
    thin = [level | {"slice": 2 * level["slice"]} for level in levels]
    assert high_slices(thin, 2) == "6 to 10, 20"
    assert high_slices(levels[5:]) is None


@pytest.mark.parametrize(("flipped", "slices"), [(False, [30, 34, 39]), (True, [21, 17, 12])])
def test_a_level_names_the_files_own_slice_where_the_viewer_shows_every_fifth(flipped, slices):
    view = Frame(
        rows=slice(0, 10),
        columns=slice(0, 10),
        height=10,
        width=10,
        slices=np.arange(0, 50, 5),
        pixel_mm=1.0,
        axis=2,
        depth=50,
        flipped=flipped,
        turn=np.eye(3)[:, :2],
        shape=(10, 10, 50),
    )
    to_view = np.diag([1, 1, 1 / 5, 1])
    places = np.stack([np.zeros(60), np.zeros(60), np.arange(60.0)], 1)
    places[40] = np.nan
    levels = [{"z": z, "score": 1.0, "n_below": 0, "n_healthy": 4} for z in (29, 33, 38, 40, 59)]
    placed = place_levels(levels, places, to_view, view)
    assert [level["slice"] for level in placed[:3]] == slices
    assert [level["view"] for level in placed] == [6, 7, 8, 9]
    assert [level["z"] for level in placed] == [29, 33, 38, 59]
    # beyond the file's end its last slice is meant
    assert placed[-1]["slice"] == (1 if flipped else 50)


def test_being_above_one_or_two_healthy_people_is_not_being_above_all():
    levels = [{"view": 0, "slice": n, "n_below": n, "n_healthy": n} for n in range(1, 9)]
    assert [level["slice"] for level in levels if above_all(level, 8)] == [4, 5, 6, 7, 8]
    assert high_slices(levels) == "4 to 8"
    assert strip_svg(levels).count('class="all"') == 5
    assert not above_all({"n_below": 0, "n_healthy": 0}, 0)


def test_bars_are_as_high_as_the_share_of_healthy_people_below():
    levels = [{"view": n, "n_below": n, "n_healthy": 4} for n in range(5)]
    bars = [
        line for line in strip_svg(levels).split("<rect ") if 'class="some"' in line or 'class="all"' in line
    ]
    heights = [float(bar.split('height="')[1].split('"')[0]) for bar in bars]
    assert heights[0] > 0 and np.diff(heights) == pytest.approx([9.25] * 4, abs=0.11)
    assert ['class="all"' in bar for bar in bars] == [False] * 4 + [True]
