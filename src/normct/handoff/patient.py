"""One patient's folder: anomaly map, findings and masks on the scan's own grid, and the page that shows them.

A fault of one scan must not stop the others: an unexpected error becomes a page that says so, and an entry in
``status.json``. Memory, disk and interruption fail the job, for a retry mends them.
"""

from __future__ import annotations

import errno
import gc
import json
import logging
import traceback
from pathlib import Path
from typing import Any

from normct.common.cli import parser, run
from normct.common.errors import DataFault
from normct.common.files import atomic, read_json, write_json
from normct.common.registry import METHODS
from normct.common.slices import read_slices
from normct.common.subject import refuse_bad_ids
from normct.handoff.dicom_out import write_dicom
from normct.handoff.drawing import draw
from normct.handoff.levels import most_healthy, strip_svg
from normct.handoff.page import (
    block,
    data_uri,
    method_words,
    ordinal_words,
    render,
    score_svg,
    trust_words,
)
from normct.handoff.scores import read_score
from normct.handoff.settings import Settings, Sources
from normct.handoff.stale import refuse_linked

LISTED = 20
TRANSIENT = {errno.ENOSPC, errno.EDQUOT, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.EIO, errno.ESTALE}


def slider(threshold: float, span: float) -> dict[str, float]:
    """Return the threshold slider: all that the overlay holds, in steps that meet the calibrated one exactly."""
    step = 1 if threshold < 1 else 10
    return {"min": round(threshold * 100) % step / 100, "max": round(span, 2), "step": step / 100}


def make(folder: Path, subject: str, sources: Sources, settings: Settings) -> dict[str, Any]:
    """Write a patient's folder and return its record (``patient.json``)."""
    quality = read_json(sources.quality)
    picture = sources.picture.read_bytes() if sources.picture.is_file() else b""
    common = {
        "subject": subject,
        "title": settings.title,
        "synthetic": settings.synthetic,
        "trained_on_synthetic": settings.trained_on_synthetic,
        "quality": quality,
        "picture": data_uri(picture) if picture else None,
    }
    record: dict[str, Any] = {
        "participant_id": subject,
        "status": "set_aside",
        "reasons": list(quality["reasons"]),
        "quality": quality["verdict"],
        "method": settings.method,
        "score_name": settings.score,
    }
    store = read_slices(sources.slices)
    if quality["verdict"] == "fail" or store.set_aside:
        page = render("aside.html.j2", None, **common, reasons=quality["reasons"], failed=False)
        (folder / "index.html").write_text(page, "utf-8")
        return record
    try:
        score = read_score(
            sources.scores,
            sources.calibration,
            settings.method,
            settings.score,
            settings.score_name,
            settings.min_finding_ml,
            settings.threshold_factor,
        )
    except KeyError as error:
        raise DataFault(
            subject,
            "score",
            f"no {settings.score} score of {settings.method} ({error.args[0]})",
            "Calibrate with two healthy patients or more, or set handoff.score: thesis",
        ) from error
    drawn = draw(folder, subject, sources=sources, store=store, score=score, settings=settings)
    dicom_words = write_dicom(folder, subject, sources=sources, settings=settings, drawn=drawn)
    words = ordinal_words(score.value, score.healthy)
    calibrated = score.false_findings["factors"].index(1.0) if score.false_findings else 0
    page = render(
        "patient.html.j2",
        "viewer.js",
        **common,
        score=score,
        words=words,
        trust=trust_words(score.uncertainty, len(score.healthy)),
        svg=score_svg(score.value, score.healthy),
        method=method_words(settings.method),
        one_network=settings.method in METHODS,
        levels=strip_svg(drawn["levels"]),
        high_slices=drawn["high_slices"],
        ranked=most_healthy(drawn["levels"]),
        windows=settings.windows,
        meta=block(drawn["meta"]),
        data=drawn["data"],
        findings=drawn["listed"][:LISTED],
        more=max(0, len(drawn["listed"]) - LISTED),
        warnings=drawn["warnings"],
        unchecked=drawn["unchecked"],
        has_expected=drawn["expected"] is not None,
        calibrated=calibrated,
        dicom_words=dicom_words,
        sheared=drawn["ct"].sheared,
        threshold=drawn["threshold"],
        factor=settings.threshold_factor,
        unit=settings.unit,
        fixed_window=settings.hu_range is not None,
        decimals=settings.decimals,
        slider=slider(drawn["threshold"], settings.span),
        voxel_fpr=settings.voxel_fpr,
        min_ml=settings.min_finding_ml,
        shown=drawn["shown"],
    )
    (folder / "index.html").write_text(page, "utf-8")
    return record | {
        "status": "ok",
        "score": score.value,
        "seeds": score.seeds,
        "percentile": score.percentile,
        "n_healthy": len(score.healthy),
        **({"cross_fit": score.folds} if score.folds else {}),
        "n_below": score.below,
        **score.uncertainty,
        "higher_than_all": score.higher_than_all,
        "words": words,
        "threshold": drawn["threshold"],
        **({"threshold_factor": settings.threshold_factor} if settings.threshold_factor != 1 else {}),
        "unit": settings.unit,
        "marked_ml": drawn["marked_ml"],
        "input_sha256": read_json(sources.record).get("sha256"),
        "out_of_scope": drawn["warnings"],
        "healthy_findings": score.false_findings,
        "high_slices": drawn["high_slices"],
        "n_healthy_levels": most_healthy(drawn["levels"]),
        "levels": [{k: v for k, v in level.items() if k != "view"} for level in drawn["levels"]],
        "findings": drawn["listed"],
        "thumbnail": drawn["thumbnail"],
    }


def make_patient(out: Path, subject: str, sources: Sources, settings: Settings) -> str:
    """Write a patient's folder whole or not at all; an unexpected error becomes a page that says so.

    Returns
    -------
    str
        ``ok``, ``set_aside`` or ``failed``.
    """
    refuse_linked(out.parent)
    if out.is_symlink():  # replaced by a folder, never followed
        out.unlink()
    try:
        with atomic(out) as part:
            part.mkdir()
            record = make(part, subject, sources, settings)
            write_json(part / "patient.json", record)
    except (MemoryError, KeyboardInterrupt):
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno in TRANSIENT:
            raise
        logging.error("%s: the page could not be made\n%s", subject, traceback.format_exc())
        reason = (
            error.reason
            if isinstance(error, DataFault)
            else f"unexpected {type(error).__name__}; see the log"
        )
        with atomic(out) as part:
            part.mkdir()
            page = render(
                "aside.html.j2",
                None,
                subject=subject,
                title=settings.title,
                synthetic=settings.synthetic,
                trained_on_synthetic=settings.trained_on_synthetic,
                quality=None,
                picture=None,
                reasons=[reason],
                failed=True,
            )
            (part / "index.html").write_text(page, "utf-8")
            record = {"participant_id": subject, "status": "failed", "reasons": [reason], "quality": "n/a"}
            write_json(part / "patient.json", record)
    return str(record["status"])


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    options = parser(__doc__, "normct.handoff.patient")
    options.add_argument("subject", help="participant ID")
    options.add_argument("out", type=Path, help="folder to write")
    names = list(Sources.__dataclass_fields__)
    for name in names:
        options.add_argument(f"--{name.replace('_', '-')}", type=Path, required=True)
    options.add_argument("--settings", required=True, help="JSON with the fields of Settings")
    arguments = options.parse_args(argv)
    refuse_bad_ids([arguments.subject])
    sources = Sources(**{name: getattr(arguments, name) for name in names})
    settings = Settings(**json.loads(arguments.settings))
    status = make_patient(arguments.out, arguments.subject, sources, settings)
    logging.info("%s: %s", arguments.subject, status)


if __name__ == "__main__":
    # a short process: looking for cycles among the million objects of its DICOM headers costs a tenth of its time
    gc.disable()
    run(main)
