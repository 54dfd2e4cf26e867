"""The maps of one scan on its own grid, its findings, and what its page shows of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from normct.common.anatomy import ATLAS_SHAPE
from normct.common.errors import DataFault
from normct.common.files import read_json
from normct.common.geometry import read_transform, resample
from normct.common.slices import SliceStore
from normct.common.volumes import Volume, moved, read_volume, write_volume
from normct.handoff.anomaly import atlas_map, native_box, native_map, read_residual
from normct.handoff.findings import Finding, depth_map, find
from normct.handoff.levels import high_slices, place_levels, read_levels, unusual_places
from normct.handoff.packing import pack_view
from normct.handoff.pictures import panes, thumbnail
from normct.handoff.regions import brain_box
from normct.handoff.scope import acquisition_warnings, side_warnings, voxel_warnings
from normct.handoff.scores import Score
from normct.handoff.settings import Settings, Sources

MAP_LEVEL = 4
THIN_VOXELS = 5e6
"""Voxels of brain above which a scan counts as one of thin slices."""


def native_mask(mask: Volume, ct: Volume) -> Volume:
    """Return a mask on the scan's grid, nearest neighbour, as uint8 with the first axis fastest."""
    result = np.zeros(ct.data.shape, np.uint8, order="F")
    data = (mask.data > 0).astype(np.uint8)
    where = native_box(data.T > 0, mask.affine, ct.data.shape, ct.affine, np.eye(4))
    size = tuple(s.stop - s.start for s in where)
    if min(size) > 0:
        affine = moved(ct.affine, where)
        backwards = [2, 1, 0, 3]
        turned = Volume(data.T, mask.affine[:, backwards])
        result[where] = resample(turned, size[::-1], affine[:, backwards], order=0).data.T
    return Volume(result, ct.affine)


def maps_and_findings(
    subject: str, *, sources: Sources, store: SliceStore, score: Score, settings: Settings
) -> dict[str, Any]:
    """Carry a scan's maps onto its own grid and list its findings.

    Returns
    -------
    dict
        ``ct``, ``anomaly`` (unit of the settings), ``brain`` and ``marked`` as Volumes on one grid; ``expected``
        (HU, in the scan's space on the atlas's voxels; None where there is no fixed window); ``findings``;
        ``threshold``; ``step``, of which the map holds multiples; ``places``, the most unusual one in each slice
        of the atlas, and ``from_atlas``, (4, 4), its voxels (x, y, z) to RAS+ mm of the scan.

    Raises
    ------
    DataFault
        If the files of the scan contradict each other.
    """
    try:
        shown = read_residual(sources.z_maps if settings.calibrated else sources.maps, settings.method)
        grid = atlas_map(store, shown * settings.scale)
        residual = read_residual(sources.maps, settings.method, any_network=settings.calibrated)
    except (KeyError, ValueError) as error:
        raise DataFault(subject, "anomaly map", str(error.args[0]), "Score the scan again") from error
    atlas = read_volume(sources.atlas)
    if atlas.data.shape != ATLAS_SHAPE:
        raise DataFault(subject, "atlas", f"grid {atlas.data.shape}", f"The atlas must have {ATLAS_SHAPE}")
    transform = read_transform(sources.transform)
    ct = read_volume(sources.ct, dtype=None)
    # coarser steps keep the file of a scan of thin slices small
    thin = float(store.brain.sum()) / 1000 / ct.voxel_ml > THIN_VOXELS
    step = settings.step if thin else settings.step / 4
    where = (atlas.affine, ct.data.shape, ct.affine, transform)
    anomaly = native_map(grid, *where, inside=store.brain, step=step)
    expected = None
    if settings.hu_range:
        inside = store.image[store.mask].astype(np.float32)
        healthy = settings.hu_range[0] + (inside - residual) * settings.intensity
        # around the brain its own median, lest interpolation darken the rim
        around = np.float32(np.median(healthy)) if healthy.size else np.float32(0)
        expected = Volume(
            np.where(store.brain, atlas_map(store, healthy), around).transpose(2, 1, 0),
            transform @ atlas.affine,
        )
    brain = native_mask(read_volume(sources.brain_mask, dtype=None), ct)
    threshold = score.threshold * settings.scale
    findings, marked = find(
        anomaly,
        brain.data.view(bool),
        hu=ct.data if settings.hu_range else None,
        threshold=threshold,
        min_ml=settings.min_finding_ml,
        to_atlas=np.asarray(np.linalg.inv(transform), float),
        box=brain_box(store.brain, atlas.affine),
        depth=Volume(depth_map(store.brain).transpose(2, 1, 0), atlas.affine),
    )
    return {
        "ct": ct,
        "anomaly": anomaly,
        "brain": brain,
        "marked": Volume(marked, ct.affine),
        "expected": expected,
        "findings": findings,
        "threshold": threshold,
        "step": step,
        "places": unusual_places(store, shown),
        "from_atlas": transform @ atlas.affine,
    }


def strangeness(
    sources: Sources, settings: Settings, drawn: dict[str, Any], packed: dict[str, Any]
) -> tuple[list[str], list[str]]:
    """Return reasons to doubt score, overlay or sides, and what could not be checked."""
    with np.load(sources.statistical_atlas, allow_pickle=False) as content:
        trained = json.loads(str(content["trained_on"])) if "trained_on" in content.files else {}
    record = read_json(sources.record)
    said, unchecked = acquisition_warnings(
        trained, read_json(sources.quality)["measures"], record["acquisition"], settings.person
    )
    view, ct = packed["frame"], drawn["ct"]
    seen = voxel_warnings(
        ct,
        drawn["brain"].data,
        packed["hu"],
        packed["brain"],
        pixel_mm=view.pixel_mm,
        spacing=float(ct.zooms[view.axis]) * view.every,
    )
    return side_warnings(record) + said + seen, unchecked


def draw(
    folder: Path, subject: str, *, sources: Sources, store: SliceStore, score: Score, settings: Settings
) -> dict[str, Any]:
    """Write the NIfTI files and the picture into ``folder`` and return what page, record and DICOM need.

    Raises
    ------
    DataFault
        If the files of the scan contradict each other.
    """
    drawn = maps_and_findings(subject, sources=sources, store=store, score=score, settings=settings)
    ct, anomaly, brain, marked = (drawn[k] for k in ("ct", "anomaly", "brain", "marked"))
    counted = np.zeros(anomaly.data.shape, np.int16, order="F")
    for plane in range(
        counted.shape[2]
    ):  # one after the other: a whole one more would be a quarter of the memory
        if anomaly.data[..., plane].any():
            counted[..., plane] = np.rint(anomaly.data[..., plane] / np.float32(drawn["step"]))
    write_volume(
        folder / "anomaly_map.nii.gz", Volume(counted, ct.affine), level=MAP_LEVEL, slope=drawn["step"]
    )
    del counted
    write_volume(folder / "anomaly_mask.nii.gz", marked)
    write_volume(folder / "brain_mask.nii.gz", brain)
    packed = pack_view(
        ct,
        brain.data,
        anomaly,
        drawn["expected"],
        settings.step,
        span=settings.hu_range,
        **settings.viewer,
    )
    view = packed["frame"]
    findings: list[Finding] = drawn["findings"]
    rings = [view.ring(f.voxel, f.box) | {"peak": abs(f.peak)} for f in findings]
    middle = int(np.abs(packed["difference"]).sum(axis=(1, 2)).argmax())
    first = int(rings[0]["go"]) if rings else middle
    window = next(iter(settings.windows.values()))
    threshold, ring = drawn["threshold"], rings[0] if rings else None
    shown = (packed["hu"][first], packed["difference"][first])
    healthy = packed["expected"][first] if packed["expected"] is not None else None
    picture = panes(*shown, healthy, packed["brain"][first], threshold=threshold, window=window, ring=ring)
    (folder / "key_slice.jpg").write_bytes(picture)
    warnings, unchecked = strangeness(sources, settings, drawn, packed)
    to_view = np.linalg.inv(view.affine(ct.affine)) @ drawn["from_atlas"]
    levels = place_levels(
        read_levels(sources.slice_scores, settings.method, settings.score_name, score.seed),
        drawn["places"],
        to_view,
        view,
    )
    meta = {
        "width": view.width,
        "height": view.height,
        "pixel_mm": round(view.pixel_mm, 4),
        "slices": [view.number(int(p)) for p in view.slices],
        "levels": [[level[name] for name in ("view", "n_below", "n_healthy")] for level in levels],
        "depth": view.depth,
        "first": first,
        "step": settings.step,
        "unit": settings.unit,
        "decimals": settings.decimals,
        "threshold": round(threshold, 2),
        "rings": rings,
        "expected": packed["code"],
        "healthy": score.false_findings,
        "min_ml": settings.min_finding_ml,
    }
    return drawn | {
        "meta": meta,
        "data": packed["data"],
        "listed": [f.record() | {"slice": f.voxel[view.axis] + 1} for f in findings],
        "thumbnail": thumbnail(*shown, threshold, window=window, ring=ring),
        "threshold": round(threshold, 2),
        "shown": [len(view.slices), view.depth],
        "levels": levels,
        "high_slices": high_slices(levels, int(np.ceil(abs(to_view[2, 2]) * view.every))),
        "marked_ml": round(np.count_nonzero(marked.data) * ct.voxel_ml, 1),
        "warnings": warnings,
        "unchecked": unchecked,
    }
