"""Out of fold: a training scan is scored only where nothing that scores it learnt from its patient.

Checked against what networks and statistical atlas themselves record of who made them, not against a plan.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from numpy.typing import NDArray

from normct.common.errors import NormctError
from normct.common.files import read_json, sha256
from normct.common.registry import STAGE1

LEARNT_FROM = "subjects"
"""Array of the statistical atlas of a fold that names its scans; the one that goes into a bundle has none."""


class Network(NamedTuple):
    """One trained network: its method, seed and file of weights."""

    method: str
    seed: str
    weights: Path


@dataclass(frozen=True)
class Fold:
    """What a training scan is held out of.

    Attributes
    ----------
    number : int
    scans : sequence of str
        All training scans of the scan's patient, itself among them.
    reports : sequence of Path
        ``training.json`` of each of the fold's networks, of stage 1 too where one starts from it.
    """

    number: int
    scans: Sequence[str]
    reports: Sequence[Path]


def refuse_in_sample(
    subject: str, fold: Fold, networks: Sequence[Network], atlas: Mapping[str, NDArray[Any]]
) -> None:
    """Raise where a network, the stage 1 it started from, or the atlas learnt from the subject's patient.

    Parameters
    ----------
    subject : str
        Participant ID of the scan.
    fold : Fold
    networks : sequence of Network
        That are to score it.
    atlas : mapping
        ``statistical_atlas.npz`` of the fold.

    Raises
    ------
    NormctError
        Naming what learnt from whom, or what does not say from whom it learnt.
    """
    where = f"{subject}: fold {fold.number}"
    own = {subject, *fold.scans}
    reports = {path.parent: read_json(path) for path in fold.reports}
    starts = {str(r["seed"]): folder for folder, r in reports.items() if r["method"] == STAGE1}
    for method, seed, weights in networks:
        report = reports.get(weights.parent)
        if report is None or (report["method"], str(report["seed"])) != (method, seed):
            raise NormctError(f"{where}: no training.json says from whom {method}, seed {seed}, learnt")
        if report["stage1_sha256"] is not None:
            start = starts.get(seed)
            if start is None or sha256(start / "model.safetensors") != report["stage1_sha256"]:
                raise NormctError(
                    f"{where}: {method}, seed {seed}, did not start from the stage 1 of this fold,"
                    " so nobody knows from whom that learnt; train the fold again"
                )
    for report in reports.values():
        learnt = {scan for scans in report["trained_on"].values() for scan in scans}
        if leaked := sorted(own & learnt):
            raise NormctError(
                f"{where}: {report['method']}, seed {report['seed']}, learnt from {', '.join(leaked)} of the same"
                " patient, so the scan cannot be scored with it; train the fold again"
            )
    if LEARNT_FROM not in atlas:
        raise NormctError(f"{where}: the statistical atlas does not say whose scans it was made of")
    if leaked := sorted(own & set(atlas[LEARNT_FROM].tolist())):
        raise NormctError(
            f"{where}: the statistical atlas was made of {', '.join(leaked)} of the same patient,"
            " so the scan cannot be scored with it; make the fold's atlas again"
        )
