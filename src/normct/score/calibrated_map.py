"""One scan's residual maps as z maps, and what is pooled from each slice of them.

A scan that helped to make the reference is scored with the reference of the *other* patients.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from normct.common.cli import parser, run
from normct.common.errors import NormctError
from normct.common.registry import FUSED, POOL_SHARES
from normct.common.slices import SliceStore, read_slices
from normct.score.files import ATLAS_MAP, read_maps, read_role, write_maps
from normct.score.files_calibrated import Key, ReferenceFile, SumsFile, write_pooled
from normct.score.pooling import pool
from normct.score.reference import Frame, ReferenceSettings, statistics
from normct.score.scores import NO_SEED

log = logging.getLogger(__name__)
NETWORKS = "networks"

Member = tuple[SliceStore, dict[str, NDArray[np.float16]], bool]
"""Slices and maps of a scan in the reference, and whether it is an early-stopping one."""


def map_key(name: str) -> Key:
    """Return method and seed of ``<method>/seed-<n>`` or ``statistical_atlas``."""
    method, _, seed = name.partition("/seed-")
    return method, seed or NO_SEED


def z_maps(
    store: SliceStore,
    maps: Mapping[str, NDArray[np.float16]],
    reference: ReferenceFile,
    settings: Mapping[str, Any],
    own: Sequence[Member] = (),
) -> dict[Key, NDArray[np.float32]]:
    """Return the z map of each method and seed, packed in the order of ``store.mask``.

    Parameters
    ----------
    store : SliceStore
        Of a scan that was not set aside.
    maps : mapping
        Its residual maps.
    reference : ReferenceFile
        A :class:`SumsFile` when ``own`` is given.
    settings : mapping
        ``score.calibrated``.
    own : sequence of Member
        The patient's own scans in the reference, this one among them; they are taken out of it.
    """
    chosen = ReferenceSettings.of(settings)
    frame = Frame(store.mask, chosen)
    others = [(Frame(s.mask, chosen), m, stop) for s, m, stop in own if not s.set_aside]
    result = {}
    for name, residual in maps.items():
        if others:
            sums = cast(SumsFile, reference).sums(name)
            for member, theirs, stop in others:
                if stop and not chosen.use_stop:
                    continue
                sums.add(member, member.smooth(theirs[name]), stop, sign=-1)
            usual = statistics(sums, chosen)
        else:
            usual = reference.statistics(name)
        z = usual.z(frame, frame.smooth(residual), chosen.prior_scans)
        # a shift of the whole brain is the scanner's calibration or age, never a lesion
        z = z - np.median(z) if settings["centre"] else z
        # an early-stopping scan is no stranger to the components: it helped to make them
        components = None if any(stop for _, _, stop in others) else reference.components(name)
        result[map_key(name)] = components.remove(z, store.mask) if components else z
    return result


def fuse(z: Mapping[Key, NDArray[np.float32]], names: Sequence[str]) -> dict[Key, NDArray[np.float32]]:
    """Return the equally weighted mean of the named z maps, once a network seed.

    Parameters
    ----------
    z : mapping
        (method, seed) to z map.
    names : sequence of str
        ``score.fusion``: ``statistical_atlas``, ``networks`` (the mean of all of them), or methods.

    Raises
    ------
    NormctError
        When a named method has no map.
    """
    seeds = list(dict.fromkeys(seed for _, seed in z if seed != NO_SEED)) or [NO_SEED]
    networks = list(dict.fromkeys(method for method, _ in z if method != ATLAS_MAP))
    fused: dict[Key, NDArray[np.float32]] = {}
    for seed in seeds:
        parts: list[NDArray[np.float32]] = []
        for name in names:
            if name == NETWORKS:
                members = [(method, seed) for method in networks]
            else:
                members = [(name, NO_SEED if name == ATLAS_MAP else seed)]
            missing = [method for method, s in members if (method, s) not in z]
            if missing or not members:
                raise NormctError(
                    f"score.fusion names {', '.join(missing) or name}, which is not scored here; "
                    f"trained are {', '.join(networks) or 'no networks'}"
                )
            parts.append(np.stack([z[member] for member in members]).mean(axis=0))
        fused[FUSED, seed] = np.stack(parts).mean(axis=0)
    return fused


def over_seeds(z: Mapping[Key, NDArray[np.float32]]) -> dict[str, NDArray[np.float16]]:
    """Return each method's z map averaged over its seeds, as the files keep it."""
    by_method: dict[str, list[NDArray[np.float32]]] = {}
    for (method, _), values in z.items():
        by_method.setdefault(method, []).append(values)
    # float16 ends at 65504; no z of interest does
    return {m: np.clip(np.stack(v).mean(axis=0), -1e4, 1e4).astype(np.float16) for m, v in by_method.items()}


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    arguments = parser(__doc__, "normct.score.calibrated_map")
    arguments.add_argument("subject", help="participant ID")
    arguments.add_argument("score", type=Path, help="folder with maps/<subject>.npz and raw/<subject>.npz")
    arguments.add_argument("preprocess", type=Path, help="folder with <subject>/slices.npz")
    arguments.add_argument("reference", type=Path, help="reference.npz; with --own reference_sums.npz")
    arguments.add_argument("--own", nargs="*", default=[], help="the patient's scans that made the reference")
    arguments.add_argument("--own-stop", nargs="*", default=[], help="those of role stop")
    arguments.add_argument(
        "--settings",
        type=json.loads,
        required=True,
        help="calibrated and fusion of score; pool_shares beside the usual ones",
    )
    arguments.add_argument("--maps", type=Path, required=True, help="z maps, calibrated/<subject>.npz")
    arguments.add_argument("--pooled", type=Path, required=True, help="pooled/<subject>.npz")
    args = arguments.parse_args(argv)

    def load(subject: str) -> tuple[SliceStore, dict[str, NDArray[np.float16]]]:
        slices = read_slices(args.preprocess / subject / "slices.npz")
        return slices, read_maps(args.score / "maps" / f"{subject}.npz")

    calibrated, fusion = args.settings["calibrated"], args.settings["fusion"]
    own = [(*load(s), s in args.own_stop) for s in [*args.own, *args.own_stop]]
    reference = (SumsFile if own else ReferenceFile)(args.reference)
    store, maps = load(args.subject)
    z: dict[Key, NDArray[np.float32]] = {}
    if not store.set_aside and reference.keys:
        z = z_maps(store, maps, reference, calibrated, own)
        z |= fuse(z, fusion)
    slices = np.nonzero(store.mask)[0]
    shares = sorted({*POOL_SHARES, *args.settings.get("pool_shares", [])})
    pooled = {key: pool(values, slices, shares) for key, values in z.items()}
    write_maps(args.maps, over_seeds(z))
    role = read_role(args.score / "raw" / f"{args.subject}.npz")
    write_pooled(args.pooled, args.subject, role, pooled, shares)
    log.info("%s: %d z maps", args.subject, len(z))


if __name__ == "__main__":
    run(main)
