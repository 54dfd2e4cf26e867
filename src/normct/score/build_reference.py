"""Build the healthy reference from the residual maps of the calibration scans, one map and scan at a time."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from normct.common.cli import parser, run
from normct.common.errors import NormctError
from normct.common.slices import read_slices
from normct.score.components import MOST_SCANS, Components, common_mask, principal_components
from normct.score.files import read_held_out
from normct.score.files_calibrated import ReferenceFile, ReferenceWriter
from normct.score.reference import Frame, ReferenceSettings, collect, statistics

log = logging.getLogger(__name__)


def build_reference(
    score: Path,
    preprocess: Path,
    *,
    calibrate: Sequence[str],
    stop: Sequence[str],
    patients: int,
    settings: dict[str, Any],
    parent: Path | None = None,
) -> ReferenceWriter:
    """Return the reference of every map, ready to be written.

    Parameters
    ----------
    score, preprocess : Path
        Folders with ``maps/<subject>.npz`` and ``raw/<subject>.npz``, and ``<subject>/slices.npz``.
    calibrate, stop : sequence of str
        Participant IDs; early-stopping scans add to the variance only (with ``use_stop``), and make the components.
    patients : int
        Calibration patients; under two, nobody can be left out and the reference stays empty.
    settings : dict
        ``score.calibrated``.
    parent : Path, optional
        ``reference.npz`` of the bundle that is recalibrated: a site has no early-stopping scans, so the components
        are the bundle's.

    Raises
    ------
    NormctError
        When a scan is of another role than calibration or early stopping and was not scored out of fold.
    """
    chosen = ReferenceSettings.of(settings)
    members = [(s, False) for s in calibrate] + [(s, True) for s in stop]
    wrong = [s for s, _ in members if not read_held_out(score / "raw" / f"{s}.npz")]
    if wrong:
        raise NormctError(f"Only held-out healthy scans may make the reference, not {', '.join(wrong)}")
    frames = {}
    for subject, is_stop in members:
        store = read_slices(preprocess / subject / "slices.npz")
        if not store.set_aside:
            frames[subject] = (Frame(store.mask, chosen), is_stop)
    writer = ReferenceWriter(settings, patients)
    if patients < 2 or not frames:
        return writer
    with np.load(score / "maps" / f"{next(iter(frames))}.npz", allow_pickle=False) as content:
        keys = list(content.files)
    stopping = [s for s, (_, is_stop) in frames.items() if is_stop]
    common = common_mask([frames[s][0].mask for s in stopping])
    inherited = ReferenceFile(parent) if parent and not stopping else None

    def smoothed(subject: str, key: str) -> NDArray[np.float32]:
        with np.load(score / "maps" / f"{subject}.npz", allow_pickle=False) as content:
            return frames[subject][0].smooth(content[key])

    for key in keys:
        sums = collect(
            (frame, smoothed(s, key), is_stop)
            for s, (frame, is_stop) in frames.items()
            if chosen.use_stop or not is_stop
        )
        usual = statistics(sums, chosen)
        writer.add(key, usual, sums)
        if inherited:
            components = inherited.components(key)
        else:
            looked_at = stopping[:MOST_SCANS] if settings["components"] else []
            z = [usual.z(frames[s][0], smoothed(s, key), chosen.prior_scans) for s in looked_at]
            # a shift of the whole brain would be the first of them; `centre` sees to that
            basis = principal_components(
                [values - np.median(values) for values in z],
                [frames[s][0].mask for s in looked_at],
                common,
                settings["components"],
            )
            components = Components(common, basis) if len(basis) else None
        if components:
            writer.add_components(key, components)
    return writer


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    arguments = parser(__doc__, "normct.score.build_reference")
    arguments.add_argument("score", type=Path, help="folder with maps/<subject>.npz and raw/<subject>.npz")
    arguments.add_argument("preprocess", type=Path, help="folder with <subject>/slices.npz")
    arguments.add_argument("--calibrate", nargs="*", default=[], help="participant IDs")
    arguments.add_argument("--stop", nargs="*", default=[], help="participant IDs")
    arguments.add_argument("--patients", nargs="*", default=[], help="patient of each calibration scan")
    arguments.add_argument("--settings", type=json.loads, required=True, help="score.calibrated")
    arguments.add_argument("--parent", type=Path, help="reference.npz of the bundle that is recalibrated")
    arguments.add_argument("--reference", type=Path, required=True, help="reference.npz, for the bundle")
    arguments.add_argument("--sums", type=Path, required=True, help="reference_sums.npz, stays here")
    args = arguments.parse_args(argv)
    accepted = {
        patient
        for subject, patient in zip(args.calibrate, args.patients, strict=True)
        if not read_slices(args.preprocess / subject / "slices.npz").set_aside
    }
    writer = build_reference(
        args.score,
        args.preprocess,
        calibrate=args.calibrate,
        stop=args.stop,
        patients=len(accepted),
        settings=args.settings,
        parent=args.parent,
    )
    writer.write(args.reference, args.sums)
    log.info("reference from %d calibration patients", len(accepted))


if __name__ == "__main__":
    run(main)
