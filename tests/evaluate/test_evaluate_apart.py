from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import mannwhitneyu
from sklearn.metrics import roc_auc_score

from normct.common.files import read_json
from normct.evaluate import sentences_beyond
from normct.evaluate.apart import holm, mean_ranks, permuted, tell_apart
from normct.evaluate.confound import corrected, transfer
from normct.evaluate.data import Scores, accepted_test, of_matrix, read_cohort, read_volume_scores
from normct.evaluate.display_confound import scanner_table, transfer_table
from normct.evaluate.metrics import draw_patients, interval, resampled
from normct.evaluate.protocols import Strata
from normct.evaluate.tables import read_csv


def test_holm_by_hand():
    np.testing.assert_allclose(holm(np.array([0.04, 0.01, 0.03])), [0.06, 0.03, 0.06])
    assert holm(np.array([0.6, 0.7])).tolist() == [1.0, 1.0]
    assert holm(np.zeros(0)).tolist() == []


@pytest.mark.parametrize(("n", "m"), [(3, 5), (12, 20)])
def test_of_one_seed_it_is_mann_and_whitneys_test(n, m):
    """With few scans exactly, with many to what 9999 labellings can say."""
    values = np.random.default_rng(n).standard_normal((n + m, 1))
    values[:n] += 0.7
    p = permuted(mean_ranks(values), n, seed=0)
    exact = mannwhitneyu(values[:n, 0], values[n:, 0], method="exact").pvalue
    assert p == pytest.approx(exact, rel=1e-9 if n == 3 else 0.15)


def seeds_of_noise(rng: np.random.Generator) -> Scores:
    """Scores of twelve scans that know nothing of their group, by six seeds that disagree and scale differently."""
    matrix = rng.standard_normal((12, 6)) * 10.0 ** np.arange(6)
    return of_matrix(pd.DataFrame(), [("vae_kl", "calibrated", str(i)) for i in range(6)], matrix)


def test_p_is_of_the_mean_over_seeds_and_false_alarms_are_few():
    """The least p of six seeds would be below 0.05 in a quarter of these draws."""
    rng = np.random.default_rng(5)
    inside = np.arange(12) < 6
    one = np.ones(12, bool)
    nothing = np.zeros((0, 12), np.uint16)
    found = [
        next(tell_apart(seeds_of_noise(rng), inside, one, np.arange(12), nothing, 0)) for _ in range(200)
    ]
    p = np.array([row["p_value"] for row in found])
    assert (p < 0.05).mean() < 0.09
    assert 0.35 < p.mean() < 0.65


def test_value_and_interval_are_of_the_mean_over_seeds():
    rng = np.random.default_rng(2)
    matrix = rng.standard_normal((30, 3))
    matrix[:14] += 0.8
    inside, code = np.arange(30) < 14, np.arange(30) // 2
    counts = draw_patients(np.zeros(15), 300, 0)
    columns = [("vae_kl", "calibrated", str(i)) for i in range(3)]
    row = next(
        tell_apart(of_matrix(pd.DataFrame(), columns, matrix), inside, np.ones(30, bool), code, counts, 0)
    )
    assert row["value"] == pytest.approx(np.mean([roc_auc_score(inside, matrix[:, i]) for i in range(3)]))
    drawn = np.mean([resampled(matrix[:, i], inside, code, counts)[0] for i in range(3)], axis=0)
    assert (row["value_low"], row["value_high"]) == pytest.approx(interval(drawn))


def test_a_scan_that_one_seed_lacks_is_left_out():
    matrix = np.arange(12.0).reshape(6, 2)
    matrix[0, 1] = np.nan
    scores = of_matrix(pd.DataFrame(), [("fused", "fused", "0"), ("fused", "fused", "1")], matrix)
    inside = np.arange(6) < 3
    counts = np.zeros((0, 6), np.uint16)
    row = next(tell_apart(scores, inside, np.ones(6, bool), np.arange(6), counts, 0))
    assert (row["n_group"], row["n_others"], row["value"]) == (2, 3, 0.0)
    row = next(tell_apart(scores, np.arange(6) < 2, np.ones(6, bool), np.arange(6), counts, 0))
    assert np.isnan(row["value"])
    assert "fewer than 2" in row["reason"]


UNITS = pd.DataFrame(
    {"group": ["healthy"] * 8 + ["abnormal"] * 2, "patient": [f"p{i}" for i in range(10)]}
).astype({"patient": "category"})
STRATA = Strata([f"p{i}" for i in range(10)], np.array(["healthy"] * 8 + ["icb"] * 2))


def moved(by: float, lists: dict[str, list[float]] | None = None) -> dict:
    """Return the transfer row of one score whose test scans lie ``by`` above those of calibration."""
    columns = [("fused", "fused", "0"), ("fused", "fused", "1")]
    matrix = np.tile(np.arange(10.0)[:, None], (1, 2)) + by
    matrix[8:] = 999  # abnormal scans have no say
    calibration = lists or {"0": [float(i) for i in range(8)], "1": [float(i) for i in range(7, -1, -1)]}
    counts = draw_patients(STRATA.stratum, 200, 0)
    found = transfer(of_matrix(UNITS, columns, matrix), {"fused": {"fused": calibration}}, STRATA, counts, 0)
    assert len(found) == 1
    return found[0]


def test_transfer_by_hand():
    same = moved(0.0)
    assert (same["value"], same["p_value"], same["n_group"], same["n_others"]) == (0.5, 1.0, 8, 8)
    assert same["value_low"] < 0.5 < same["value_high"]
    assert moved(100.0)["value"] == 1.0
    assert moved(-100.0)["value"] == 0.0
    assert moved(100.0)["p_value"] < 0.001
    uneven = moved(0.0, {"0": [1.0, 2.0, 3.0], "1": [1.0, 2.0]})
    assert np.isnan(uneven["value"])
    assert np.isnan(moved(0.0, {"0": [1.0, 2.0, 3.0]})["value"])


def test_transfer_of_a_cohort(scored, collected, evaluated):
    table = read_csv(evaluated / "confound.csv").query("check == 'transfer'").set_index(["method", "score"])
    volumes = read_volume_scores(collected, accepted_test(read_cohort(collected)))
    healthy = (volumes.units["group"] == "healthy").to_numpy()
    calibration = read_json(scored / "score/calibration.json")["healthy"]["vae_pretrained"]["calibrated"]
    wanted = []
    for seed in ("0", "1"):
        own = volumes.values(volumes.columns.index(("vae_pretrained", "calibrated", seed)))[healthy]
        wanted.append((own[:, None] > np.array(calibration[seed])).mean())
    row = table.loc["vae_pretrained", "calibrated"]
    assert row["value"] == pytest.approx(np.mean(wanted), rel=1e-5)
    assert (row["n_seeds"], row["n_group"], row["n_others"]) == (2, 4, 3)
    assert ("acquisition", "trivial") in table.index
    assert (table["p_holm"] >= table["p_value"]).all()


def confound_rows(check: str, p_values: dict[str, float], value: float) -> pd.DataFrame:
    rows = [
        {"check": check, "detail": "A against the others", "method": method, "score": "calibrated"}
        | {
            "value": value,
            "value_low": np.nan,
            "value_high": np.nan,
            "p_value": p,
            "n_group": 9,
            "n_others": 9,
        }
        for method, p in p_values.items()
    ]
    table = pd.DataFrame(rows)
    return table.assign(p_holm=corrected(table))


def test_one_question_is_corrected_by_itself():
    parts = [
        confound_rows("scanner", {"vae_kl": 0.01}, 0.8),
        confound_rows("transfer", {"vae_kl": 0.02}, 0.3),
    ]
    parts.append(confound_rows("slice_thickness", {"cevae": 0.04}, 0.8))
    parts.append(parts[0].assign(score="thesis", p_value=0.03))
    parts.append(parts[0].assign(check="position_r2", p_value=np.nan))
    table = pd.concat(parts, ignore_index=True)
    np.testing.assert_allclose(corrected(table), [0.02, 0.02, 0.04, 0.03, np.nan])


def test_sentences_speak_of_the_corrected_p():
    """Five of a hundred comparisons are below 0.05 by chance: one in two is none."""
    chance = confound_rows("scanner", {"vae_kl": 0.03, "cevae": 0.9}, 0.75)
    assert "none tells scanner" in sentences_beyond.on_scanners(chance)
    assert "0.06 after Holm" in sentences_beyond.on_scanners(chance)
    sure = confound_rows("scanner", {"vae_kl": 0.01, "cevae": 0.9}, 0.75)
    assert "of 2 comparisons of calibrated scores 1 tells scanner" in sentences_beyond.on_scanners(sure)
    assert "could not be tested" in sentences_beyond.on_scanners(sure[:0])
    table = scanner_table(sure)
    assert table is not None
    assert table.rows[0][1] == "0.750, p = 0.01 [0.02]"


@pytest.mark.parametrize(
    ("value", "p", "words"),
    [
        (0.2, 0.001, "thresholds flag fewer healthy scans than aimed at: VAE-KL, calibrated 0.200"),
        (0.8, 0.001, "thresholds flag more healthy scans than aimed at: VAE-KL, calibrated 0.800"),
        (0.3, 0.03, "none differs from one half beyond chance"),
    ],
)
def test_transfer_is_said(value, p, words):
    table = confound_rows("transfer", {"vae_kl": p, "fused": 0.5}, value)
    said = sentences_beyond.on_transfer(table)
    assert words in said
    assert ("Fused, calibrated" in said and "not beyond chance" in said) == (p < 0.01)
    shown = transfer_table(table)
    assert shown is not None
    assert [row[0] for row in shown.rows] == ["VAE-KL", "Fused"]
    assert "could not be tested" in sentences_beyond.on_transfer(table[:0])
    assert transfer_table(table[:0]) is None
