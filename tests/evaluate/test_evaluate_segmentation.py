from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from factories import ellipsoid
from normct.common.slices import DEPTH, GRID, SIZE
from normct.evaluate.dice_tables import LADDER, Tally, spans, subsets
from normct.evaluate.metrics import draw_patients, interval
from normct.evaluate.protocols import Strata
from normct.evaluate.residuals import enlarge, split_key
from normct.evaluate.segmentation import counts_over, dice, measure
from normct.evaluate.tables import read_csv


def test_dice_by_hand():
    assert dice(3, 4, 6) == pytest.approx(0.6)
    assert dice(0, 5, 6) == 0


def test_counts_reach_the_edge():
    values, edges = np.array([0.1, 0.2, 0.2, 0.5]), np.array([0.05, 0.2, 0.21, 0.6])
    assert counts_over(values, edges).tolist() == [(values >= edge).sum() for edge in edges] == [4, 3, 1, 0]


def test_enlarge_keeps_place_and_brightness():
    image = np.zeros((1, SIZE, SIZE), np.float32)
    image[0, 32:64, 80:112] = 1.0
    large = enlarge(image)[0]
    assert large.shape == (GRID, GRID)
    rows, columns = np.flatnonzero(large.max(axis=1) >= 0.5), np.flatnonzero(large.max(axis=0) >= 0.5)
    assert (rows[0], rows[-1] + 1) == (60, 120)  # 240/128 = 1.875 times
    assert (columns[0], columns[-1] + 1) == (150, 210)
    assert large.mean() == pytest.approx(image.mean(), rel=1e-3)
    np.testing.assert_allclose(enlarge(np.full((2, SIZE, SIZE), 0.3, np.float32)), 0.3, rtol=1e-6)


def blocks():
    """A residual of 0.4 over 32×32 pixels (60×60 at 1 mm); the lesion is its upper half on two slices."""
    brain = np.zeros((DEPTH, GRID, GRID), bool)
    brain[60:80] = True
    lesion = np.zeros_like(brain)
    lesion[70:72, 60:90, 60:120] = True
    residual = np.zeros((DEPTH, SIZE, SIZE), np.float32)
    residual[70:72, 32:64, 32:64] = -0.4  # a hypodensity counts as much as a hyperdensity
    residual[75, 32:64, 32:64] = 0.4
    return residual, brain, lesion, brain.any(axis=(1, 2))


def test_measure_by_hand():
    residual, brain, lesion, usable = blocks()
    slices, volume = measure(residual, brain, lesion, usable, 0.2)
    # a slice: all 1800 lesion pixels found, 3600 flagged; the volume flags slice 75 too
    assert slices.shape == (2, len(LADDER) + 1)
    np.testing.assert_allclose(slices[:, -1], 2 * 1800 / (3600 + 1800), rtol=1e-6)
    assert volume[-1] == pytest.approx(2 * 3600 / (10800 + 3600))


def test_no_threshold_is_no_dice():
    residual, brain, lesion, usable = blocks()
    slices, volume = measure(residual, brain, lesion, usable, None)
    assert np.isnan(slices[:, -1]).all()
    assert np.isnan(volume[-1])
    assert np.nanmax(volume) > 0.4  # the oracle needs none


def test_slices_that_are_not_usable_do_not_count():
    residual, brain, lesion, usable = blocks()
    usable[71] = False
    slices, volume = measure(residual, brain, lesion, usable, 0.2)
    assert len(slices) == 1
    assert volume[-1] == pytest.approx(2 * 1800 / (7200 + 1800))


def test_residual_outside_the_brain_does_not_count():
    residual, brain, lesion, usable = blocks()
    brain[:, 90:] = False
    assert measure(residual, brain, lesion, usable, 0.2)[0][0, -1] == pytest.approx(1.0, abs=0.02)


def test_tally_matches_numpy():
    values = np.random.default_rng(0).random((7, len(LADDER) + 1))
    tally = Tally()
    for part in (values[:3], values[3:]):
        tally.add(part)
    assert tally.at(5) == pytest.approx((values[:, 5].mean(), values[:, 5].std(ddof=1)))
    assert tally.best == values[:, :-1].mean(axis=0).argmax()
    assert np.isnan(Tally().at(0)).all()


def test_interval_of_dice_is_that_of_patients():
    """Two scans of a patient are drawn together, seeds are averaged within a draw, atrophy is not focal."""
    rng = np.random.default_rng(4)
    strata = Strata([f"p{i}" for i in range(9)], np.array(["icb"] * 6 + ["atrophy"] * 2 + ["tumor"]))
    of = {f"sub-{i}": min(i // 2, 8) for i in range(17)}  # two scans a patient, one of the last
    rows = [
        {"participant_id": sub, "pathology": str(strata.stratum[p]), "method": "vae_kl", "map": "residual"}
        | {"seed": seed, "lesion_slices": int(rng.integers(1, 9)), "dice_slices": rng.random()}
        | {"dice_volume": rng.random()}
        for sub, p in of.items()
        for seed in ("0", "1")
    ]
    table = pd.DataFrame(rows)
    counts = draw_patients(strata.stratum, 400, 0)
    found = spans(table, of, strata, counts)
    assert {key[0] for key in found} == {"all", "focal", "icb", "atrophy", "tumor"}
    assert found["tumor", "vae_kl", "residual", "volume"][2].startswith("no interval: one patient")
    focal = table[table["pathology"] != "atrophy"]
    for level, value, weight in (
        ("volume", "dice_volume", pd.Series(1, focal.index)),
        ("slice", "dice_slices", focal["lesion_slices"]),
    ):
        means = []
        for draw in counts.astype(float):
            times = focal["participant_id"].map(of).map(lambda p, draw=draw: draw[p]) * weight
            each = [
                (focal[value] * times)[focal["seed"] == s].sum() / times[focal["seed"] == s].sum()
                for s in "01"
            ]
            means.append(np.mean(each))
        assert found["focal", "vae_kl", "residual", level][:2] == pytest.approx(interval(np.array(means)))


def test_atrophy_is_not_focal():
    assert subsets("atrophy") == ["all", "atrophy"]
    assert "focal" in subsets("icb")


def test_map_keys():
    assert split_key("vae_kl/seed-3") == ("vae_kl", "3")
    assert split_key("statistical_atlas") == ("statistical_atlas", "n/a")


def test_tables_of_a_cohort(evaluated):
    short = read_csv(evaluated / "segmentation_summary.csv").set_index(
        ["subset", "method", "map", "level", "threshold"]
    )
    for method in ("vae_kl", "vae_pretrained", "statistical_atlas"):
        real = short.loc["all", method, "residual", "volume", "calibrated"]
        ceiling = short.loc["all", method, "residual", "volume", "oracle"]
        assert 0.3 < real["dice_mean"] <= ceiling["dice_mean"] + 0.01
        assert real["n_units"] == 4
        assert real["dice_low"] <= real["dice_mean"] <= real["dice_high"]
        assert np.isnan(ceiling["dice_low"])  # chosen on these very scans
        assert real["members"] == "single"
    # strong bleeds are outlined, the faint ischemia is not
    assert short.loc["icb", "vae_kl", "residual", "volume", "calibrated"]["dice_mean"] > 0.85
    assert short.loc["ischemia", "vae_kl", "residual", "volume", "calibrated"]["dice_mean"] < 0.3
    assert short.loc["all", "vae_pretrained", "residual", "slice", "calibrated"]["n_seeds"] == 2
    # z maps are one a method, averaged over seeds, each with its own threshold
    for method in ("vae_kl", "vae_pretrained", "statistical_atlas", "fused"):
        z_map = short.loc["all", method, "calibrated", "volume", "calibrated"]
        assert (z_map["n_seeds"], z_map["n_units"]) == (1, 4)
        assert z_map["members"] == ("single" if method == "statistical_atlas" else "ensemble")
        assert (
            0.3
            < z_map["dice_mean"]
            <= short.loc["all", method, "calibrated", "volume", "oracle"]["dice_mean"] + 0.01
        )
    detail = read_csv(evaluated / "segmentation.csv")
    assert set(detail[detail["map"] == "calibrated"]["seed"]) == {"all", "n/a"}
    volumes = read_csv(evaluated / "segmentation_volumes.csv")
    assert set(volumes["participant_id"]) == {"sub-a0", "sub-a1", "sub-a2", "sub-a3"}


def test_sphere_is_found_where_it_lies():
    """A ball in the residual against the same ball at 1 mm: Dice near 1, so no axis is swapped or shifted."""
    brain = np.ones((DEPTH, GRID, GRID), bool)
    lesion = ellipsoid((DEPTH, GRID, GRID), (80, 150, 70), (12, 24, 15))
    small = ellipsoid((DEPTH, SIZE, SIZE), (80, 150.5 / 1.875 - 0.5, 70.5 / 1.875 - 0.5), (12, 12.8, 8))
    _, volume = measure(small.astype(np.float32), brain, lesion, np.ones(DEPTH, bool), 0.5)
    assert volume[-1] > 0.95
