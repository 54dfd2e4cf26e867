from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from normct.evaluate.strata import BANDS, banded, numbers
from normct.evaluate.tables import read_csv


def test_bands_by_hand():
    ages = numbers(pd.Series(["49", "50", "89+", "n/a", "70"]))
    assert banded(ages, BANDS["age"]).tolist() == [
        "under 50 years",
        "50 to 69 years",
        "70 years and more",
        "n/a",
        "70 years and more",
    ]


def slice_rows(scored) -> pd.DataFrame:
    rows = pd.concat([pd.read_parquet(p) for p in sorted((scored / "score/subjects").glob("*.parquet"))])
    rows = rows[(rows["role"] == "test") & rows["usable"]]
    return rows[(rows["method"] == "vae_kl") & (rows["score"] == "calibrated")]


def test_thirds_against_sklearn(scored, evaluated):
    rows = slice_rows(scored)
    rows = rows[rows["z"].between(52, 103)]  # the middle of 155 slices
    part = rows[(rows["group"] == "healthy") | (rows["lesion_pixels"] > 0)]
    got = read_csv(evaluated / "strata.csv").set_index(["stratum", "protocol", "method", "score"])
    value = got.loc["centre", "slice_healthy", "vae_kl", "calibrated"]
    assert value["auroc_mean"] == pytest.approx(
        roc_auc_score(part["lesion_pixels"] > 0, part["value"]), rel=1e-5
    )
    base = got.loc["base", "slice_healthy", "vae_kl", "calibrated"]
    assert np.isnan(base["auroc_mean"])
    assert base["note"] == "nothing of this kind in the cohort"


def test_lesion_volume_and_sensitivity(scored, evaluated):
    table = read_csv(evaluated / "strata.csv")
    rows = table[(table["kind"] == "lesion_volume") & (table["protocol"] == "volume")]
    filled = rows[rows["n_pos"] > 0]
    assert set(filled["stratum"]) == {"1 to 5 mL"}  # balls of 9 mm radius: 3 mL
    assert filled["sensitivity"].dropna().between(0, 1).all()
    assert filled["sensitivity"].notna().any()


def test_subgroups_compare_like_with_like(scored, evaluated):
    table = read_csv(evaluated / "subgroups.csv")
    assert set(table["kind"]) == {"scanner", "slice_thickness_mm", "age"}
    cohort = pd.read_csv(scored / "cohort/participants.tsv", sep="\t", dtype=str)
    scanner = dict(zip(cohort["participant_id"], cohort["scanner"], strict=True))
    rows = slice_rows(scored)
    rows = rows[rows["participant_id"].map(scanner) == "A"]
    part = rows[(rows["group"] == "healthy") | (rows["lesion_pixels"] > 0)]
    wanted = "kind == 'scanner' and stratum == 'A' and protocol == 'slice_healthy' and method == 'vae_kl'"
    got = table.query(wanted).set_index("score")
    assert got.loc["calibrated", "auroc_mean"] == pytest.approx(
        roc_auc_score(part["lesion_pixels"] > 0, part["value"]), rel=1e-5
    )
    lonely = table[(table["n_healthy_patients"] == 1) & table["auroc_mean"].notna()]
    assert lonely["auroc_low"].isna().all()
    assert (table.loc[table["auroc_mean"].isna(), "note"] != "").all()
