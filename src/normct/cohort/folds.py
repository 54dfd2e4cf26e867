"""Folds of the training patients: each fold's scans are scored by networks that did not learn from its patients.

As with the split, a hash of each patient decides and not its place in a table. A fold takes no more than its equal
share, for small cohorts are what folds are for; who finds it full goes to the next by hash, so that another patient
moves few.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from normct.cohort.split import fraction
from normct.common.errors import ConfigError

if TYPE_CHECKING:
    from normct.cohort.table import Participant


def assign_folds(patients: Iterable[str], folds: int, seed: int) -> dict[str, int]:
    """Give every patient a fold.

    Parameters
    ----------
    patients : iterable of str
        In any order; named more than once they count once.
    folds : int
        Two or more.
    seed : int
        Another seed, other folds.

    Returns
    -------
    dict
        Patient to fold, 1 to ``folds``. Sizes differ by one patient at most.

    Raises
    ------
    ConfigError
        Where a fold would have no patient.
    """
    order = sorted(set(patients), key=lambda patient: (fraction(seed, patient, "fold"), patient))
    if len(order) < folds:
        raise ConfigError(
            "Cross-fitting needs a training patient in every fold:",
            [
                f"score.cross_fit: {folds} folds of {len(order)} usable training patient{'s' * (len(order) != 1)};"
                " name fewer folds, 0 for none, or add healthy scans to the split train"
            ],
        )
    share, over = divmod(len(order), folds)
    sizes = dict.fromkeys(range(1, folds + 1), 0)
    result = {}
    for patient in order:
        # so many folds have a patient more than the others
        room = [fold for fold, size in sizes.items() if size < share + bool(over)]
        fold = max(room, key=lambda fold: fraction(seed, patient, f"fold {fold}"))
        over -= sizes[fold] == share
        sizes[fold] += 1
        result[patient] = fold
    return result


def training_folds(participants: Iterable[Participant], folds: int, seed: int) -> dict[str, int]:
    """Return training scan to fold, all scans of a patient in one; empty for ``folds`` 0.

    A patient all of whose scans a person's verdict sets aside is in no fold: there is nothing to score.
    """
    if not folds:
        return {}
    training = [p for p in participants if p.role == "train"]
    usable = [p.patient or p.participant_id for p in training if p.quality != "fail"]
    fold_of = assign_folds(usable, folds, seed)
    return {
        p.participant_id: fold_of[patient]
        for p in training
        if (patient := p.patient or p.participant_id) in fold_of
    }
