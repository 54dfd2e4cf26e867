"""The model card quotes the evaluation and says what was not seen, with nothing stated that no table shows."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from normct.common.cautions import EXPOSED, RANKING
from normct.evaluate import regions, sentences_beyond
from normct.score import card_blind_spots, card_results
from normct.score.card_tables import TABLES, shown
from normct.score.model_card import model_card
from score.card_case import COLUMNS, compared, tables, write
from score.score_case import CONFIG

TRAINING = {"synthetic": False, "scans": 9, "slices": 900, "stop": 3, "methods": ["vae_kl"], "seeds": [0]}
CALIBRATION = {"n_healthy": 24, "warning": None}


def card(folder: Path | None = None, **more: Any) -> str:
    """The card of a bundle that this evaluation belongs to."""
    return model_card("own", CONFIG, TRAINING | more, CALIBRATION, folder)


def without(folder: Path, *names: str) -> Path:
    """Write all tables but these."""
    return write(folder, {name: rows for name, rows in tables().items() if name not in names})


def spots(text: str) -> list[str]:
    return text.partition("## Known blind spots\n")[2].partition("\n\n")[0].splitlines()


@pytest.mark.parametrize(
    "line",
    [
        "| **All** | 20 scans | 0.84 (0.80 to 0.88) | 0.82 (0.75 to 0.89) | 65 % | 12 of 16 |",
        "| Intracranial bleeding (intra-axial) | 12; 14 | 0.91 (0.85 to 0.96) | 0.95 (0.90 to 1.00) | 75 % | 9 of 12 |",
        "| Aneurysm | 3 | 0.61 | 0.41 | 0 % | – |",
        "| Tumor | 10 | 0.73 (0.49 to 0.89) | – | – | – |",
        "| Bleed (extra-axial): subdural | 11 | 0.69 (0.60 to 0.80) | 0.72 (0.60 to 0.80) | 25 % | – |",
        "| Lesions under 1 mL | 13 | 0.60 (0.45 to 0.73) | 0.56 (0.55 to 0.72) | 11 % | – |",
        "| Third of the brain: base | 15 | 0.82 (0.72 to 0.92) | – | – | – |",
        # over seeds, without the ensemble; exact intervals of 13 of 20 scans and 27 of 30 patients
        "| 90 % | 65 % (41 to 85 %) | 90 % (73 to 98 %) | 10 |",
        "| 99 % | 50 % (27 to 73 %) | 95 % (80 to 100 %) | 5 |",
        "24 calibration scans cannot resolve it.",
        "| the bundle's | 75 % | 20.8 |",
        "| at most 1 false | 50 % (40 to 60 %) | 0.95 |",
        "| scanner 1 | 7 | 5 | 0.81 (0.60 to 0.90) |",
        "| scanner 2 | 8 | 35 | 0.82 (0.60 to 0.90) |",
    ],
)
def test_results_come_from_the_tables(tmp_path, line):
    assert line in card(write(tmp_path)).splitlines()


def test_results_say_what_they_are_of(tmp_path):
    text = card(write(tmp_path))
    assert "with the 40 healthy ones" in text
    assert "Flagged: above the threshold for 90 % specificity; so are 10 % of the healthy." in text
    assert "Two numbers of patients" in text
    assert "means over 2 seeds" in text
    assert "lesions found, 20.8 false a healthy scan |" in text
    for other in ("0.99", "0.98", "12 %", "Ischemia |"):  # an ensemble, a network, its residual, and none
        assert other not in text
    # a subtype stands below its pathology, and the bundle's own threshold above the rates
    names = [line.split(" | ")[0] for line in text.splitlines() if line.startswith("| ")]
    assert names.index("| Bleed (extra-axial): subdural") == names.index("| Bleed (extra-axial)") + 1
    assert names.index("| the bundle's") == names.index("| at most 1 false") - 1


def test_a_scanner_is_numbered_the_same_everywhere_and_never_named(tmp_path):
    text = card(write(tmp_path))
    assert "Mary" not in text  # a bundle travels, a hospital's name does not
    assert "General" not in text
    found = [line for line in spots(text) if "Healthy " in line]
    assert (
        "of scanner 2 score lower than the others (AUROC 0.28 (0.18 to 0.38); 7 against 33 scans; p = 0.39, cor"
        in found[0]
    )
    assert "too high for them" in found[0]
    assert "of scanner 3 score higher" in found[1]  # without an abnormal scan: in no table by scanner
    assert "with slices above 4 mm score higher" in found[2]
    assert "p = 0.03)" in found[2]  # a table of before the correction
    assert "Healthy test scans score lower than the calibration scans" in found[3]
    assert len(found) == 4


@pytest.mark.parametrize(
    ("line", "other"),
    [
        ("- Aneurysm: slices 0.61, whole scans 0.41.", "icb"),
        ("- Bleed (extra-axial): whole scans 0.66 (0.55 to 0.80).", "slices 0.83"),
        ("- Bleed (extra-axial): subdural: slices 0.69 (0.60 to 0.80).", "whole scans 0.72"),
        ("- Tumor: slices 0.73 (0.49 to 0.89); not shown to be better than chance.", "brain: base"),
        (
            "- Lesions under 1 mL: slices 0.60 (0.45 to 0.73), whole scans 0.56 (0.55 to 0.72); not shown to be better "
            "than chance on slices.",
            "Intracranial",
        ),
        ("- Tested on fewer than 10 patients each: Aneurysm.", "Third"),
        ("- Not tested at all: Atrophy, Cavernoma, Ischemia.", "Ischemia:"),
    ],
)
def test_blind_spots_are_what_the_tables_show(tmp_path, line, other):
    found = spots(card(write(tmp_path)))
    assert line in found
    assert not any(other in text for text in found)


def test_acquisition_that_separates_the_groups_is_said(tmp_path):
    words = "alone separate abnormal from healthy test scans"
    assert words not in card(write(tmp_path))
    alarm = compared(
        "acquisition", "abnormal against healthy", 0.8, 0.001, method="acquisition", score="trivial"
    )
    write(tmp_path, {"confound": [alarm]})
    assert f"{words} (AUROC 0.80, p = 0.001)" in card(tmp_path)


def test_limits_are_those_of_the_report():
    assert (sentences_beyond.LOW, sentences_beyond.HIGH) == card_blind_spots.APART
    assert sentences_beyond.SURE == card_blind_spots.SURE
    assert (regions.HIT_IOU, regions.SMALLEST_ML) == (card_results.OVERLAP, card_results.SMALLEST_ML)
    assert set(COLUMNS) == set(TABLES)


@pytest.mark.parametrize("name", TABLES)
def test_a_missing_table_leaves_the_others(tmp_path, name):
    text = card(without(tmp_path, name))
    assert "| Aneurysm | 3 |" in text
    assert not re.search(r"None|\bnan\b|\n\n\n|\| *\|", text)
    gone = {"operating_points": "Whole scans at", "froc": "Lesions found on", "confound": "Healthy scans of"}
    assert name not in gone or gone[name] not in text
    assert ("By scanner: not known" in text) == (name == "subgroups")
    assert ("**All**" in text) == (name != "detection_summary")


def test_whole_scans_are_enough_where_no_lesion_is_marked(tmp_path):
    text = card(without(tmp_path, "pathology", "froc"))
    assert "| Bleed (extra-axial) | 11 | – | 0.66 (0.55 to 0.80) | 50 % | – |" in text


def test_one_pathology_alone_makes_a_card(tmp_path):
    text = card(write(tmp_path, {"pathology": [tables()["pathology"][1]]}))
    assert "| Aneurysm | 3 | 0.61 | – | – | – |" in text
    assert "- Aneurysm: slices 0.61." in spots(text)
    assert "Flagged" not in text
    assert "means over" not in text


def test_without_an_evaluation_nothing_is_claimed(tmp_path):
    text = card(tmp_path)
    assert "Not evaluated" in text
    assert "not tested on any pathology" in text
    write(tmp_path, {name: [] for name in TABLES})
    assert card(tmp_path) == card() == text
    # a cohort without abnormal test scans: rows without an AUROC
    rows = [row | {"auroc_mean": None} for row in tables()["detection_summary"]]
    write(tmp_path, {"detection_summary": rows})
    assert card(tmp_path) == text


def test_a_network_leads_where_nothing_is_fused(tmp_path):
    rows = [row | {"method": "vae_kl", "score": "thesis"} for row in tables()["pathology"]]
    write(tmp_path, {"pathology": rows})
    found = shown(tmp_path, ["vae_kl"])
    assert found is not None
    assert found.name == "the plain score of VAE-KL"
    assert shown(tmp_path, ["cevae"]) is None  # no network of this bundle


def test_card_says_who_was_trained_on(tmp_path):
    about = {
        "age": [21.0, 88.0],
        "slice_thickness_mm": [3.0, 5.0],
        "noise_hu": None,
        "scanners": ["a1", "b2"],
    }
    text = card(write(tmp_path), trained_on=about)
    for words in (
        "| ages of the training scans | 21 to 88 years |",
        "| their noise | not known |",
        "| their scanners | 2 |",
        "No network learnt from an abnormal scan",
        "The fused score is that of the mean of the maps of the statistical atlas and all networks",
        "its median is subtracted",
        "## Intended use",
        "## Known blind spots",
        "## Limits",
    ):
        assert words in text
    # the settings of a head that no network has
    assert "Thesis scoring" not in text
    assert "Thesis scoring: λ = 0.5" in card(methods=["multitask_pretrained"])


def test_each_table_of_a_synthetic_cohort_says_so(tmp_path):
    text = card(write(tmp_path), synthetic=True)
    heads = ("to be found", "specificity aimed at", "threshold of the map", "scanner")
    for head in heads:
        assert f"**{RANKING}**\n\n| {head} |" in text
    assert text.count(RANKING) == len(heads)
    assert RANKING not in card(tmp_path)
    for name in TABLES:
        (tmp_path / f"{name}.csv").unlink()
    assert RANKING not in card(tmp_path, synthetic=True)  # no table, nothing to rank


def test_every_card_says_where_the_defaults_come_from():
    parent = {"name": "first", "checksum": "a" * 64}
    for origin in (None, parent):
        text = model_card("own", CONFIG, TRAINING, CALIBRATION, parent=origin)
        assert f"- {EXPOSED}" in text
