"""The model card quotes the evaluation and says what was not seen, with nothing stated that no table shows."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from normct.common.cautions import EXPOSED, RANKING
from normct.score.model_card import model_card, results
from score.score_case import CONFIG

TRAINING = {"synthetic": False, "scans": 9, "slices": 900, "stop": 3, "methods": ["vae_kl"], "seeds": [0]}


def evaluation(folder: Path) -> Path:
    """Write the tables that the card reads."""
    base = {"method": "fused", "score": "fused", "members": "single", "note": ""}
    rows = [
        {
            **base,
            "pathology": "icb",
            "n_patients": 12,
            "auroc_mean": 0.913,
            "auroc_low": 0.85,
            "auroc_high": 0.96,
        },
        {
            **base,
            "pathology": "aneurysm",
            "n_patients": 3,
            "auroc_mean": 0.61,
            "auroc_low": None,
            "auroc_high": None,
        },
    ]
    rows += [
        rows[0] | {"members": "ensemble", "auroc_mean": 0.99},
        rows[0] | {"method": "vae_kl", "score": "thesis"},
    ]
    pd.DataFrame(rows).to_csv(folder / "pathology.csv", index=False)
    groups = [
        {**base, "kind": kind, "stratum": stratum, "protocol": "volume", "n_patients": 7, "auroc_mean": value,
         "auroc_low": 0.6, "auroc_high": 0.9}
        for kind, stratum, value in (("scanner", "St. Mary's CT 1", 0.81), ("age", "under 50 years", 0.5))
    ]  # fmt: skip
    pd.DataFrame(groups).to_csv(folder / "subgroups.csv", index=False)
    return folder


def test_results_and_blind_spots_come_from_the_tables(tmp_path):
    lines, spots = results(evaluation(tmp_path), ["vae_kl"])
    text = "\n".join(lines)
    assert "| 12 | 0.91 (0.85 to 0.96) |" in text
    assert "| 3 | 0.61 |" in text
    assert "| scanner 1 | 7 | 0.81 (0.60 to 0.90) |" in text
    assert "0.99" not in text  # single seeds lead
    assert "Mary" not in text  # a bundle travels, a hospital's name does not
    assert any("Aneurysm" in s and "0.61" in s for s in spots)
    assert not any(s.startswith("Intracranial") for s in spots)
    assert any(s.startswith("Tested on fewer than 10") and "Aneurysm" in s for s in spots)
    assert any(s.startswith("Not tested at all") and "Ischemia" in s for s in spots)


def test_without_an_evaluation_nothing_is_claimed(tmp_path):
    lines, spots = results(tmp_path, ["vae_kl"])
    assert "Not evaluated" in lines[0]
    assert "not tested on any pathology" in spots[0]
    (tmp_path / "pathology.csv").write_text("pathology,method,score,members\n")
    assert results(tmp_path, ["vae_kl"]) == (lines, spots)


def test_card_says_who_was_trained_on(tmp_path):
    about = {
        "age": [21.0, 88.0],
        "slice_thickness_mm": [3.0, 5.0],
        "noise_hu": None,
        "scanners": ["a1", "b2"],
    }
    card = model_card(
        "own",
        CONFIG,
        TRAINING | {"trained_on": about},
        {"n_healthy": 24, "warning": None},
        evaluation(tmp_path),
    )
    for words in (
        "| ages of the training scans | 21 to 88 years |",
        "| their noise | not known |",
        "| their scanners | 2 |",
        "## Intended use",
        "## Known blind spots",
        "## Limits",
    ):
        assert words in card


def test_each_table_of_a_synthetic_cohort_says_so(tmp_path):
    def card(folder: Path, *, synthetic: bool) -> str:
        training = TRAINING | {"synthetic": synthetic}
        return model_card("own", CONFIG, training, {"n_healthy": 24, "warning": None}, folder)

    found = card(evaluation(tmp_path), synthetic=True)
    for table in ("| pathology |", "| scanner |"):
        assert f"**{RANKING}**\n\n{table}" in found
    assert RANKING not in card(tmp_path, synthetic=False)
    (tmp_path / "pathology.csv").unlink()
    assert RANKING not in card(tmp_path, synthetic=True)  # no table, nothing to rank


def test_every_card_says_where_the_defaults_come_from():
    parent = {"name": "first", "checksum": "a" * 64}
    for origin in (None, parent):
        card = model_card("own", CONFIG, TRAINING, {"n_healthy": 24, "warning": None}, parent=origin)
        assert f"- {EXPOSED}" in card
