"""False findings of healthy scans, and what training scans were like."""

import numpy as np

from normct.common.files import read_json
from normct.common.slices import GRID, SIZE, SliceStore, empty_store
from normct.score.false_findings import FACTORS, SIZES_ML, VOXEL_ML, false_findings, region_volumes
from normct.score.trained_on import describe, scanner_mark


def store_and_map(blocks):
    """A brain that fills a box, and a map with blocks (slices, value)."""
    mask = np.zeros((155, SIZE, SIZE), bool)
    mask[40:110, 20:100, 20:100] = True
    volume = np.zeros(mask.shape, np.float32)
    for where, value in blocks:
        volume[where] = value
    brain = np.zeros((155, GRID, GRID), bool)
    store = SliceStore(
        "sub-a", np.zeros(mask.shape, np.float16), mask, brain, brain, mask.any(axis=(1, 2)), False
    )
    return store, lambda: {"vae_kl/seed-0": volume[mask].astype(np.float16)}


def test_regions_are_counted_by_sign_size_and_threshold():
    dense = np.s_[50:60, 30:40, 30:40]  # 1000 voxels, 3.5 mL
    dark = np.s_[60:64, 30:35, 30:35]  # touches the first, of the other sign: 100 voxels, 0.35 mL
    result = false_findings([store_and_map([(dense, 1.0), (dark, -0.3)])], {"vae_kl": 0.25})
    table = np.array(result["mean"]["vae_kl"])
    at = {f: i for i, f in enumerate(FACTORS)}
    expected = [[3.516, 0.352], [3.516]]
    for factor, volumes in zip((1.0, 1.25), expected, strict=True):
        assert table[at[factor]].tolist() == [sum(v >= s for v in volumes) for s in SIZES_ML]
    assert result["largest"]["vae_kl"] == table.astype(int).tolist()
    assert region_volumes(np.ones((2, 2, 2), np.float32), 0.5).tolist() == [8 * VOXEL_ML]


def test_mean_is_over_scans_that_were_not_set_aside():
    one = store_and_map([(np.s_[50:60, 30:40, 30:40], 1.0)])
    result = false_findings([one, store_and_map([]), (empty_store("sub-b"), dict)], {"vae_kl": 0.25})
    assert result["n_scans"] == 2
    assert result["mean"]["vae_kl"][2][0] == 0.5 and result["largest"]["vae_kl"][2][0] == 1


def test_training_is_described_without_names():
    seen = describe(
        [{"kernel": "STD+", "vendor": "GE"}, {"kernel": None, "vendor": None}],
        [{"slice_thickness_mm": 5.0, "noise_hu": None}, {"slice_thickness_mm": 2.5, "noise_hu": None}],
        {"ages": [44, 61], "scanners": ["Ward 7"]},
    )
    assert seen["age"] == [44, 61] and seen["slice_thickness_mm"] == [2.5, 5.0] and seen["noise_hu"] is None
    assert seen["kernels"] == ["STD+"] and seen["vendors"] == ["GE"] and seen["n"] == 2
    assert seen["scanners"] == [scanner_mark(" ward 7 ")] and "Ward" not in str(seen)


def test_calibration_of_a_run_carries_them(scored):
    calibration = read_json(scored / "score/calibration.json")
    assert set(calibration["false_findings"]["mean"]) == set(calibration["thresholds"])
    assert calibration["false_findings"]["n_scans"] == calibration["n_healthy"]
