from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from normct.evaluate import sentences_beyond, uncertainty
from normct.evaluate.aggregate import aupr_gain
from normct.evaluate.metrics import prevalences
from normct.evaluate.tables import read_csv


def test_lambda_ends_at_the_parts(scored, evaluated):
    table = read_csv(evaluated / "lambda.csv")
    assert set(table["method"]) == {"multitask_pretrained"}
    assert len(table) == 4 * 11
    detail = read_csv(evaluated / "detection.csv").set_index(["protocol", "method", "score", "seed"])["auroc"]
    at = table.set_index(["protocol", "lambda"])["auroc_mean"]
    for protocol in ("slice_healthy", "slice", "clinical", "volume"):
        assert at[protocol, 0.0] == pytest.approx(detail[protocol, "multitask_pretrained", "head", "0"])
        assert at[protocol, 1.0] == pytest.approx(detail[protocol, "multitask_pretrained", "residual", "0"])
    rows = pd.concat([pd.read_parquet(p) for p in sorted((scored / "score/subjects").glob("*.parquet"))])
    rows = rows[(rows["role"] == "test") & rows["usable"] & (rows["method"] == "multitask_pretrained")]
    rows = rows[(rows["group"] == "healthy") | (rows["lesion_pixels"] > 0)]
    head, residual = (
        rows[rows["score"] == s].sort_values(["participant_id", "z"]) for s in ("head", "residual")
    )
    mixed = 0.7 * head["value"].to_numpy() + 0.3 * residual["value"].to_numpy()
    assert at["slice_healthy", 0.3] == pytest.approx(
        roc_auc_score(head["lesion_pixels"] > 0, mixed), rel=1e-5
    )


def test_pretraining_meets_its_twin(evaluated):
    paired = read_csv(evaluated / "detection_paired.csv").query("against == 'no_pretraining'")
    assert set(zip(paired["method"], paired["rival"], strict=True)) == {("vae_pretrained", "vae_kl")}
    means = read_csv(evaluated / "detection_summary.csv").set_index(
        ["protocol", "method", "score", "members"]
    )
    for row in paired.itertuples():
        assert row.rival_score == row.score
        own = means.loc[(row.protocol, row.method, row.score, row.members), "auroc_mean"]
        twin = means.loc[(row.protocol, row.rival, row.score, row.members), "auroc_mean"]
        assert row.auroc_difference == pytest.approx(own - twin, abs=1e-5)


def test_gain_is_free_of_prevalence():
    assert aupr_gain(0.3, 0.3) == 0
    assert aupr_gain(1.0, 0.3) == 1
    assert aupr_gain(0.65, 0.3) == pytest.approx(0.5)
    counts = np.array([[1, 1], [0, 2], [3, 0]], np.float32)
    found = prevalences(np.array([True, False, False, True]), np.array([0, 0, 0, 1]), counts)
    assert found.tolist() == pytest.approx([0.5, 1.0, 1 / 3])


def test_risk_by_hand():
    wrong = np.array([0.0, 0.0, 1.0, 1.0])  # the two surest are right
    assert uncertainty.risk(wrong, np.ones((1, 4)))[0].tolist() == pytest.approx([0, 0, 1 / 3, 0.5])
    drawn = uncertainty.risk(wrong, np.array([[0.0, 1.0, 3.0, 0.0]]))[0]
    assert np.isnan(drawn[0])
    assert drawn[1:].tolist() == pytest.approx([0, 0.75, 0.75])


def test_risk_coverage_of_scans():
    """Ten healthy scans and ten abnormal ones; errors are the ten scans of largest uncertainty."""
    scans = pd.DataFrame({"participant_id": [f"sub-{i:02d}" for i in range(20)]})
    scans["group"] = ["healthy"] * 10 + ["abnormal"] * 10
    scans["patient"], scans["pathology"] = scans["participant_id"], "icb"
    abnormal, errs = np.arange(20) >= 10, np.arange(20) % 2 == 1
    values = scans[["participant_id"]].assign(abnormal=abnormal, method="fused", score="fused")
    values["seed"], values["uncertainty_of"] = "all", "seeds"
    values["value"] = np.where(abnormal ^ errs, 2.0, 0.0)
    values["uncertainty"] = np.where(errs, 1.0, 0.0) + np.arange(20) / 100
    calibration = {"healthy": {"fused": {"fused": {"all": [0.5, 1.0]}}}}
    settings = {"bootstrap": 200, "seed": 0, "specificities": [0.9]}
    tables = uncertainty.evaluate(scans, values, calibration, settings)
    summary = tables["risk_coverage_summary"].set_index("surest_by")
    row = summary.loc["spread"]
    assert (row["n"], row["error"], row["error_kept"]) == (20, 0.5, pytest.approx(6 / 16))
    assert row["gain_low"] > 0
    # errors lie at 2.0 and 0.0 as right scans do: 1.0 and 0.5 from the threshold of 1.0, so distance says nothing here
    assert summary.loc["relative", "gain"] > 0
    assert tables["risk_coverage"]["surest_by"].value_counts().to_dict() == {
        "spread": 20,
        "relative": 20,
        "margin": 20,
    }
    # far from the threshold and right, close to it and wrong: the distance finds the errors, the spread none
    near = values.assign(
        value=np.where(abnormal, np.where(errs, 0.9, 9.0), np.where(errs, 1.1, -9.0)),
        uncertainty=np.where(errs, 0.1, 5.0),
    )
    by = uncertainty.evaluate(scans, near, calibration, settings)["risk_coverage_summary"].set_index(
        "surest_by"
    )
    assert by.loc["spread", "gain"] < 0 < by.loc["margin", "gain"]
    said = sentences_beyond.on_uncertainty(by.reset_index())
    assert "raises the error" in said
    assert said.count("it misleads") == 1
    turned = values.assign(uncertainty=-values["uncertainty"])
    flipped = uncertainty.evaluate(scans, turned, calibration, settings)
    assert flipped["risk_coverage_summary"].iloc[0]["gain_high"] < 0
    # one abnormal patient a pathology: nothing varies, so there is no interval and nothing is established
    lone = scans.iloc[:11]
    few = uncertainty.evaluate(
        lone, values[values["participant_id"].isin(lone["participant_id"])], calibration, settings
    )["risk_coverage_summary"]
    assert few["gain"].notna().all() and few[["gain_low", "gain_high"]].isna().all(axis=None)
    assert few["reason"].str.contains("one patient only").all()
    assert "no interval, so not established" in sentences_beyond.on_uncertainty(few)
    none = uncertainty.evaluate(scans, values.assign(uncertainty=np.nan), calibration, settings)
    assert none["risk_coverage"].empty
    assert none["risk_coverage_summary"]["reason"].tolist() == [uncertainty.NONE]
