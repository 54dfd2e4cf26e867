"""Whose scans may set scales and thresholds."""

from __future__ import annotations

from collections.abc import Iterable

from normct.common.errors import NormctError
from normct.score.files import Raw


def refuse_leaks(raws: Iterable[Raw], folds: int = 0) -> str | None:
    """Raise unless every scan is a healthy one held out for calibration.

    Parameters
    ----------
    raws : iterable of Raw
        None is kept.
    folds : int
        With cross-fitting, a training scan that was scored out of fold is held out as well.

    Returns
    -------
    str or None
        A warning where a cohort with a single validation patient has its early-stopping scans only.

    Raises
    ------
    NormctError
        Naming each scan and its role.
    """
    found = [(raw.participant_id, raw.role, raw.held_out) for raw in raws]
    if found and {role for _, role, _ in found} == {"stop"}:
        return "there is one validation patient, whose scans stop training and calibrate too; add others"
    wrong = [
        f"{subject} ({role})"
        for subject, role, held_out in found
        if role != "calibrate" and not (folds and role == "train" and held_out)
    ]
    if wrong:
        raise NormctError(
            f"Only scans of role calibrate may set scales and thresholds, not {', '.join(wrong)}"
        )
    return None
