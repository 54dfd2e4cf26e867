"""The calibrated score: smoothing, z, leaving out, pooling and positions against values found by hand."""

from __future__ import annotations

import numpy as np
import pytest

from factories import ellipsoid
from normct.common.errors import NormctError
from normct.common.registry import POOL_SHARES
from normct.common.slices import DEPTH, SIZE
from normct.score.calibrated import CalibratedSettings, calibrated_scores, left_out
from normct.score.calibrated_map import fuse
from normct.score.files_calibrated import coarse, read_pooled, write_pooled
from normct.score.pooling import pool, top_mean
from normct.score.positions import channel_scores, position_statistics
from normct.score.reference import Frame, ReferenceSettings, Sums, collect, statistics
from normct.score.smoothing import MaskedSmoother, rim_distance
from normct.score.voxel_thresholds import z_thresholds

PLAIN = ReferenceSettings((0.0, 0.0), 4.0, 8.0, True)
BALL = ellipsoid((DEPTH, SIZE, SIZE), (70, 64, 64), (14, 12, 11))
ALL = CalibratedSettings(0.01, 8.0, 0.0, 0.1)


def noise(seed, frame):
    return np.random.default_rng(seed).standard_normal(len(frame.z)).astype(np.float32)


def test_smoothing_sees_the_brain_only():
    smooth = MaskedSmoother(BALL, (2.5, 2.5))
    np.testing.assert_allclose(smooth(np.full(BALL.sum(), 3.0)), 3.0, rtol=1e-5)
    bump = np.zeros(BALL.shape, np.float32)
    bump[70, 64, 64] = 1.0
    spread = smooth(bump[BALL])
    assert spread.argmax() == np.flatnonzero(bump[BALL])[0]
    assert 0 < spread.max() < 0.1


def test_no_smoothing_is_none():
    values = noise(0, Frame(BALL, PLAIN))
    np.testing.assert_array_equal(MaskedSmoother(BALL, (0.0, 0.0))(values), values)


def test_rim_distance_is_in_mm_even_at_the_edge_of_the_grid():
    block = np.zeros((DEPTH, SIZE, SIZE), bool)
    block[0:9, 10:17, 10:17] = True
    distance = np.zeros(block.shape)
    distance[block] = rim_distance(block)
    assert distance[4, 10, 13] == pytest.approx(1.875)
    assert distance[0, 13, 13] == pytest.approx(1.0)
    assert distance[4, 13, 13] == pytest.approx(5.0)


def test_voxel_mean_and_variance_equal_the_formula():
    frame, prior = Frame(BALL, PLAIN), PLAIN.prior_scans
    scans = [noise(s, frame) * 0.1 + 0.02 for s in range(5)]
    found = statistics(collect((frame, x, False) for x in scans), PLAIN)
    voxel = np.flatnonzero(BALL[BALL])[1000]
    at = tuple(np.argwhere(BALL)[voxel])
    x = np.array([scan[voxel] for scan in scans], float)
    assert found.mean[at] == pytest.approx(x.sum() / (5 + prior), rel=1e-4)
    within = ((x - x.mean()) ** 2).sum()
    assert found.spread[at] ** 2 == pytest.approx(within / (4 + prior), rel=1e-3)
    new = np.full(len(frame.z), 0.5, np.float32)
    mean = found.mean[at] + prior / (5 + prior) * found.rim_mean[frame.z[voxel], frame.bin[voxel]]
    rim = found.rim_variance[frame.z[voxel], frame.bin[voxel]]
    variance = (found.spread[at] ** 2 + found.follow[at] * rim) * (1 + 1 / (5 + prior))
    assert found.z(frame, new, prior)[voxel] == pytest.approx((0.5 - mean) / np.sqrt(variance), rel=1e-4)


def test_z_of_healthy_noise_has_unit_spread_and_a_shift_is_counted_in_sd():
    frame = Frame(BALL, PLAIN)
    found = statistics(collect((frame, 0.1 * noise(s, frame), False) for s in range(8)), PLAIN)
    z = found.z(frame, 0.1 * noise(99, frame), PLAIN.prior_scans)
    assert (z.mean(), z.std()) == (pytest.approx(0, abs=0.05), pytest.approx(1, abs=0.1))
    shifted = found.z(frame, 0.1 * noise(99, frame) + 0.3, PLAIN.prior_scans)
    assert shifted.mean() == pytest.approx(3, abs=0.3)


def test_the_rim_must_depart_further_and_is_not_cut_away():
    frame = Frame(BALL, PLAIN)
    wild = np.where(frame.bin == 0, 1.0, 0.1).astype(np.float32)
    found = statistics(collect((frame, wild * noise(s, frame), False) for s in range(3)), PLAIN)
    z = found.z(frame, np.full(len(frame.z), 0.5, np.float32), PLAIN.prior_scans)
    assert np.median(z[frame.bin == 0]) < 1
    assert np.median(z[frame.bin > 1]) > 3
    quiet = found.z(frame, wild * noise(50, frame), PLAIN.prior_scans)
    assert quiet[frame.bin == 0].std() == pytest.approx(quiet[frame.bin > 1].std(), rel=0.2)
    bleed = found.z(frame, np.where(frame.bin == 0, 8.0, 0.0).astype(np.float32), PLAIN.prior_scans)
    assert np.median(bleed[frame.bin == 0]) > 5


def test_leaving_out_equals_never_having_seen_the_scan():
    frame = Frame(BALL, PLAIN)
    spike = noise(3, frame)
    spike[500] = 100.0
    scans = [noise(s, frame) for s in range(3)]
    without = statistics(collect((frame, x, False) for x in scans), PLAIN)
    sums = collect((frame, x, False) for x in [*scans, spike])
    in_sample = statistics(sums, PLAIN).z(frame, spike, PLAIN.prior_scans)[500]
    sums.add(frame, spike, sign=-1)
    honest = statistics(sums, PLAIN).z(frame, spike, PLAIN.prior_scans)
    expected = without.z(frame, spike, PLAIN.prior_scans)
    np.testing.assert_allclose(honest, expected, rtol=0.02, atol=0.02)
    assert honest[500] > 50 > 5 > in_sample


def test_stop_scans_widen_the_variance_and_move_no_mean():
    frame = Frame(BALL, PLAIN)
    scans = [(frame, 0.1 * noise(s, frame), False) for s in range(3)]
    before = statistics(collect(scans), PLAIN)
    after = statistics(collect([*scans, (frame, noise(9, frame) + 5, True)]), PLAIN)
    np.testing.assert_array_equal(before.mean, after.mean)
    np.testing.assert_allclose(before.rim_mean, after.rim_mean)
    assert np.median(after.spread[BALL]) > 3 * np.median(before.spread[BALL])


def test_outside_every_calibration_brain_the_rim_model_speaks():
    frame, wider = Frame(BALL, PLAIN), Frame(ellipsoid(BALL.shape, (70, 64, 64), (16, 14, 13)), PLAIN)
    found = statistics(collect((frame, 0.1 * noise(s, frame), False) for s in range(3)), PLAIN)
    z = found.z(wider, np.full(len(wider.z), 0.2, np.float32), PLAIN.prior_scans)
    assert np.isfinite(z).all()
    new = ~BALL[wider.mask]
    assert 0.5 < np.median(z[new]) < 3


def test_one_scan_and_none_give_finite_z():
    frame = Frame(BALL, PLAIN)
    one = statistics(collect([(frame, noise(0, frame), False)]), PLAIN)
    assert np.isfinite(one.z(frame, noise(1, frame), PLAIN.prior_scans)).all()
    assert np.isfinite(statistics(Sums.empty(), PLAIN).z(frame, noise(1, frame), 4.0)).all()


def test_top_share_by_hand():
    assert top_mean(np.array([1.0, 5.0, 3.0, 4.0]), 0.5) == 4.5
    assert top_mean(np.array([1.0, 5.0, 3.0, 4.0]), 0.01) == 5.0
    assert top_mean(np.array([1.0, 5.0, 3.0, 4.0]), 1.0) == 3.25
    assert top_mean(np.zeros(0), 0.1) == 0.0
    slices = np.array([2, 2, 2, 2, 7])
    found = pool(np.array([1, -6, 3, 2, -4], np.float32), slices, [0.01, 0.5])
    assert found.shape == (2, 2, DEPTH)
    assert found[:, 0, 2].tolist() == [3.0, 2.5]
    assert found[:, 1, 2].tolist() == [6.0, 2.5]
    assert found[:, :, 7].tolist() == [[-4.0, 4.0]] * 2
    assert not found[..., [0, 3, 154]].any()


def test_a_share_among_others_is_that_share_alone(tmp_path):
    rng = np.random.default_rng(0)
    slices = np.sort(rng.integers(0, DEPTH, 20_000))
    z = rng.standard_normal(len(slices)).astype(np.float32)
    together = pool(z, slices, POOL_SHARES)
    for share, found in zip(POOL_SHARES, together, strict=True):
        expected = [[top_mean(s * z[slices == k], share) for k in range(DEPTH)] for s in (1, -1)]
        np.testing.assert_allclose(found, np.array(expected), rtol=1e-6)
    write_pooled(tmp_path / "p.npz", "sub-a", "test", {("vae_kl", "0"): together}, POOL_SHARES)
    np.testing.assert_array_equal(read_pooled(tmp_path / "p.npz", 0.02)["vae_kl", "0"], together[4])
    with pytest.raises(NormctError, match=r"pool_share 0\.03 was not pooled"):
        read_pooled(tmp_path / "p.npz", 0.03)


def test_positions_take_out_what_healthy_slices_have_in_common():
    usable = np.ones(DEPTH, bool)
    trend = np.linspace(1, 6, DEPTH)
    scans = [
        (np.stack([trend + 0.1 * s, 2 * trend - 0.2 * s]).astype(np.float32), usable) for s in (-1, 0, 1)
    ]
    mean, sd = position_statistics(scans, 4.0)
    np.testing.assert_allclose(mean[0, 20:130], trend[20:130], atol=0.02)
    z = channel_scores(scans[1][0], usable, mean, sd, 0.0)
    assert np.abs(z[:, 20:130]).max() < 0.3
    high = channel_scores(scans[1][0] + 2, usable, mean, sd, 0.0)
    assert (high[:, 20:130] > 3).all()


def test_unusable_slices_enter_no_neighbour():
    usable = np.ones(DEPTH, bool)
    usable[60:] = False
    pooled = np.where(usable, 0.0, 1e6) * np.ones((2, 1))
    z = channel_scores(pooled, usable, np.zeros((2, DEPTH)), np.ones((2, DEPTH)), 4.0)
    assert not z.any()
    flat = channel_scores(np.ones((2, DEPTH)), usable, np.zeros((2, DEPTH)), np.ones((2, DEPTH)), 4.0)
    np.testing.assert_allclose(flat[:, :60], 1.0)


def test_channels_are_added_and_the_highest_slices_make_the_volume():
    usable = np.zeros(DEPTH, bool)
    usable[:20] = True
    pooled = {("vae_kl", s): np.zeros((2, DEPTH), np.float32) for s in ("0", "1")}
    pooled["vae_kl", "0"][0, 4], pooled["vae_kl", "0"][1, 4] = 3.0, 5.0
    positions = {key: np.stack([np.zeros((2, DEPTH)), np.ones((2, DEPTH))]) for key in pooled}
    slices, volumes = calibrated_scores(pooled, usable, positions, ALL)
    by_seed = {s.seed: s for s in slices}
    assert by_seed["0"].per_slice[4] == 8.0
    assert by_seed["all"].per_slice[4] == 4.0
    scan = {v.seed: v for v in volumes}
    assert (scan["0"].value, scan["0"].score) == (4.0, "calibrated")  # two of twenty slices
    assert scan["0"].channels == {"hyper": 1.5, "hypo": 2.5}
    assert calibrated_scores(pooled, usable, {}, ALL) == ([], [])


def test_all_scans_of_a_patient_are_left_out():
    usable = np.ones(DEPTH, bool)
    one, two, far = ({("vae_kl", "0"): np.full((2, DEPTH), v, np.float32)} for v in (1.0, 2.0, 9.0))
    scans = {"sub-a": ("p", one, usable), "sub-b": ("p", two, usable), "sub-c": ("q", far, usable)}
    found = left_out(scans, ALL)
    for subject, usual in (("sub-a", 9.0), ("sub-b", 9.0), ("sub-c", 1.5)):
        np.testing.assert_allclose(found[subject]["vae_kl", "0"][0][:, 20:130], usual, rtol=1e-3)


def test_fusion_weighs_the_atlas_as_much_as_all_networks_together():
    z = {
        ("statistical_atlas", "n/a"): np.array([4.0], np.float32),
        ("vae_kl", "0"): np.array([1.0], np.float32),
        ("cevae", "0"): np.array([3.0], np.float32),
        ("vae_kl", "1"): np.array([0.0], np.float32),
        ("cevae", "1"): np.array([0.0], np.float32),
    }
    fused = fuse(z, ["statistical_atlas", "networks"])
    assert {k: float(v[0]) for k, v in fused.items()} == {("fused", "0"): 3.0, ("fused", "1"): 2.0}
    assert fuse(z, ["cevae"])["fused", "0"] == 3.0
    with pytest.raises(NormctError, match=r"score\.fusion names denoising.*vae_kl, cevae"):
        fuse(z, ["denoising", "vae_kl"])


def test_thresholds_and_spread_of_z():
    values = np.random.default_rng(0).standard_normal(40_000).astype(np.float16)
    limits, spread = z_thresholds(
        [lambda: {"vae_kl": values[:15_000]}, lambda: {"vae_kl": values[15_000:]}], 0.01
    )
    assert limits["vae_kl"] == pytest.approx(2.576, abs=0.08)
    assert spread["vae_kl"] == pytest.approx(1, abs=0.02)


def test_rounded_statistics_are_within_two_per_cent():
    values = np.random.default_rng(0).uniform(1e-3, 1e3, 1000)
    np.testing.assert_allclose(coarse(values).astype(float), values, rtol=0.02)
    assert coarse(np.zeros(3)).tolist() == [0, 0, 0]
