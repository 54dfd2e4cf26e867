from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import mannwhitneyu
from sklearn.linear_model import LinearRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import LeaveOneGroupOut
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import SplineTransformer

from normct.evaluate import sentences_beyond
from normct.evaluate.confound import leaks
from normct.evaluate.data import accepted_test, read_cohort, read_volume_scores
from normct.evaluate.left_out import KNOTS, LeftOut, r2
from normct.evaluate.tables import read_csv


def test_r2_of_a_score_that_is_position_and_of_one_that_is_not():
    rng = np.random.default_rng(0)
    z, patient = np.tile(np.arange(100.0), 6), np.repeat(np.arange(6), 100)
    curve = np.sin(z / 15)
    noise = rng.standard_normal((600, 2))
    mixed = curve / curve.std() + noise[:, 0]  # half of the variance
    spline = LeftOut(z, patient)
    found = [r2(spline.errors(v).sum(axis=0)) for v in (curve, mixed, noise[:, 1], np.full(600, 0.1))]
    assert found[0] > 0.98
    assert found[1] == pytest.approx(0.5, abs=0.08)
    assert abs(found[2]) < 0.05
    assert np.isnan(found[3])  # a constant has no variance to explain


def test_r2_is_of_patients_left_out():
    """A score that follows position in opposite ways in two patients is not explained by it."""
    z, patient = np.tile(np.arange(80.0), 2), np.repeat([0, 1], 80)
    assert r2(LeftOut(z, patient).errors(np.where(patient == 0, z, -z)).sum(axis=0)) < 0


@pytest.mark.parametrize("seed", range(4))
def test_r2_is_that_of_refitting_without_each_patient(seed):
    """Sums with a patient's own taken off are scikit-learn's fit without the patient, ends of the knots included."""
    rng = np.random.default_rng(seed)
    patient = rng.permutation(np.repeat(np.arange(7), rng.integers(20, 60, 7)))
    at = rng.uniform(20, 100, len(patient)) + 5 * patient  # first and last slice are one patient's alone
    values = np.sin(at / 15) + 0.3 * rng.standard_normal(len(at)) + 40
    model = make_pipeline(
        SplineTransformer(n_knots=KNOTS, degree=3, extrapolation="constant"), LinearRegression()
    )
    expected = []
    for fit, test in LeaveOneGroupOut().split(values, groups=patient):
        model.fit(at[fit, None], values[fit])
        predicted = model.predict(at[test, None]), values[fit].mean()
        expected.append([((values[test] - each) ** 2).sum() for each in predicted])
    np.testing.assert_allclose(LeftOut(at, patient).errors(values), expected, rtol=1e-7)


@pytest.mark.parametrize("sizes", [(10, 30), (1, 40, 40), (30, 30, 30, 30)])
def test_one_slice_far_off_does_not_decide_the_fit(sizes):
    """Least squares would run the spline's end through it, or anywhere where its patient is left out."""
    rng = np.random.default_rng(1)
    patient = np.repeat(np.arange(len(sizes)), sizes)
    at = np.concatenate([np.linspace(20, 100, n) for n in sizes])
    values = np.sin(at / 15) + 0.1 * rng.standard_normal(len(at))
    far = at.copy()
    far[-1] = 400.0
    found = [r2(LeftOut(x, patient).errors(values).sum(axis=0)) for x in (at, far)]
    assert np.isfinite(found).all()
    assert found[1] > -2


def test_an_interval_of_r2_is_that_of_patients(collected, evaluated):
    """Some patients' slices follow position, others' do not: which ones are drawn decides."""
    table = read_csv(evaluated / "confound.csv")
    part = table[table["check"].isin(["position_r2", "area_r2"])].dropna(subset=["value"])
    assert (part["value_low"] <= part["value"]).all()
    assert (part["value"] <= part["value_high"]).all()
    assert (part["value_low"] < part["value_high"]).any()


def test_scanners_against_sklearn_and_scipy(collected, evaluated):
    table = read_csv(evaluated / "confound.csv")
    scans = accepted_test(read_cohort(collected))
    volumes = read_volume_scores(collected, scans)
    healthy = (volumes.units["group"] == "healthy").to_numpy()
    scanner = dict(zip(scans["participant_id"], scans["scanner"], strict=True))
    own = np.array([scanner[s] == "A" for s in volumes.units["participant_id"]])[healthy]
    values = volumes.values(volumes.columns.index(("vae_kl", "calibrated", "0")))[healthy]
    row = table.query("check == 'scanner' and method == 'vae_kl' and score == 'calibrated'").iloc[0]
    assert row["value"] == pytest.approx(roc_auc_score(own, values))
    assert row["p_value"] == pytest.approx(mannwhitneyu(values[own], values[~own]).pvalue, rel=1e-5)
    assert (row["n_group"], row["n_others"]) == (2, 2)
    acquisition = table[table["check"] == "acquisition"].iloc[0]
    assert (acquisition["n_group"], acquisition["n_others"]) == (5, 4)
    assert (table.loc[table["value"].isna(), "reason"] != "").all()


def people(**roles: str) -> pd.DataFrame:
    rows = [{"participant_id": f"sub-{k}", "patient": k.rstrip("bc"), "role": v} for k, v in roles.items()]
    return pd.DataFrame(rows)


def test_leaks_by_hand():
    cohort = people(p1="train", p1b="test", p2="test", p2b="test", p3="stop", p4="calibrate")
    cohort = pd.concat(
        [cohort.assign(sha256=list("abccdd")), people(p5="test", p6="train")]
    )  # no hash: not compared
    table = leaks(cohort).set_index("check")
    assert table["n_checked"].to_dict() == {"patient": 6, "file": 4}
    assert table.loc["patient", "found"] == "sub-p1 (train) and sub-p1b (test)"
    assert table.loc["file", "found"] == "sub-p3 (stop) and sub-p4 (calibrate)"  # twice in one use is no leak
    assert sentences_beyond.on_leaks(table.reset_index()).startswith("Leak: ")


def test_leak_of_a_cohort(evaluated):
    table = read_csv(evaluated / "leaks.csv").set_index("check")
    assert table["n_found"].sum() == 0
    assert table.loc["file", "n_checked"] == 17
