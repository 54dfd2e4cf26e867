from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest

from normct.common.binomial import exact_interval
from normct.evaluate.data import of_matrix
from normct.evaluate.display import operating_table
from normct.evaluate.operating import operating_points, threshold_at


def test_operating_points_by_hand():
    healthy = {"vae_kl": {"thesis": {"0": [float(i) for i in range(1, 11)]}}}
    units = pd.DataFrame({"group": ["abnormal"] * 4 + ["healthy"] * 5, "patient": list("aabcdefgh")})
    matrix = np.array([[9.5], [9.0], [20.0], [1.0], [1.0], [2.0], [9.2], [3.0], [9.0]])
    points = operating_points(of_matrix(units, [("vae_kl", "thesis", "0")], matrix), healthy, [0.9, 0.95])
    first = points.iloc[0]
    assert first["threshold"] == 9.0  # 9 of 10 do not exceed it
    assert first["sensitivity"] == 0.5
    assert first["specificity"] == pytest.approx(0.8)
    assert first["flags_per_100_healthy"] == pytest.approx(20)
    assert (first["n_abnormal_patients"], first["n_healthy_patients"]) == (3, 5)
    known = binomtest(4, 5).proportion_ci(0.95, "exact")
    assert (first["specificity_low"], first["specificity_high"]) == pytest.approx((known.low, known.high))
    assert first["sensitivity_low"] < 0.5 < first["sensitivity_high"]
    assert points.iloc[1]["threshold"] == 10.0
    assert "cannot resolve" in points.iloc[1]["reason"]
    assert first["reason"] == ""


def test_where_all_or_none_are_flagged_an_interval_has_a_width():
    units = pd.DataFrame({"group": ["abnormal"] * 4 + ["healthy"] * 4, "patient": list("abcdefgh")})
    healthy = {"vae_kl": {"thesis": {"0": [1.0, 2.0], "1": [1.0, 2.0]}}}
    columns = [("vae_kl", "thesis", "0"), ("vae_kl", "thesis", "1")]
    matrix = np.array([[9.0] * 4 + [0.0] * 4, [9.0] * 2 + [0.0] * 6]).T
    points = operating_points(of_matrix(units, columns, matrix), healthy, [0.9])
    assert points["sensitivity"].tolist() == [1.0, 0.5]
    assert points["sensitivity_low"].iloc[0] == pytest.approx(0.025 ** (1 / 4))
    assert points["specificity_low"].iloc[0] == pytest.approx(0.025 ** (1 / 4))
    table = operating_table(points)
    assert table is not None
    low, high = exact_interval(3, 4)  # of the mean over seeds
    assert table.rows[0][2] == f"75 % ({100 * low:.0f} to {100 * high:.0f})"
    assert table.rows[0][3] == "100 % (40 to 100)"


def test_operating_points_without_calibration():
    units = pd.DataFrame({"group": ["abnormal", "healthy"], "patient": ["a", "b"]})
    points = operating_points(of_matrix(units, [("cevae", "thesis", "0")], np.ones((2, 1))), {}, [0.9])
    assert np.isnan(points["sensitivity"].iloc[0])
    assert "no healthy calibration scan" in points["reason"].iloc[0]


def test_threshold_is_an_observed_score():
    assert threshold_at(np.array([1.0, 2.0, 3.0]), 0.9) == 3.0
