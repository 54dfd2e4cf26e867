"""One patient's folder: anomaly map, findings and masks on the scan's own grid, and the page that shows them.

A fault of one scan must not stop the others: an unexpected error becomes a page that says so, and an entry in
``status.json``. Memory, disk and interruption fail the job, for a retry mends them.
"""

from __future__ import annotations

import errno
import json
import logging
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from normct.common.anatomy import ATLAS_SHAPE
from normct.common.cli import parser, run
from normct.common.errors import DataFault
from normct.common.files import atomic, read_json, write_json
from normct.common.geometry import read_transform, resample
from normct.common.registry import label
from normct.common.slices import SliceStore, read_slices
from normct.common.volumes import Volume, read_volume, write_volume
from normct.handoff.anomaly import atlas_map, native_map, read_residual
from normct.handoff.findings import brain_box, find
from normct.handoff.page import block, data_uri, ordinal_words, render, score_svg
from normct.handoff.scores import Score, read_score
from normct.handoff.viewer import pack_view, thumbnail

LISTED = 20
TRANSIENT = {errno.ENOSPC, errno.EDQUOT, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.EIO, errno.ESTALE}


@dataclass(frozen=True)
class Sources:
    """Files of one scan, as the earlier stages left them (docs/contracts.md)."""

    ct: Path
    transform: Path
    atlas: Path
    quality: Path
    picture: Path
    slices: Path
    brain_mask: Path
    scores: Path
    maps: Path
    calibration: Path


@dataclass(frozen=True)
class Settings:
    """What the page depends on besides the files.

    Attributes
    ----------
    method : str
        Method that draws the overlay and gives the score.
    windows : dict
        Name to [level, width] in HU.
    min_finding_ml : float
    title : str
    synthetic : bool
    hu_range : list of float or None
        HU mapped to [0, 1] by preprocessing; None where there is no fixed window: differences have no unit.
    voxel_fpr : float
        Share of healthy voxels above the threshold.
    viewer : dict
        ``pixels``, ``max_slices``, ``max_mb``.
    """

    method: str
    windows: dict[str, list[float]]
    min_finding_ml: float
    title: str
    synthetic: bool
    hu_range: list[float] | None
    voxel_fpr: float
    viewer: dict[str, Any]

    @property
    def scale(self) -> float:
        """Units of the shown difference per unit of the stored residual."""
        return self.hu_range[1] - self.hu_range[0] if self.hu_range else 100.0

    @property
    def unit(self) -> str:
        """Unit of the shown difference."""
        return "HU" if self.hu_range else "% of range"


def draw(
    folder: Path, subject: str, *, sources: Sources, store: SliceStore, score: Score, settings: Settings
) -> dict[str, Any]:
    """Write the NIfTI files into ``folder`` and return what page and record show.

    Raises
    ------
    DataFault
        If the files of the scan contradict each other.
    """
    try:
        residual = read_residual(sources.maps, settings.method)
        grid = atlas_map(store, residual * settings.scale)
    except (KeyError, ValueError) as error:
        raise DataFault(subject, "anomaly map", str(error.args[0]), "Score the scan again") from error
    atlas = read_volume(sources.atlas)
    if atlas.data.shape != ATLAS_SHAPE:
        raise DataFault(subject, "atlas", f"grid {atlas.data.shape}", f"The atlas must have {ATLAS_SHAPE}")
    transform = read_transform(sources.transform)
    ct = read_volume(sources.ct)
    anomaly = native_map(grid, atlas.affine, ct.data.shape, ct.affine, transform)
    mask = read_volume(sources.brain_mask)
    brain = resample(Volume((mask.data > 0).astype(np.uint8), mask.affine), ct.data.shape, ct.affine, order=0)
    threshold = score.threshold * settings.scale
    box = brain_box(store.brain, atlas.affine)
    inside = brain.data > 0
    findings, marked = find(
        anomaly,
        inside,
        threshold=threshold,
        min_ml=settings.min_finding_ml,
        to_atlas=np.asarray(np.linalg.inv(transform), float),
        box=box,
    )
    write_volume(folder / "anomaly_map.nii.gz", anomaly)
    write_volume(folder / "anomaly_mask.nii.gz", Volume(marked, ct.affine))
    write_volume(folder / "brain_mask.nii.gz", brain)

    step = settings.scale / 80  # 1 HU with the default window
    packed = pack_view(ct, brain.data, anomaly, step, **settings.viewer)
    view = packed["frame"]
    numbers = [view.number(int(p)) for p in view.slices]
    listed = [
        f.record() | {"slice": f.voxel[view.axis] + 1, "go": view.viewer_slice(f.voxel)} for f in findings
    ]
    middle = int(np.abs(packed["difference"]).sum(axis=(1, 2)).argmax())
    first = listed[0]["go"] if listed else middle
    meta = {
        "width": view.width,
        "height": view.height,
        "pixel_mm": round(view.pixel_mm, 4),
        "slices": numbers,
        "depth": view.depth,
        "first": first,
        "step": step,
        "unit": settings.unit,
        "decimals": 0 if step >= 1 else 1,
        "threshold": round(threshold, 2),
    }
    window = next(iter(settings.windows.values()))
    return {
        "meta": meta,
        "data": packed["data"],
        "findings": listed,
        "thumbnail": thumbnail(packed["hu"][first], packed["difference"][first], threshold, window),
        "threshold": round(threshold, 2),
        "shown": [len(numbers), view.depth],
        "marked_ml": round(float((marked > 0).sum()) * ct.voxel_ml, 1),
    }


def make(folder: Path, subject: str, sources: Sources, settings: Settings) -> dict[str, Any]:
    """Write a patient's folder and return its record (``patient.json``)."""
    quality = read_json(sources.quality)
    picture = sources.picture.read_bytes() if sources.picture.is_file() else b""
    common = {
        "subject": subject,
        "title": settings.title,
        "synthetic": settings.synthetic,
        "quality": quality,
        "picture": data_uri(picture) if picture else None,
    }
    record: dict[str, Any] = {
        "participant_id": subject,
        "status": "set_aside",
        "reasons": list(quality["reasons"]),
        "quality": quality["verdict"],
        "method": settings.method,
    }
    store = read_slices(sources.slices)
    if quality["verdict"] == "fail" or store.set_aside:
        page = render("aside.html.j2", None, **common, reasons=quality["reasons"], failed=False)
        (folder / "index.html").write_text(page, "utf-8")
        return record
    score = read_score(sources.scores, sources.calibration, settings.method)
    drawn = draw(folder, subject, sources=sources, store=store, score=score, settings=settings)
    words = ordinal_words(score.value, score.healthy)
    page = render(
        "patient.html.j2",
        "viewer.js",
        **common,
        score=score,
        words=words,
        svg=score_svg(score.value, score.healthy),
        method=label(settings.method),
        windows=settings.windows,
        meta=block(drawn["meta"]),
        data=drawn["data"],
        findings=drawn["findings"][:LISTED],
        more=max(0, len(drawn["findings"]) - LISTED),
        threshold=drawn["threshold"],
        unit=settings.unit,
        # the slider spans what the overlay holds, in steps that reach the calibrated threshold exactly
        slider={"max": round(settings.scale, 2), "step": 0.01 if drawn["threshold"] < 1 else 0.1},
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
        "n_below": sum(h < score.value for h in score.healthy),
        "higher_than_all": score.higher_than_all,
        "words": words,
        "threshold": drawn["threshold"],
        "unit": settings.unit,
        "marked_ml": drawn["marked_ml"],
        "findings": [{k: v for k, v in f.items() if k != "go"} for f in drawn["findings"]],
        "thumbnail": drawn["thumbnail"],
    }


def make_patient(out: Path, subject: str, sources: Sources, settings: Settings) -> str:
    """Write a patient's folder whole or not at all; an unexpected error becomes a page that says so.

    Returns
    -------
    str
        ``ok``, ``set_aside`` or ``failed``.
    """
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
    sources = Sources(**{name: getattr(arguments, name) for name in names})
    settings = Settings(**json.loads(arguments.settings))
    status = make_patient(arguments.out, arguments.subject, sources, settings)
    logging.info("%s: %s", arguments.subject, status)


if __name__ == "__main__":
    run(main)
