from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from factories import ellipsoid
from normct.common.slices import DEPTH, GRID
from normct.evaluate.display_beyond import froc_table
from normct.evaluate.froc import Found, evaluate, lowest_allowed
from normct.evaluate.regions import VOXEL_ML, Forest, coverage, hits, lesions, sweep
from normct.evaluate.tables import read_csv


def test_forest_finds_the_regions_of_plain_labelling_at_every_threshold():
    noise = np.random.default_rng(1).standard_normal((20, 24, 22))
    volume = (4 * ndimage.gaussian_filter(noise, 1.0)).astype(np.float32)
    forest = Forest(volume, 0.5)
    for threshold in (0.5, 0.9, 1.3, 1.8, 99.0):
        where, region = forest.at(threshold)
        sizes = []
        for sign in (1, -1):
            labels, _ = ndimage.label(sign * volume > threshold, np.ones((3, 3, 3)))
            sizes += np.bincount(labels.ravel())[1:].tolist()
        assert sorted(np.bincount(region).tolist()) == sorted(sizes)
        assert set(where) == set(np.flatnonzero(np.abs(volume) > threshold))


def test_coverage_keeps_volume_and_place():
    lesion = ellipsoid((DEPTH, GRID, GRID), (80, 150, 70), (9, 14, 11))
    share = coverage(lesion)
    assert share.sum() * VOXEL_ML == pytest.approx(lesion.sum() / 1000, rel=1e-4)
    assert 0 <= share.min() <= share.max() <= 1 + 1e-6
    centre = ndimage.center_of_mass(share)
    assert centre == pytest.approx((80, 150.5 / 1.875 - 0.5, 70.5 / 1.875 - 0.5), abs=0.05)


def test_specks_of_a_lesion_are_dropped_but_not_its_only_piece():
    mask = np.zeros((DEPTH, GRID, GRID), bool)
    mask[50:52, 100:102, 100:102] = True  # 8 mm³
    assert len(lesions(mask)) == 1
    mask[80:90, 120:130, 120:130] = True  # 1 mL: the speck is none beside it
    assert len(lesions(mask)) == 1
    mask[20:30, 120:130, 120:130] = True
    assert len(lesions(mask)) == 2
    assert lesions(np.zeros_like(mask)) == []


def block(shape=(40, 40, 40)):
    """One lesion of 1000 pixels at x, y, z 10 to 19."""
    target = np.zeros(shape, np.float32)
    target[10:20, 10:20, 10:20] = 1.0
    return target


@pytest.mark.parametrize(("shared", "hit"), [(182, True), (181, False)])
def test_a_hit_is_a_tenth_of_the_union(shared, hit):
    """A region of 1000 pixels beside a lesion of 1000: 182 shared are 0.1001 of the union, 181 are 0.0995."""
    volume = np.zeros((40, 40, 40), np.float32)
    volume[18:29, 10:20, 10:20] = 3.0  # 200 shared, 1100 in all
    inside = np.argwhere(volume * block() > 0)
    volume[tuple(inside[: 200 - shared].T)] = 0
    rest = np.argwhere(volume > 0)[::-1][: int((volume > 0).sum()) - 1000]
    volume[tuple(rest.T)] = 0
    assert ((volume > 0).sum(), (volume * block() > 0).sum()) == (1000, shared)
    (found, count), *_ = sweep(volume, np.array([1.0]), [block()])
    assert (found.tolist(), count) == ([hit], 1)


def test_a_region_finds_one_lesion_and_small_ones_are_dropped():
    one, two = block(), np.roll(block(), 10, axis=0)  # lesions that touch, under one region
    volume = (one + two) * 5.0
    volume[35:37, 35:37, 35:37] = 9.0  # 8 pixels, 0.03 mL
    where, region = Forest(volume, 1.0).at(1.0)
    found, count = hits(where, region, [one, two])
    assert (found.sum(), count) == (1, 1)
    volume[19:21] = 0  # parted: each has its own
    found, count = hits(*Forest(volume, 1.0).at(1.0), [one, two])
    assert (found.sum(), count) == (2, 2)


def test_denser_and_less_dense_are_two_regions():
    volume = np.zeros((20, 20, 20), np.float32)
    volume[:5], volume[5:10] = 3.0, -3.0
    assert hits(*Forest(volume, 1.0).at(1.0), [])[1] == 2


def test_threshold_of_a_rate_keeps_to_the_strict_side():
    rate = np.array([[1.0, 3.0, 2.0, 0.5, 0.0], [5.0, 5.0, 5.0, 5.0, 5.0], [0.0, 0.0, 0.0, 0.0, 0.0]])
    # merged regions make few of many: the first 1.0 is not taken
    assert lowest_allowed(rate, 1.0).tolist() == [3, 5, 0]
    assert lowest_allowed(rate, 2.0).tolist() == [2, 5, 0]


def test_froc_by_hand(collected):
    from normct.evaluate.data import accepted_test, read_cohort
    from normct.evaluate.froc import FACTORS

    scans = accepted_test(read_cohort(collected))
    column, width = ("vae_kl", "calibrated"), len(FACTORS) + 1
    found = {}
    for i in range(4):  # two false findings each below the middle threshold, none above
        counts = np.where(np.arange(width) < 16, 2, 0)
        found[f"sub-h{i}"] = {column: Found(np.zeros((0, width), bool), counts)}
    for i in range(4):  # two lesions each: one found everywhere, one at low thresholds only
        hit = np.stack([np.ones(width, bool), np.arange(width) < 8])
        found[f"sub-a{i}"] = {column: Found(hit, np.zeros(width, int))}
    settings = {"bootstrap": 100, "seed": 0}
    table = evaluate(scans, found, {column: 2.0}, settings)["froc"].set_index(["subset", "false_per_scan"])
    focal = table.loc["focal"]
    assert focal.loc["0.5", ["sensitivity", "false_per_healthy_scan"]].tolist() == [0.5, 0.0]
    assert focal.loc["0.5", "threshold_value"] == pytest.approx(2.0 * FACTORS[16])
    assert focal.loc["2", ["sensitivity", "false_per_healthy_scan"]].tolist() == [1.0, 2.0]
    assert focal.loc["calibrated", ["sensitivity", "threshold_value"]].tolist() == [0.5, 2.0]
    assert (focal["n_lesions"] == 8).all()
    assert table.loc[("icb", "1"), "n_lesions"] == 6
    assert table.loc[("ischemia: lacunar", "1"), "n_lesions"] == 2


def test_froc_of_a_cohort(evaluated):
    table = read_csv(evaluated / "froc.csv")
    fused = table.query("method == 'fused' and map == 'calibrated' and subset == 'focal'")
    assert fused["false_per_scan"].tolist() == ["0.5", "1", "2", "4", "calibrated"]
    assert (fused["sensitivity"] == 1).all()  # z is ten times the noise in every lesion
    assert (fused["n_lesions"] == 4).all()
    assert set(table["subset"]) == {"focal", "icb", "ischemia", "ischemia: lacunar"}
    plain = table.query("method == 'statistical_atlas' and map == 'residual' and subset == 'focal'")
    assert plain["false_per_scan"].tolist() == ["0.5", "1", "2", "4", "calibrated"]  # a baseline is always on
    shown = froc_table(table, "residual")
    assert shown is not None
    assert "Statistical atlas" in [row[0] for row in shown.rows]
    assert shown.notes[1].startswith("Statistical atlas: its plain map")
    curve = read_csv(evaluated / "froc_curve.csv")
    assert curve["false_per_healthy_scan"].between(0, 1000).all()
