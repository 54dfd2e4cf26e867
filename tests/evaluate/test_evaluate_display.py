from __future__ import annotations

import itertools

import numpy as np
import pandas as pd

from normct.evaluate import sentences
from normct.evaluate.display import segmentation_table


def dice_rows(*subsets: str) -> pd.DataFrame:
    """Dice 0.2 with a ceiling of 0.3, of all pathologies; twice as much of each narrower subset."""
    rows = []
    for subset in subsets:
        for method in ("vae_kl", "statistical_atlas"):
            for level, threshold in itertools.product(("slice", "volume"), ("calibrated", "oracle")):
                dice = (0.2 if threshold == "calibrated" else 0.3) * (1 if subset == "all" else 2)
                row = {"subset": subset, "method": method, "map": "residual", "level": level}
                row |= {"threshold": threshold, "dice_mean": dice, "n_units": 9 if subset == "all" else 7}
                row |= {"members": "single", "dice_low": np.nan, "dice_high": np.nan}
                rows.append(row | {"dice_sd_over_seeds": np.nan, "dice_sd_over_units": np.nan})
    return pd.DataFrame(rows)


def test_dice_leads_with_focal_lesions_and_counts_atrophy_in_one_column():
    table = segmentation_table(dice_rows("all", "focal", "icb", "atrophy"), 0.01)
    assert table is not None
    assert table.header[-1] == "Dice, volumes, with atrophy"
    assert table.rows[0] == ["VAE-KL", "0.400", "0.600", "0.400", "0.600", "0.200"]
    assert "7 volumes" in table.caption
    assert "their Dice averaged over seeds" in table.notes[0]
    assert "Atrophy has no focus" in table.notes[1]
    said = sentences.on_localisation(dice_rows("all", "focal", "icb", "atrophy"))
    assert "Dice per volume is 0.400" in said
    assert "atrophy left out" in said
    without = segmentation_table(dice_rows("all", "focal", "icb"), 0.01)
    assert without is not None
    assert (len(without.header), len(without.notes)) == (5, 1)
    only = segmentation_table(dice_rows("all", "atrophy"), 0.01)
    assert only is not None
    assert only.header == ["Method", "Dice, volumes, with atrophy"]
    assert "not computed" in sentences.on_localisation(dice_rows("all", "atrophy"))


def test_dice_says_whether_maps_or_their_dice_were_averaged():
    rows = dice_rows("focal")
    mean_map = rows.assign(map="calibrated", members="ensemble", method="fused", dice_low=0.3, dice_high=0.5)
    both = pd.concat([rows, mean_map], ignore_index=True)
    table = segmentation_table(both, 0.01, "calibrated")
    assert table is not None
    assert "the mean of all seeds' maps" in table.notes[0]
    assert table.rows[0][1] == "0.400 (0.30 to 0.50)"
    said = sentences.on_localisation(both)
    assert "each seed by itself, their Dice averaged" in said
    assert "mean of all seeds' maps and so not on the same footing, has 0.400 (95 % interval 0.300 to" in said
