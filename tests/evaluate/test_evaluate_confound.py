from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import mannwhitneyu
from sklearn.metrics import roc_auc_score

from normct.evaluate import sentences_beyond
from normct.evaluate.confound import leaks, left_out_r2
from normct.evaluate.data import accepted_test, read_cohort, read_volume_scores
from normct.evaluate.tables import read_csv


def test_r2_of_a_score_that_is_position_and_of_one_that_is_not():
    rng = np.random.default_rng(0)
    z, patient = np.tile(np.arange(100.0), 6), np.repeat(np.arange(6), 100)
    curve = np.sin(z / 15)
    noise = rng.standard_normal((600, 2))
    mixed = curve / curve.std() + noise[:, 0]  # half of the variance
    found = left_out_r2(z, np.stack([curve, mixed, noise[:, 1], np.ones(600)], axis=1), patient)
    assert found[0] > 0.98
    assert found[1] == pytest.approx(0.5, abs=0.08)
    assert abs(found[2]) < 0.05
    assert np.isnan(found[3])  # a constant has no variance to explain


def test_r2_is_of_patients_left_out():
    """A score that follows position in opposite ways in two patients is not explained by it."""
    z, patient = np.tile(np.arange(80.0), 2), np.repeat([0, 1], 80)
    values = np.where(patient == 0, z, -z)[:, None]
    assert left_out_r2(z, values, patient)[0] < 0


def test_scanners_against_sklearn_and_scipy(collected, evaluated):
    table = read_csv(evaluated / "confound.csv")
    scans = accepted_test(read_cohort(collected))
    volumes = read_volume_scores(collected, scans)
    healthy = (volumes.units["group"] == "healthy").to_numpy()
    scanner = dict(zip(scans["participant_id"], scans["scanner"], strict=True))
    own = np.array([scanner[s] == "A" for s in volumes.units["participant_id"]])[healthy]
    values = volumes.matrix[healthy, volumes.columns.index(("vae_kl", "calibrated", "0"))]
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
