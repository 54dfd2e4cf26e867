from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from normct.evaluate.protocols import (
    classes,
    judge_intervals,
    make_strata,
    one_class_reason,
    pathology_classes,
)

UNITS = pd.DataFrame(
    [
        ("healthy", "n/a", False, 0),
        ("abnormal", "icb", True, 12),
        ("abnormal", "icb", True, 0),
        ("abnormal", "tumor", True, 3),
        ("abnormal", "aneurysm", False, 0),  # no mask: nobody knows which of its slices hold the lesion
        ("unlabelled", "n/a", False, 0),
    ],
    columns=["group", "pathology", "has_lesion_mask", "lesion_pixels"],
)


@pytest.mark.parametrize(
    ("protocol", "expected"),
    [
        ("slice", [0, 1, 0, 1, -1, -1]),
        ("slice_healthy", [0, 1, -1, 1, -1, -1]),
        ("clinical", [0, 1, 1, 1, 1, -1]),
        ("volume", [0, 1, 1, 1, 1, -1]),
    ],
)
def test_sets_by_hand(protocol, expected):
    assert classes(UNITS, protocol).tolist() == expected


def test_pathology_leaves_the_others_out():
    assert pathology_classes(UNITS, "icb").tolist() == [0, 1, -1, -1, -1, -1]
    assert pathology_classes(UNITS, "aneurysm").tolist() == [0, -1, -1, -1, -1, -1]


def test_unknown_protocol():
    with pytest.raises(ValueError, match="unknown protocol"):
        classes(UNITS, "voxel")


def test_reasons():
    assert one_class_reason("slice", 3, 4) == ""
    assert "lesion mask" in one_class_reason("slice_healthy", 0, 4)
    assert one_class_reason("volume", 2, 0) == "no healthy test scan"
    assert "abnormal" in one_class_reason("clinical", 0, 4)


def scans(rows):
    return pd.DataFrame(rows, columns=["participant_id", "patient", "group", "pathology"])


def test_strata_take_all_scans_of_a_patient_together():
    strata = make_strata(
        scans(
            [
                ("sub-1", "p1", "healthy", "n/a"),
                ("sub-2", "p1", "healthy", "n/a"),
                ("sub-3", "p2", "healthy", "n/a"),
                ("sub-4", "p3", "abnormal", "icb"),
                ("sub-5", "p3", "abnormal", "tumor"),
                ("sub-6", "p4", "abnormal", "icb"),
                ("sub-7", "p5", "abnormal", "icb"),
            ]
        )
    )
    assert strata.patients == ["p1", "p2", "p3", "p4", "p5"]
    assert strata.stratum.tolist() == ["healthy", "healthy", "icb+tumor", "icb", "icb"]
    assert strata.single == ["icb+tumor"]
    units = pd.DataFrame({"patient": ["p4", "p1", "p4"]})
    assert strata.code(units).tolist() == [3, 0, 3]


def test_a_stratum_of_one_patient_has_no_interval_and_says_so():
    strata = make_strata(
        scans(
            [
                ("sub-1", "p1", "healthy", "n/a"),
                ("sub-2", "p2", "healthy", "n/a"),
                ("sub-3", "p3", "abnormal", "icb"),
                ("sub-4", "p4", "abnormal", "tumor"),
                ("sub-5", "p5", "abnormal", "tumor"),
            ]
        )
    )
    assert judge_intervals(strata, np.array([2])) == (False, "no interval: one patient only in stratum icb")
    allowed, note = judge_intervals(strata, np.array([2, 3, 4]))
    assert allowed
    assert "(icb)" in note
    assert judge_intervals(strata, np.array([3, 4])) == (True, "")


def test_one_healthy_patient_has_no_interval():
    strata = make_strata(
        scans(
            [("s1", "p1", "healthy", "n/a"), ("s2", "p2", "abnormal", "icb"), ("s3", "p3", "abnormal", "icb")]
        )
    )
    assert judge_intervals(strata, np.array([1, 2])) == (False, "no interval: one healthy patient only")
