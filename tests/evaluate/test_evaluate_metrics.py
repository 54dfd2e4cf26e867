from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from normct.evaluate.metrics import draw_patients, interval, mean_sd, of_draws, point, prevalences, resampled


def cohort(seed: int, patients: int = 12, slices: int = 30, ties: bool = True):
    rng = np.random.default_rng(seed)
    patient = np.repeat(np.arange(patients), slices)
    positive = (patient % 3 == 0) & (rng.random(len(patient)) < 0.5)
    values = rng.standard_normal(len(patient)) + 0.8 * positive + 0.3 * rng.standard_normal(patients)[patient]
    return np.round(values, 1) if ties else values, positive, patient


def test_point_on_a_case_by_hand():
    # pairs (pos, neg): 3>2, 3>1, 2=2 (half), 2>1: 3.5 of 4; precision at 3: 1, at the tie of 2: 2/3
    auroc, aupr = point(np.array([3.0, 2.0, 2.0, 1.0]), np.array([True, True, False, False]))
    assert auroc == pytest.approx(3.5 / 4)
    assert aupr == pytest.approx((1 + 2 / 3) / 2)


def test_one_class_is_an_error_not_a_half():
    with pytest.raises(ValueError, match="both classes"):
        point(np.arange(3.0), np.zeros(3, bool))


@pytest.mark.parametrize("ties", [True, False])
def test_identity_draw_equals_sklearn(ties):
    values, positive, patient = cohort(1, ties=ties)
    auroc, aupr = resampled(values, positive, patient, np.ones((1, 12), np.float32))
    assert auroc[0] == pytest.approx(roc_auc_score(positive, values), abs=1e-6)
    assert aupr[0] == pytest.approx(average_precision_score(positive, values), abs=1e-6)


def test_every_draw_equals_sklearn_with_sample_weights():
    values, positive, patient = cohort(2)
    counts = draw_patients(np.where(np.arange(12) % 3 == 0, "icb", "healthy"), 20, 5)
    auroc, aupr = resampled(values, positive, patient, counts)
    for draw, weights in enumerate(counts[:, patient]):
        assert auroc[draw] == pytest.approx(roc_auc_score(positive, values, sample_weight=weights), abs=1e-6)
        expected = average_precision_score(positive, values, sample_weight=weights)
        assert aupr[draw] == pytest.approx(expected, abs=1e-6)


def test_more_positives_than_a_chunk(monkeypatch):
    values, positive, patient = cohort(3)
    counts = draw_patients(np.where(np.arange(12) % 3 == 0, "icb", "healthy"), 30, 1)
    whole = resampled(values, positive, patient, counts)
    monkeypatch.setattr("normct.evaluate.metrics._CHUNK", 7)
    np.testing.assert_allclose(resampled(values, positive, patient, counts), whole, rtol=1e-6)


def test_blocks_of_draws_are_all_draws(monkeypatch):
    rng = np.random.default_rng(3)
    patient = np.repeat(np.arange(12), 9)
    positive = patient % 3 == 0
    values = rng.normal(size=len(patient)).round(1) + positive
    strata = np.where(np.arange(12) % 3 == 0, "icb", "healthy")
    whole = draw_patients(strata, 30, 1)
    expected = (*resampled(values, positive, patient, whole), prevalences(positive, patient, whole))
    monkeypatch.setattr("normct.evaluate.metrics._DRAWS", 7)
    counts = draw_patients(strata, 30, 1)
    np.testing.assert_array_equal(counts, whole)
    found = (*resampled(values, positive, patient, counts), prevalences(positive, patient, counts))
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(of_draws(counts, lambda some: some @ np.arange(12)), whole @ np.arange(12))
    assert np.isnan(interval(of_draws(counts[:0], lambda some: some[:, 0]))).all()


def test_draws_keep_the_size_of_each_stratum_and_repeat():
    strata = np.array(["healthy"] * 5 + ["icb"] * 3 + ["tumor"])
    counts = draw_patients(strata, 50, 3)
    for stratum, size in (("healthy", 5), ("icb", 3), ("tumor", 1)):
        assert (counts[:, strata == stratum].sum(axis=1) == size).all()
    np.testing.assert_array_equal(counts, draw_patients(strata, 50, 3))
    assert not np.array_equal(counts, draw_patients(strata, 50, 4))


def test_patients_are_resampled_not_slices():
    """Copying every slice of every patient adds no information: the interval must not shrink."""
    values, positive, patient = cohort(4)
    counts = draw_patients(np.where(np.arange(12) % 3 == 0, "icb", "healthy"), 500, 0)
    once = interval(resampled(values, positive, patient, counts)[0])
    again = resampled(np.tile(values, 4), np.tile(positive, 4), np.tile(patient, 4), counts)[0]
    assert interval(again) == pytest.approx(once, abs=1e-6)


def test_interval_covers_a_known_case():
    """One slice a patient, normal shift 1: the true AUROC is 0.760; its SE at 60 + 60 is about 0.044."""
    rng = np.random.default_rng(0)
    positive = np.arange(120) < 60
    values = rng.standard_normal(120) + positive
    counts = draw_patients(np.where(positive, "icb", "healthy"), 1000, 0)
    low, high = interval(resampled(values, positive, np.arange(120), counts)[0])
    assert low < 0.760 < high
    assert 0.12 < high - low < 0.24


def test_draw_without_a_class_is_nan():
    counts = np.array([[1, 1], [0, 2], [2, 0]], np.float32)
    values, positive, patient = np.array([1.0, 0.0]), np.array([True, False]), np.array([0, 1])
    auroc, aupr = resampled(values, positive, patient, counts)
    assert auroc[0] == 1.0
    assert np.isnan(auroc[1:]).all()
    assert np.isnan(aupr[1:]).all()
    assert np.isnan(interval(auroc)).all()


def test_sd_of_one_value_is_unknown():
    assert np.isnan(mean_sd([0.7])[1])
    assert mean_sd([0.6, 0.8]) == pytest.approx((0.7, np.sqrt(0.02)))
    assert mean_sd([0.6, float("nan")])[0] == 0.6
