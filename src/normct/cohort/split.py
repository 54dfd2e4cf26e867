"""The patient-level split: a hash of each patient decides, so that adding patients never moves others.

Only where the hash would leave a part empty (a handful of patients) is one patient moved, the one nearest the
threshold.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping


def fraction(seed: int, patient: str, what: str) -> float:
    """Return a number in [0, 1), uniform over patients, that depends on the arguments only."""
    digest = hashlib.sha256(f"{seed}\x1f{what}\x1f{patient}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def assign_splits(
    given: Mapping[str, str | None], seed: int, test_fraction: float, val_fraction: float
) -> dict[str, str]:
    """Give every healthy patient a split.

    Parameters
    ----------
    given : mapping
        Patient to the split that the table gives, or None.
    seed : int
        Another seed, another split.
    test_fraction : float
        Share of the patients without a split that goes to ``test``.
    val_fraction : float
        Share of the others that goes to ``val``. Where the table gives no ``val`` at all, its ``train``
        patients are drawn from too.

    Returns
    -------
    dict
        Patient to ``train``, ``val`` or ``test``. With three patients to draw from or more, ``train`` is not
        empty and ``val`` has two (one to stop training, one to calibrate); with two, ``val`` has one.
    """
    draws_val = "val" not in given.values()
    test = {p: fraction(seed, p, "test") for p in given}
    val = {p: fraction(seed, p, "val") for p in given}
    result: dict[str, str] = {}
    for patient, split in given.items():
        if split is None and test[patient] < test_fraction:
            result[patient] = "test"
        elif split is None or (split == "train" and draws_val):
            result[patient] = "val" if val[patient] < val_fraction else "train"
        else:
            result[patient] = split

    def drawn(split: str) -> list[str]:
        """Patients the hash put into a split and who may leave it."""
        free = [p for p, s in result.items() if s == split and given[p] != split]
        return free + [p for p, s in result.items() if s == split == "train" == given[p] and draws_val]

    def count(split: str) -> int:
        return sum(s == split for s in result.values())

    # a cohort too small for its fractions: train first, then val, from the held-out test and from each other
    while count("train") + count("val") < 3 and (spare := drawn("test")):
        result[max(spare, key=test.__getitem__)] = "train"
    if not count("train") and (spare := drawn("val")):
        result[max(spare, key=val.__getitem__)] = "train"
    while draws_val and count("val") < 2 and count("train") >= 2 and (spare := drawn("train")):
        result[min(spare, key=val.__getitem__)] = "val"
    # a healthy test patient is what detection is measured against; train keeps one, val two
    free = [p for p in drawn("train") if given[p] is None]
    if test_fraction > 0 and not count("test") and count("train") >= 2 and free:
        result[min(free, key=test.__getitem__)] = "test"
    return result


def assign_roles(val_patients: set[str], seed: int) -> dict[str, str]:
    """Cut ``val`` into ``stop`` (early stopping) and ``calibrate``, each with one patient at least.

    A single patient is ``stop``: calibration then has nobody of its own, and uses the ``stop`` scans.
    """
    chance = {p: fraction(seed, p, "role") for p in val_patients}
    roles = {p: "stop" if chance[p] < 0.5 else "calibrate" for p in val_patients}
    if val_patients and "stop" not in roles.values():
        roles[min(chance, key=chance.__getitem__)] = "stop"
    if len(val_patients) > 1 and "calibrate" not in roles.values():
        roles[max(chance, key=chance.__getitem__)] = "calibrate"
    return roles
