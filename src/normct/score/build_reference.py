"""Build the healthy reference from the residual maps of the calibration scans, one map and scan at a time."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from normct.common.cli import parser, run
from normct.common.errors import NormctError
from normct.common.slices import read_slices
from normct.score.files import read_held_out
from normct.score.files_calibrated import ReferenceWriter
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
) -> ReferenceWriter:
    """Return the reference of every map, ready to be written.

    Parameters
    ----------
    score, preprocess : Path
        Folders with ``maps/<subject>.npz`` and ``raw/<subject>.npz``, and ``<subject>/slices.npz``.
    calibrate, stop : sequence of str
        Participant IDs; early-stopping scans add to the variance only, and only with ``use_stop``.
    patients : int
        Calibration patients; under two, nobody can be left out and the reference stays empty.
    settings : dict
        ``score.calibrated``.

    Raises
    ------
    NormctError
        When a scan is of another role than calibration or early stopping and was not scored out of fold.
    """
    chosen = ReferenceSettings.of(settings)
    members = [(s, False) for s in calibrate] + [(s, True) for s in stop if chosen.use_stop]
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
    for key in keys:
        sums = collect(
            (frame, frame.smooth(np.load(score / "maps" / f"{s}.npz", allow_pickle=False)[key]), is_stop)
            for s, (frame, is_stop) in frames.items()
        )
        writer.add(key, statistics(sums, chosen), sums)
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
    )
    writer.write(args.reference, args.sums)
    log.info("reference from %d calibration patients", len(accepted))


if __name__ == "__main__":
    run(main)
