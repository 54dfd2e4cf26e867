"""The thesis's score against hand computation."""

from __future__ import annotations

import numpy as np
import pytest

from normct.score.thesis import head_score, spread_alpha, thesis_score

# two slices, two transforms, probabilities of the true rotation, vertical and horizontal label
P = np.array([[[0.9, 0.6, 0.3], [0.5, 0.5, 0.5]], [[1.0, 1.0, 1.0], [0.8, 0.2, 0.5]]])


def test_head_score_is_one_minus_the_mean_probability_averaged_over_transforms():
    # slice 0: 1 - (0.6 + 0.5)/2; slice 1: 1 - (1 + 0.5)/2
    np.testing.assert_allclose(head_score(np.log(P)), [0.45, 0.25])


def test_head_score_product_and_literal():
    # products: 0.162, 0.125 and 1, 0.08
    np.testing.assert_allclose(head_score(np.log(P), "product"), [1 - (0.162 + 0.125) / 2, 1 - 1.08 / 2])
    np.testing.assert_allclose(head_score(np.log(P), "mean", "p"), [0.55, 0.75])


def test_head_score_keeps_the_order_of_nearly_certain_slices():
    log_p = np.float32([[[-1e-9] * 3], [-2e-9 * np.ones(3)]])
    scores = head_score(log_p)
    assert 0 < scores[0] < scores[1]
    assert scores[1] == pytest.approx(2 * scores[0], rel=1e-6)


def test_thesis_score_weighs_head_and_scaled_residual():
    np.testing.assert_allclose(
        thesis_score([0.45, 0.25], [10.0, 20.0], alpha=0.02, weight=0.25), [0.3875, 0.2875]
    )


@pytest.mark.parametrize(("weight", "expected"), [(0.0, [0.45, 0.25]), (1.0, [0.2, 0.4])])
def test_lambda_at_its_ends_is_head_or_residual_alone(weight, expected):
    np.testing.assert_allclose(thesis_score([0.45, 0.25], [10.0, 20.0], 0.02, weight), expected)


def test_alpha_gives_both_parts_one_spread():
    l2, s_c = np.array([1.0, 3.0, 5.0, 7.0]), np.array([0.1, 0.1, 0.3, 0.3])
    alpha = spread_alpha(l2, s_c)
    assert np.std(alpha * l2) == pytest.approx(np.std(s_c))
    assert np.std(spread_alpha(l2, None) * l2) == pytest.approx(1.0)


def test_alpha_of_a_constant_part_stays_finite_and_positive():
    assert spread_alpha(np.ones(4), np.array([0.1, 0.2, 0.3, 0.4])) == 1.0
    assert spread_alpha(np.array([1.0, 3.0]), np.full(2, 0.5)) == pytest.approx(1.0)
