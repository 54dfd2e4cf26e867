"""Who is in the synthetic cohort. No numpy here: this is imported each time the Snakefile is parsed."""

from __future__ import annotations

import random
from typing import Any

BLEEDS = ("subdural", "epidural", "subarachnoid")
SCANNERS = ("synthetic-A", "synthetic-B", "synthetic-C")
MISSING = "n/a"

# settings that shape a subject; the others only say how many there are
SUBJECT_KEYS = ("seed", "pose", "slice_thickness_mm", "noise_hu", "age_years")


def subject_settings(settings: dict[str, Any], split: str) -> dict[str, Any]:
    """Return the part of the ``phantom:`` section that one subject depends on.

    The numbers of subjects are not in it, so that adding subjects reruns none that exist; nor is ``test_seed``, which
    is ``seed`` for test scans, so that new test scans leave those that networks learnt from as they are.
    """
    chosen = {key: settings[key] for key in SUBJECT_KEYS}
    if split == "test" and settings["test_seed"] is not None:
        chosen["seed"] = settings["test_seed"]
    return chosen


def demographics(participant_id: str, settings: dict[str, Any]) -> dict[str, str]:
    """Draw age, sex and scanner from the seed and the ID alone: never from the group.

    Parameters
    ----------
    participant_id : str
    settings : dict
        The ``phantom:`` section (``seed``, ``age_years``).

    Returns
    -------
    dict
        ``age`` (whole years), ``sex`` (F or M), ``scanner`` (its name says synthetic).
    """
    draw = random.Random(f"{settings['seed']}/{participant_id}/demographics")  # noqa: S311 - no secret is drawn
    low, high = settings["age_years"]
    return {"age": str(draw.randint(low, high)), "sex": draw.choice("FM"), "scanner": draw.choice(SCANNERS)}


def _row(
    root: str, subject: str, settings: dict, *, pathology: str, subtype: str, split: str
) -> dict[str, str]:
    folder = f"{root}/phantom/{subject}"
    abnormal = pathology != MISSING
    return {
        "participant_id": subject,
        "ct": f"{folder}/ct.nii.gz",
        "group": "abnormal" if abnormal else "healthy",
        "pathology": pathology,
        "subtype": subtype,
        "lesion_mask": f"{folder}/lesion.nii.gz" if abnormal else MISSING,
        "split": split,
        "patient": subject.removeprefix("sub-"),
        **demographics(subject, subject_settings(settings, split)),
    }


def plan_rows(settings: dict[str, Any], root: str) -> list[dict[str, str]]:
    """Return the participants table of the synthetic cohort.

    Healthy IDs carry their split, so that a larger training set moves nobody to another split.

    Parameters
    ----------
    settings : dict
        The ``phantom:`` section of the configuration.
    root : str
        Folder of all outputs.

    Returns
    -------
    list of dict
        One row a scan: ``participant_id ct group pathology subtype lesion_mask split patient age sex``
        ``scanner``.
    """
    rows = [
        _row(
            root, f"sub-healthy{split}{number:03d}", settings, pathology=MISSING, subtype=MISSING, split=split
        )
        for split in ("train", "val", "test")
        for number in range(1, settings[f"healthy_{split}"] + 1)
    ]
    subtypes = settings["bleed_subtypes"]
    for pathology, count in settings["abnormal"].items():
        for number in range(1, count + 1):
            subtype = subtypes[(number - 1) % len(subtypes)] if pathology == "bleed" else MISSING
            subject = f"sub-{pathology}{number:03d}"
            rows.append(_row(root, subject, settings, pathology=pathology, subtype=subtype, split="test"))
    return rows
