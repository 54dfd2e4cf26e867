from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest

from normct.common.binomial import exact_interval
from normct.evaluate.data import of_matrix
from normct.evaluate.reached import TARGETS, calibration_figure

COLUMNS = [("vae_kl", "calibrated", "0"), ("vae_kl", "calibrated", "1"), ("cevae", "calibrated", "0")]
COLUMNS += [("statistical_atlas", "calibrated", "n/a"), ("fused", "fused", "0")]
UNITS = pd.DataFrame({"group": ["healthy"] * 20, "patient": [f"p{i // 2}" for i in range(20)]})
SUMMARY = pd.DataFrame(
    {
        "protocol": "volume",
        "members": "single",
        "method": ["vae_kl", "cevae", "statistical_atlas", "fused"],
        "score": ["calibrated", "calibrated", "calibrated", "fused"],
        "auroc_mean": [0.8, 0.7, 0.7, 0.9],
    }
)
SCORES = [float(i) for i in range(1, 21)]


def healthy(columns: list[tuple[str, str, str]]) -> dict:
    found: dict = {}
    for method, score, seed in columns:
        found.setdefault(method, {}).setdefault(score, {})[seed] = SCORES
    return found


def test_reached_over_target_of_best_network_atlas_and_fused():
    matrix = np.tile(np.array(SCORES)[:, None], (1, len(COLUMNS)))
    matrix[:, 1] = 0  # the second seed flags nobody
    matrix[:, 3] = 99  # the atlas flags everybody
    figure = calibration_figure(of_matrix(UNITS, COLUMNS, matrix), healthy(COLUMNS), SUMMARY, [0.9, 0.95])
    assert figure is not None
    plain, calibrated = figure.axes
    assert [text.get_text() for text in plain.texts] == ["Not computed"]
    drawn = {str(line.get_label()): line for line in calibrated.lines}
    assert list(drawn) == ["as aimed at", "VAE-KL", "Statistical atlas", "Fused"]  # ceVAE is not the best
    targets = np.asarray(drawn["Fused"].get_xdata(), float)
    assert targets.tolist() == list(TARGETS)
    reached = np.asarray(drawn["Fused"].get_ydata(), float)
    np.testing.assert_allclose(reached, np.ceil(targets * 20 - 1e-9) / 20)
    np.testing.assert_allclose(drawn["VAE-KL"].get_ydata(), (reached + 1) / 2)
    assert not np.any(drawn["Statistical atlas"].get_ydata())
    assert len(calibrated.collections) == 3 * 2
    (bar,) = calibrated.collections[-1].get_segments()  # fused at 0.95, of ten patients
    np.testing.assert_allclose(bar[:, 1], exact_interval(9.5, 10))


def test_no_figure_without_calibration_or_test_scans():
    scores = of_matrix(UNITS, COLUMNS, np.ones((20, len(COLUMNS))))
    assert calibration_figure(scores, {}, SUMMARY, [0.9]) is None
    nothing = of_matrix(pd.DataFrame(), [], np.zeros((0, 0)))
    assert calibration_figure(nothing, healthy(COLUMNS), SUMMARY[:0], [0.9]) is None
    sick = of_matrix(UNITS.assign(group="abnormal"), COLUMNS, np.ones((20, len(COLUMNS))))
    assert calibration_figure(sick, healthy(COLUMNS), SUMMARY, [0.9]) is None


@pytest.mark.parametrize("k", [0, 7, 10])
def test_interval_is_the_exact_one(k):
    known = binomtest(k, 10).proportion_ci(method="exact")
    np.testing.assert_allclose(exact_interval(k, 10), (known.low, known.high))
