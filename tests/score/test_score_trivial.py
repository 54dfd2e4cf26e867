"""Trivial baselines and the statistical atlas: directions, closed forms."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from factories import make_store
from normct.common.errors import NormctError
from normct.common.slices import empty_store
from normct.score.statistical_atlas import build, hu_window, voxel_statistics
from normct.score.trivial import acquisition_distance, atlas_z, slice_measures

WINDOW = (0.0, 80.0)
MEASURES = {"slice_thickness_mm": 5.0, "noise_hu": 4.0, "pitch_deg": 2.0, "mi": 0.5}


@pytest.fixture(scope="module")
def atlas():
    scans = [(make_store(f"sub-{seed}", seed), MEASURES | {"noise_hu": 4.0 + seed}) for seed in range(3)]
    return build([*scans, (empty_store("sub-aside"), {})], WINDOW, prior=4, sd_floor=0.02)


def measures(store, atlas):
    return slice_measures(store, atlas, atlas_z(store, atlas), WINDOW)


def test_larger_always_means_more_abnormal(atlas):
    store = make_store(seed=9)
    found = measures(store, atlas)
    peak = int(atlas["peak_z"])
    assert found["brain_area"][peak] == store.brain[peak].sum() > found["brain_area"][20]
    assert found["slice_position"].argmax() == peak
    assert found["slice_position"][peak + 10] == found["slice_position"][peak - 10] == -10


@pytest.mark.parametrize("shift", [-0.1, 0.1])
def test_mean_hu_grows_with_the_distance_in_either_direction(atlas, shift):
    store = make_store(seed=9)
    image = np.where(store.mask, store.image + np.float16(shift), 0).astype(np.float16)
    found, before = measures(replace(store, image=image), atlas), measures(store, atlas)
    assert found["mean_hu"][70] == pytest.approx(8.0, abs=0.3)
    assert before["mean_hu"][70] < 0.3


def test_statistical_atlas_sees_the_lesion_where_it_is(atlas):
    healthy, lesion = make_store(seed=9), make_store(seed=9, lesion=True)
    gain = measures(lesion, atlas)["statistical_atlas"] - measures(healthy, atlas)["statistical_atlas"]
    assert gain[80] > 0.05
    np.testing.assert_array_equal(gain[100:], 0)
    z = atlas_z(lesion, atlas)
    assert z[80][lesion.mask[80]].max() > 3
    assert not z[~lesion.mask].any()


def test_blank_slices_depart_from_nothing(atlas):
    found = measures(make_store(), atlas)
    assert found["mean_hu"][150] == found["statistical_atlas"][150] == found["brain_area"][150] == 0


def test_atlas_counts_scans_and_leaves_set_aside_ones_out(atlas):
    assert (int(atlas["scans"]), int(atlas["slices"])) == (3, 3 * int(make_store().usable.sum()))
    assert atlas["count"].max() == 3
    assert atlas["mean"].shape == atlas["sd"].shape == (155, 128, 128)
    assert atlas["area"][70] == make_store().brain[70].sum()
    assert np.isfinite(atlas["hu_mean"]).all()


def test_voxel_statistics_match_the_closed_form():
    values = np.array([[0.1, 0.4], [0.3, 0.4]])  # two scans, two voxels
    count = np.array([2, 2])
    mean, sd = voxel_statistics(values.sum(axis=0), (values**2).sum(axis=0), count, prior=3.0, sd_floor=1e-6)
    np.testing.assert_allclose(mean, [0.2, 0.4], rtol=1e-6)
    pooled = (0.02 + 0.0) / 2  # sums of squares over degrees of freedom
    np.testing.assert_allclose(sd**2, (np.array([0.02, 0.0]) + 3 * pooled) / (1 + 3) * 1.5, rtol=1e-5)


def test_unseen_voxels_and_single_scans_have_a_usable_spread():
    total, count = np.array([0.6, 0.2, 0.0]), np.array([1, 1, 0])
    mean, sd = voxel_statistics(total, total**2, count, prior=4.0, sd_floor=0.02)
    assert mean[2] == pytest.approx(0.4)
    assert (sd > 0.1).all()
    assert np.isfinite(sd).all()
    assert (voxel_statistics(total * 0, total * 0, count, 4.0, 0.02)[1] == np.float32(0.02)).all()


def test_no_training_scan_left_is_said_in_words():
    with pytest.raises(NormctError, match="quality control"):
        build([(empty_store("sub-a"), {})], WINDOW, 4, 0.02)


def test_acquisition_distance(atlas):
    assert acquisition_distance(MEASURES | {"noise_hu": 5.0}, atlas) == pytest.approx(0.0)
    # thickness has no spread in training: 1 mm is four floors of 0.25 mm; three others at their mean
    far = acquisition_distance(MEASURES | {"noise_hu": 5.0, "slice_thickness_mm": 6.0}, atlas)
    assert far == pytest.approx(1.0)
    assert acquisition_distance({"slice_thickness_mm": 6.0, "mi": None}, atlas) == pytest.approx(4.0)
    assert np.isnan(acquisition_distance({}, atlas))


def test_window_of_min_max_has_no_hu():
    assert hu_window("window", [0, 80]) == (0.0, 80.0)
    assert hu_window("volume", [0, 80]) == (0.0, 1.0)
