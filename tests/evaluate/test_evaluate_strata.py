from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from normct.evaluate.data import of_matrix
from normct.evaluate.display_beyond import compared, strata_table
from normct.evaluate.sentences_beyond import on_size
from normct.evaluate.strata import BANDS, banded, lesion_volumes, numbers
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


def test_atrophy_has_no_lesion_volume():
    """Its mask marks widened CSF spaces: a quarter of the largest lesions would be atrophy's."""
    units = pd.DataFrame(
        {
            "participant_id": ["sub-a", "sub-a", "sub-b", "sub-c", "sub-d"],
            "group": ["abnormal"] * 4 + ["healthy"],
            "pathology": ["icb", "icb", "atrophy", "tumor", "n/a"],
            "has_lesion_mask": [True] * 3 + [False] * 2,
            "lesion_pixels": [700, 800, 90_000, 0, 0],
        }
    )
    assert lesion_volumes(of_matrix(units, [], np.zeros((5, 0)))) == {"sub-a": 1.5}


def rows_of_strata(**auroc: float) -> pd.DataFrame:
    """One stratum of lesion volume; a name that ends in _z is of the calibrated score."""
    rows = []
    for name, value in auroc.items():
        method = name.removesuffix("_z")
        score = "calibrated" if name.endswith("_z") else "thesis" if method == "vae_kl" else "trivial"
        row = {"kind": "lesion_volume", "stratum": "under 1 mL", "protocol": "slice_healthy"}
        row |= {"method": method, "score": "fused" if method == "fused" else score, "auroc_mean": value}
        row |= {"auroc_sd": np.nan, "auroc_low": np.nan, "auroc_high": np.nan, "sensitivity": np.nan}
        rows.append(row | {"n_pos": 9, "n_neg": 9, "n_patients": 3, "n_healthy_patients": 3})
    return pd.DataFrame(rows)


def test_strata_show_the_best_baseline_without_a_network():
    table = rows_of_strata(
        vae_kl=0.6, vae_kl_z=0.7, brain_area=0.55, mean_hu=0.65, slice_position=np.nan, fused=0.8
    )
    assert [name for name, _, _ in compared(table)] == [
        "VAE-KL, plain",
        "VAE-KL, calibrated",
        "Mean HU, plain",
        "Fused",
    ]
    shown = strata_table(table, "slice_healthy", "Strata.", ("lesion_volume",))
    assert shown is not None
    assert shown.rows[0][2:] == ["0.600", "0.700", "0.650", "0.800"]
    assert "atrophy" in shown.notes[0]
    assert shown.notes[1].startswith("Mean HU is the best baseline")


def test_lesion_volume_is_said_beside_a_baseline():
    small = rows_of_strata(fused=0.6, brain_area=0.55, mean_hu=0.7, slice_position=np.nan)
    large = rows_of_strata(fused=0.9).assign(stratum="over 20 mL")
    said = on_size(pd.concat([small, large], ignore_index=True))
    assert "atrophy left out" in said
    assert "under 1 mL 0.600 against 0.700 of Mean HU (3 patients); over 20 mL 0.900 (3 patients)." in said
    assert on_size(small) == ""
