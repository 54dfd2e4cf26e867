"""The study that lets artificial anomalies choose settings: only calibration scans, scored as the pipeline scores them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from benchmarks.choose_scoring import Study, calibration_scans, main
from benchmarks.choose_tables import BEFORE, POOL_SHARES, WEIGHTS, Version, aurocs, markdown, table
from sklearn.metrics import roc_auc_score

from normct.common.files import read_json
from normct.pretext.anomalies import KINDS
from normct.score.files_calibrated import read_pooled
from score.score_case import ROLES, SCORE


@pytest.fixture
def results(scored: Path, tmp_path: Path) -> Path:
    for name in ("score", "preprocess", "train"):
        (tmp_path / name).symlink_to(scored / name)
    (tmp_path / "cohort").mkdir()
    rows = [{"participant_id": s, "patient": s, "role": role} for s, role in ROLES.items()]
    pd.DataFrame(rows).to_csv(tmp_path / "cohort" / "participants.tsv", sep="\t", index=False)
    return tmp_path


def test_only_calibration_scans_are_taken(results):
    assert calibration_scans(results) == {"sub-c1": "sub-c1", "sub-c2": "sub-c2"}
    path = results / "cohort" / "participants.tsv"
    path.write_text(path.read_text("utf-8").replace("sub-x1\ttest", "sub-x1\tcalibrate"), "utf-8")
    with pytest.raises(SystemExit, match="sub-x1 was scored as test"):
        calibration_scans(results)


def test_an_untouched_scan_is_scored_as_in_the_pipeline_and_a_touched_one_is_not(results):
    study = Study(results, "vae_kl", "0", SCORE["calibrated"])
    healthy, touched = study.versions("sub-c1", 1)
    assert (healthy.kind, touched.kind) == ("healthy", KINDS[0])
    assert list(healthy.pooled) == [0]  # the tiny cohort has no early-stopping scans, so no components
    for place, share in enumerate(POOL_SHARES):
        written = read_pooled(results / "score" / "pooled" / "sub-c1.npz", share)
        for key in (("statistical_atlas", "n/a"), ("vae_kl", "0")):
            assert np.array_equal(healthy.pooled[0][key][place], written[key])
    assert not np.array_equal(healthy.counted, touched.counted)
    denser = [v.pooled[0]["statistical_atlas", "n/a"][-1, 0][touched.counted] for v in (healthy, touched)]
    assert denser[1].mean() > denser[0].mean()


def test_weightings_count_atlas_and_network_as_often_as_they_say(results, monkeypatch):
    monkeypatch.setattr("benchmarks.choose_scoring.pool", lambda z, slices, shares: z)
    study = Study(results, "vae_kl", "0", SCORE["calibrated"])
    z = study.pooled(study.slices("sub-c1"), study.healthy_maps("sub-c1"), study.others("sub-c1"))[0]
    atlas, network = z["statistical_atlas", "n/a"], z["vae_kl", "0"]
    for name, (a, n) in {
        "fused": (1, 1),
        "fused 2:1": (2, 1),
        "fused 1:2": (1, 2),
        "fused 1:4": (1, 4),
    }.items():
        assert WEIGHTS[name] == (a, n)
        (found,) = (values for (method, _), values in z.items() if method == name)
        np.testing.assert_allclose(found, (a * atlas + n * network) / (a + n), rtol=1e-4, atol=1e-4)
    assert np.abs(atlas - network).max() > 0.1


def test_command_writes_every_weighting_and_prints_it(results, tmp_path, capsys):
    out = tmp_path / "chosen.json"
    assert main([str(results), "--network", "vae_kl", "0", "--repeats", "1", "--out", str(out)]) == 0
    rows = read_json(out)["rows"]
    assert {r["method"] for r in rows} == {"statistical_atlas", "vae_kl", *WEIGHTS}
    assert all(r["slices_over_fused"] == 0 for r in rows if r["method"] == "fused")
    printed = capsys.readouterr().out
    assert "| fused 1:2 |" in printed and "highest:" in printed


def version(patient: str, kind: str, rng: np.random.Generator, height: float) -> Version:
    usable = np.ones(155, bool)
    counted = usable.copy()
    if kind != "healthy":
        counted[40:] = False
    values = rng.standard_normal((len(POOL_SHARES), 2, 155)).astype(np.float32)
    values[:, :, counted] += height
    keys = (("statistical_atlas", "n/a"), ("fused", "0"))
    return Version(patient, kind, {n: dict.fromkeys(keys, values) for n in (0, 5)}, counted, usable)


def test_table_has_every_setting_and_gains_on_the_one_before():
    rng = np.random.default_rng(0)
    versions = [
        version(f"p{n}", kind, rng, height)
        for n in range(4)
        for kind, height in (("healthy", 0), ("denser", 2))
    ]
    rows = table(versions, draws=50)
    assert len(rows) == 2 * 24
    before = [r for r in rows if tuple(r.values())[:4] == BEFORE]
    assert len(before) == 2
    for row in before:
        assert row["slices_gain"] == 0
        assert row["slices_gain_interval"] == [0, 0]
        assert row["slices"] == row["denser"] > 0.9
    # smoothing over slices takes noise off
    smooth = next(r for r in rows if tuple(r.values())[:4] == (12, 8, 0, 0.005))
    assert smooth["slices_gain_interval"][0] <= smooth["slices_gain"] <= smooth["slices_gain_interval"][1]
    assert len(markdown(rows, "fused").splitlines()) == 3 + 24


def test_aurocs_are_the_usual_ones_and_weights_repeat_patients():
    rng = np.random.default_rng(1)
    positive = [rng.integers(0, 6, n) + 1.0 for n in (5, 9, 2)]
    negative = [rng.integers(0, 6, n) * 1.0 for n in (7, 1, 4)]

    def usual(times: list[int]) -> float:
        p = np.concatenate([np.tile(v, t) for v, t in zip(positive, times, strict=True)])
        n = np.concatenate([np.tile(v, t) for v, t in zip(negative, times, strict=True)])
        return roc_auc_score(np.r_[np.ones(len(p)), np.zeros(len(n))], np.r_[p, n])

    weights = [[1, 1, 1], [2, 0, 1], [0, 3, 0]]
    assert aurocs(positive, negative, np.array(weights, float)) == pytest.approx([usual(w) for w in weights])
