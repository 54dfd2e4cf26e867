from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from evaluate_case import SETTINGS, Scan, default_scans, write_cohort
from sklearn.metrics import average_precision_score, roc_auc_score

from conftest import collect_all, run_all
from normct.common.registry import PROTOCOLS, label
from normct.evaluate import detection
from normct.evaluate.data import ordered, read_cohort
from normct.evaluate.display_compare import RIVALS, paired_table
from normct.evaluate.sentences import signed
from normct.evaluate.tables import read_csv, write_csv

HEADER = "protocol,method,score,seed,auroc,aupr,prevalence,n_pos,n_neg,reason"


def test_detection_against_sklearn_over_the_files(scored, evaluated):
    table = read_csv(evaluated / "detection.csv").set_index(["protocol", "method", "score", "seed"])
    rows = pd.concat([pd.read_parquet(p) for p in sorted((scored / "score/subjects").glob("*.parquet"))])
    rows = rows[(rows["role"] == "test") & rows["usable"]]
    one = rows[(rows["method"] == "vae_pretrained") & (rows["score"] == "thesis") & (rows["seed"] == "1")]
    sets = {
        "slice": (one[one["pathology"] != "aneurysm"], lambda r: r["lesion_pixels"] > 0),
        "slice_healthy": (
            one[(one["group"] == "healthy") | (one["lesion_pixels"] > 0)],
            lambda r: r["lesion_pixels"] > 0,
        ),
        "clinical": (one, lambda r: r["group"] == "abnormal"),
    }
    for protocol, (part, positive) in sets.items():
        y = positive(part)
        got = table.loc[protocol, "vae_pretrained", "thesis", "1"]
        assert got["auroc"] == pytest.approx(roc_auc_score(y, part["value"]), rel=1e-5)
        assert got["aupr"] == pytest.approx(average_precision_score(y, part["value"]), rel=1e-5)
        assert got["prevalence"] == pytest.approx(y.mean(), rel=1e-5)
        assert (got["n_pos"], got["n_neg"]) == (y.sum(), (~y).sum())
    assert table.loc["volume", "vae_kl", "thesis", "0"][["n_pos", "n_neg"]].tolist() == [5, 4]


def test_header_and_trivial_baselines_always_there(evaluated):
    assert (evaluated / "detection.csv").read_text().split("\n", 1)[0] == HEADER
    table = read_csv(evaluated / "detection.csv")
    for protocol, rows in table.groupby("protocol"):
        trivial = set(rows.loc[rows["score"] == "trivial", "method"])
        assert trivial == {"brain_area", "slice_position", "mean_hu", "statistical_atlas", "acquisition"}, (
            protocol
        )
    empty = table[table["auroc"].isna()]
    assert set(zip(empty["protocol"], empty["method"], strict=True)) == {
        ("slice", "acquisition"),
        ("slice_healthy", "acquisition"),
        ("clinical", "acquisition"),
        ("volume", "slice_position"),
    }
    assert (empty["reason"] != "").all()


def test_seeds_are_averaged_and_the_ensemble_kept_apart(evaluated):
    summary = read_csv(evaluated / "detection_summary.csv")
    detail = read_csv(evaluated / "detection.csv")
    wanted = "protocol == 'slice' and method == 'vae_pretrained' and score == 'thesis'"
    part, seeds = summary.query(wanted).set_index("members"), detail.query(wanted).set_index("seed")["auroc"]
    assert part.loc["single", "auroc_mean"] == pytest.approx(seeds[["0", "1"]].mean(), rel=1e-5)
    assert part.loc["single", "auroc_sd"] == pytest.approx(seeds[["0", "1"]].std(), rel=1e-3)
    assert part.loc["ensemble", "auroc_mean"] == pytest.approx(seeds["all"], rel=1e-5)
    assert np.isnan(part.loc["ensemble", "auroc_sd"])
    assert (part["auroc_low"] <= part["auroc_mean"]).all()
    assert (part["auroc_mean"] <= part["auroc_high"]).all()
    assert part["note"].str.contains("ischemia").all()  # one patient: said


def test_paired_differences(evaluated):
    paired = read_csv(evaluated / "detection_paired.csv")
    summary = read_csv(evaluated / "detection_summary.csv")
    single = summary[(summary["members"] == "single") & summary["score"].isin(["thesis", "trivial"])]
    means = single.set_index(["protocol", "method"])["auroc_mean"]
    paired = paired[paired["against"] != "no_pretraining"]  # a twin, not the best of several
    for row in paired[(paired["score"] == "thesis") & (paired["members"] == "single")].itertuples():
        difference = means[row.protocol, row.method] - means[row.protocol, row.rival]
        assert row.auroc_difference == pytest.approx(difference, abs=1e-5)
        assert row.auroc_low <= row.auroc_difference <= row.auroc_high
        rivals = ["vae_kl"] if row.against == "published" else ["brain_area", "mean_hu", "statistical_atlas"]
        assert means[row.protocol, row.rival] >= max(means[row.protocol, r] for r in rivals)
        assert row.rival_score == ("thesis" if row.against == "published" else "trivial")


def test_calibrated_scores_meet_rivals_scored_alike(evaluated):
    paired = read_csv(evaluated / "detection_paired.csv")
    summary = read_csv(evaluated / "detection_summary.csv")
    means = summary[summary["members"] == "single"].set_index(["protocol", "method", "score"])["auroc_mean"]
    part = paired.query("against == 'atlas_calibrated' and members == 'single'")
    assert set(part["score"]) == {"calibrated", "fused"}
    assert set(part["rival"]) == {"statistical_atlas"}
    for row in part.itertuples():
        rival = means[row.protocol, "statistical_atlas", "calibrated"]
        assert row.auroc_difference == pytest.approx(
            means[row.protocol, row.method, row.score] - rival, abs=1e-5
        )
    atlas = paired.query("method == 'statistical_atlas'")
    assert set(atlas["score"]) == {"calibrated"}
    assert set(paired.query("against == 'published_calibrated'")["rival_score"]) == {"calibrated"}
    # the thesis's own comparisons stay with the thesis's scores
    assert set(paired.query("against == 'published'")["rival_score"]) == {"thesis"}


def test_each_paired_difference_is_one_cell_of_the_reports_table(evaluated):
    paired = read_csv(evaluated / "detection_paired.csv").query("members == 'single'")
    for scores in (("thesis",), ("calibrated", "fused")):
        part = paired[paired["score"].isin(scores)]
        table = paired_table(part, scores)
        assert set(table.header[2:]) == {RIVALS[name] for name in part["against"]}
        shown = {
            (row[0], row[1], name): text
            for row in table.rows
            for name, text in zip(table.header[2:], row[2:], strict=True)
            if text != "–"
        }
        assert len(shown) == len(part) > len(table.rows)
        for row in part.itertuples():
            text = shown[label(row.method), PROTOCOLS[row.protocol], RIVALS[row.against]]
            assert text.startswith(f"{signed(row.auroc_difference)} ({signed(row.auroc_low)} to ")
            assert row.against not in {"published", "trivial"} or text.endswith(label(row.rival))


def test_pathology_table(evaluated):
    table = read_csv(evaluated / "pathology.csv")
    counts = table.drop_duplicates("pathology").set_index("pathology")
    assert list(counts.index) == ["aneurysm", "icb", "ischemia"]  # tumor was set aside
    assert counts["n_patients"].tolist() == [0, 3, 1]
    ischemia = table[table["pathology"] == "ischemia"]
    assert ischemia["auroc_low"].isna().all()
    assert ischemia["note"].str.contains("one patient only").all()
    assert table[table["pathology"] == "aneurysm"]["auroc_mean"].isna().all()


def test_set_aside_and_validation_scans_stay_out(evaluated):
    aside = read_csv(evaluated / "set_aside.csv")
    assert aside[["participant_id", "reasons"]].to_numpy().tolist() == [["sub-x0", "brain volume 300 mL."]]
    counts = read_csv(evaluated / "cohort.csv")
    assert counts["scans"].sum() == len(default_scans())
    assert counts["set_aside"].sum() == 1


def test_same_inputs_same_bytes(scored, evaluated, tmp_path):
    run_detection(scored, tmp_path)
    for name in ("detection.csv", "detection_summary.csv", "pathology.csv"):
        assert (tmp_path / name).read_bytes() == (evaluated / name).read_bytes()


def run_detection(root, out, **changed):
    detection.main(
        [
            "--collected",
            str(collect_all(root)),
            "--calibration",
            str(root / "score/calibration.json"),
            "--settings",
            json.dumps(SETTINGS | changed),
            "--out",
            str(out),
        ]
    )


def test_all_slices_repeats_the_thesis_counting(scored, tmp_path):
    run_detection(scored, tmp_path, slices="all")
    table = read_csv(tmp_path / "detection.csv").set_index(["protocol", "method", "score", "seed"])
    row = table.loc["clinical", "vae_kl", "thesis", "0"]
    assert (row["n_pos"], row["n_neg"]) == (5 * 155, 4 * 155)


HEALTHY = [Scan("sub-c0", "healthy", role="calibrate")]


@pytest.mark.parametrize(
    ("scans", "empty", "words", "whole"),
    [
        (
            [Scan("sub-h0", "healthy"), Scan("sub-h1", "healthy")],
            {"slice", "slice_healthy", "clinical", "volume"},
            "no abnormal test scan",
            True,
        ),
        (
            [Scan("sub-h0", "healthy"), Scan("sub-a0", "abnormal", "icb")],
            {"slice", "slice_healthy"},
            "lesion mask",
            False,
        ),
        (
            [Scan("sub-a0", "abnormal", "icb", mask=True)],
            {"slice_healthy", "clinical", "volume"},
            "no healthy test scan",
            False,
        ),
        ([], set(), "", False),
    ],
)
def test_what_cannot_be_computed_is_empty_with_a_reason(tmp_path, scans, empty, words, whole):
    root = write_cohort(tmp_path, HEALTHY + [Scan(s.sub, s.group, s.pathology, mask=s.mask) for s in scans])
    out = root / "evaluate"
    # figures and page of the barest cohort must come out too; once is enough for the suite's time
    if whole:
        run_all(root)
    else:
        run_detection(root, out)
    table = read_csv(out / "detection.csv")
    if not scans:
        assert (out / "detection.csv").read_text() == HEADER + "\n"
        return
    networks = table.query("method == 'vae_kl' and score == 'thesis'").set_index("protocol")
    assert set(networks.index[networks["auroc"].isna()]) == empty
    for protocol in empty:
        assert words in networks.loc[protocol, "reason"]
    assert "0.5" not in networks.loc[list(empty), "auroc"].astype(str).tolist()
    # a difference that cannot be taken is an empty cell too, not a row that is missing
    differences = read_csv(out / "detection_paired.csv")
    unknown = differences[differences["auroc_difference"].isna()]
    assert set(unknown["protocol"]) == empty
    assert set(differences["protocol"]) - empty == set(networks.index) - empty
    assert unknown["note"].str.contains(words).all()
    assert unknown[["auroc_low", "aupr_difference"]].isna().all(axis=None)
    assert "trivial" in set(unknown["against"])
    assert unknown.loc[unknown["against"] == "trivial", "rival"].fillna("").eq("").all()
    if whole:
        assert words in (out / "report.html").read_text("utf-8")


def test_columns_follow_the_registry():
    mixed = [
        ("statistical_atlas", "trivial", "n/a"),
        ("vae_kl", "thesis", "10"),
        ("vae_kl", "thesis", "all"),
        ("vae_kl", "thesis", "2"),
        ("other", "x", "0"),
    ]
    assert [c[2] for c in ordered(mixed)] == ["2", "10", "all", "n/a", "0"]


def test_a_scan_without_a_patient_is_its_own(tmp_path):
    root = write_cohort(
        tmp_path, [Scan("sub-h0", "healthy", patient="n/a"), Scan("sub-h1", "healthy", patient="n/a")]
    )
    cohort = read_cohort(collect_all(root))
    assert cohort["patient"].tolist() == ["sub-h0", "sub-h1"]


def test_numbers_survive_the_file(tmp_path):
    table = pd.DataFrame({"method": ["n/a"], "auroc": [1 / 3], "aupr": [np.nan], "reason": [""]})
    write_csv(tmp_path / "t.csv", table)
    assert (tmp_path / "t.csv").read_text() == "method,auroc,aupr,reason\nn/a,0.333333,,\n"
    back = read_csv(tmp_path / "t.csv")
    assert back["method"].tolist() == ["n/a"]
    assert np.isnan(back["aupr"].iloc[0])
