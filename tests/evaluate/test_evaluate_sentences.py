"""Sentences on calibrated scores follow the tables, in either direction."""

from __future__ import annotations

import pandas as pd
import pytest

from normct.evaluate import sentences
from normct.evaluate.sentences_beyond import on_position

SUMMARY = pd.DataFrame(
    [
        {
            "protocol": "slice_healthy",
            "method": m,
            "score": "calibrated",
            "members": "single",
            "auroc_mean": v,
        }
        for m, v in (("vae_kl", 0.80), ("denoising", 0.84), ("statistical_atlas", 0.82))
    ]
)


def paired(atlas: tuple[float, float, float], rival: tuple[float, float, float]) -> pd.DataFrame:
    """Rows of the U-Net against the calibrated atlas, and against the better calibrated baseline."""
    rows = [("atlas_calibrated", "statistical_atlas", atlas), ("published_calibrated", "vae_kl", rival)]
    return pd.DataFrame(
        [
            {
                "protocol": "slice_healthy",
                "method": "denoising",
                "score": "calibrated",
                "members": "single",
                "against": against,
                "rival": other,
                "auroc_difference": value,
                "auroc_low": low,
                "auroc_high": high,
            }
            for against, other, (value, low, high) in rows
        ]
    )


@pytest.mark.parametrize(
    ("atlas", "rival", "words"),
    [
        (
            (0.02, 0.01, 0.03),
            (0.04, 0.02, 0.06),
            ("Denoising U-Net beats the statistical atlas", ", better."),
        ),
        ((0.02, -0.01, 0.05), (0.04, -0.01, 0.09), ("no network is shown to beat", ", not established.")),
        ((-0.02, -0.05, 0.01), (-0.04, -0.06, -0.02), ("no network beats", ", worse.")),
    ],
)
def test_networks_alone_against_the_calibrated_atlas(atlas, rival, words):
    text = sentences.networks_calibrated(SUMMARY, paired(atlas, rival), "slice_healthy")
    assert all(part in text for part in words)
    assert "Denoising U-Net less VAE-KL" in text


def test_the_figure_belongs_to_the_network_that_beats_the_atlas():
    table = paired((0.02, 0.01, 0.03), (0.04, 0.02, 0.06))
    unsure = table[table["against"] == "atlas_calibrated"].assign(
        method="cevae", auroc_difference=0.05, auroc_low=-0.01, auroc_high=0.11
    )
    text = sentences.networks_calibrated(SUMMARY, pd.concat([unsure, table]), "slice_healthy")
    assert (
        "Denoising U-Net beats the statistical atlas scored alike: Denoising U-Net less atlas +0.020" in text
    )


def test_nothing_is_said_of_networks_without_an_atlas_to_compare_with():
    alone = paired((0.02, 0.01, 0.03), (0.04, 0.02, 0.06)).query("against != 'atlas_calibrated'")
    assert sentences.networks_calibrated(SUMMARY, alone, "slice_healthy") == ""


def test_brain_area_that_calibration_leaves_is_said():
    rows = [("vae_kl", "thesis", 0.7), ("vae_kl", "calibrated", 0.16), ("fused", "fused", 0.02)]
    table = pd.DataFrame(rows, columns=["method", "score", "value"]).assign(check="area_r2")
    text = on_position(table, "area_r2")
    assert text.startswith("Brain area explains 0.70")
    assert "brain area is not wholly taken out" in text
    assert on_position(table) == ""
