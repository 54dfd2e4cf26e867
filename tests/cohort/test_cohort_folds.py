"""Folds of the training patients: by patient, of equal size, and nearly the same when a patient joins."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from normct.cohort.folds import assign_folds, training_folds
from normct.common.errors import ConfigError

names = st.text("abcdefghij0123456789", min_size=1, max_size=6)


def scan(participant_id, patient, role="train", quality=None):
    return SimpleNamespace(participant_id=participant_id, patient=patient, role=role, quality=quality)


@settings(max_examples=60, deadline=None)
@given(st.sets(names, min_size=10, max_size=60), st.integers(2, 10), st.integers(0, 5))
def test_every_patient_has_one_fold_and_folds_are_of_equal_size_in_any_order(patients, folds, seed):
    found = assign_folds(sorted(patients), folds, seed)
    assert set(found) == patients
    sizes = Counter(found.values())
    assert set(sizes) == set(range(1, folds + 1))
    assert max(sizes.values()) - min(sizes.values()) <= 1
    assert assign_folds(sorted(patients, reverse=True), folds, seed) == found


def test_one_patient_more_moves_few_and_another_seed_moves_many():
    moved = []
    for n in range(200):
        patients = [f"p{n}-{m}" for m in range(30)]
        before, after = assign_folds(patients[:-1], 5, 0), assign_folds(patients, 5, 0)
        moved.append(sum(before[p] != after[p] for p in before) / len(before))
    # dealt out by rank, most would move
    assert sum(moved) / len(moved) < 0.15
    assert assign_folds(patients, 5, 1) != after


def test_the_hash_is_fixed_for_ever():
    # a change here would train every user's folds again
    found = assign_folds([f"sub-{n:03}" for n in range(8)], 3, 0)
    assert [found[patient] for patient in sorted(found)] == [2, 1, 1, 2, 2, 3, 1, 3]


def test_all_scans_of_a_patient_are_in_one_fold_and_no_other_role_is():
    people = [scan(f"sub-{p}{s}", p) for p in "abcdef" for s in (1, 2)]
    people += [scan("sub-v", "v", "calibrate"), scan("sub-s", "s", "stop"), scan("sub-x", "x", "test")]
    folds = training_folds(people, 3, 0)
    assert set(folds) == {f"sub-{p}{s}" for p in "abcdef" for s in (1, 2)}
    assert all(folds[f"sub-{p}1"] == folds[f"sub-{p}2"] for p in "abcdef")
    assert training_folds(people, 0, 0) == {}


def test_a_patient_whose_scans_a_person_set_aside_fills_no_fold():
    people = [scan("sub-a1", "a"), scan("sub-a2", "a", quality="fail"), scan("sub-b", "b", quality="fail")]
    with pytest.raises(ConfigError, match="2 folds of 1 usable training patient;"):
        training_folds(people, 2, 0)
    folds = training_folds([*people, scan("sub-c", "c")], 2, 0)
    assert set(folds) == {"sub-a1", "sub-a2", "sub-c"}
    assert folds["sub-a1"] == folds["sub-a2"] != folds["sub-c"]


def test_more_folds_than_patients_are_refused_in_words():
    with pytest.raises(ConfigError, match=r"score\.cross_fit: 5 folds of 3 usable training patients"):
        assign_folds(["a", "b", "c", "a"], 5, 0)
