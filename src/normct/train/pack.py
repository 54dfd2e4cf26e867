"""Pack the usable slices of training and early-stopping scans into arrays that can be memory-mapped.

One slice store is open at a time, so memory stays flat whatever the size of the cohort.
"""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path
from typing import IO, TypedDict

import numpy as np
from numpy.typing import NDArray

from normct.common import cli
from normct.common.errors import DataFault, NormctError
from normct.common.files import atomic, read_json, write_json
from normct.common.slices import SIZE, SliceStore, read_slices

log = logging.getLogger(__name__)
ROLES = ("train", "stop")


class Scan(TypedDict):
    """One scan of the plan."""

    participant_id: str
    patient: str
    role: str
    slices: str


def check_plan(plan: list[Scan]) -> None:
    """Refuse a plan that would leak.

    Raises
    ------
    NormctError
        For a scan of another role than train or stop, a patient in both, or a scan named twice.
    """
    foreign = sorted({scan["participant_id"] for scan in plan if scan["role"] not in ROLES})
    if foreign:
        raise NormctError(f"scans that must not train a network: {', '.join(foreign[:5])}; only {ROLES} may")
    patients = {role: {scan["patient"] for scan in plan if scan["role"] == role} for role in ROLES}
    if both := sorted(patients["train"] & patients["stop"]):
        raise NormctError(f"patients both in training and in early stopping: {', '.join(both[:5])}")
    names = [scan["participant_id"] for scan in plan]
    if len(set(names)) != len(names):
        raise NormctError("a scan is named twice among the training scans")


def _usable(path: str) -> int:
    with np.load(path, allow_pickle=False) as content:  # members are read lazily: only the flags are
        return int(content["usable"].sum())


class _Array:
    """An ``.npy`` file written row after row, and the SHA-256 of its bytes.

    Not mapped: the pages of a mapped file count as the process's own.
    """

    def __init__(self, file: IO[bytes], kind: type[np.generic], shape: tuple[int, ...]) -> None:
        self._file, self._kind, self._hash = file, kind, hashlib.sha256()
        header = {"descr": np.dtype(kind).str, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(self, header)

    def write(self, content: bytes) -> None:
        """Add bytes."""
        self._file.write(content)
        self._hash.update(content)

    def add(self, rows: NDArray) -> None:
        """Add rows."""
        self.write(rows.astype(self._kind, copy=False).tobytes())

    @property
    def sha256(self) -> str:
        """Hash of what was written so far."""
        return self._hash.hexdigest()


def _check_store(store: SliceStore, scan: Scan) -> None:
    """Raise where the slices are another scan's or hold no numbers."""
    if store.participant_id != scan["participant_id"]:
        raise DataFault(
            scan["participant_id"], "slices", f"hold {store.participant_id}", "Preprocess it again"
        )
    if not np.isfinite(store.image[store.usable]).all():
        raise DataFault(store.participant_id, "slices", "hold NaN or infinity", "Preprocess it again")


def pack(out_dir: Path, plan: list[Scan]) -> dict[str, int]:
    """Write ``images.npy``, ``masks.npy``, ``index.tsv`` and ``content.json``.

    Parameters
    ----------
    out_dir : Path
        Gets ``images.npy`` float16 (n, 128, 128), ``masks.npy`` uint8 (n, 128, 16), brain masks with eight
        pixels of axis x a byte, and ``index.tsv`` (participant_id, z, role), all in the same order;
        ``content.json`` holds the SHA-256 of both arrays, by which a training knows its own pixels again.
    plan : list of Scan
        Scans and their slice stores. A scan that was set aside has no slices and is passed over.

    Returns
    -------
    dict
        Number of slices of each role.

    Raises
    ------
    NormctError
        For a plan that leaks, or one that leaves a role without slices.
    """
    check_plan(plan)
    plan = sorted(plan, key=lambda scan: (ROLES.index(scan["role"]), scan["participant_id"]))
    counts = [_usable(scan["slices"]) for scan in plan]
    slices = {
        role: sum(n for n, scan in zip(counts, plan, strict=True) if scan["role"] == role) for role in ROLES
    }
    for role, n in slices.items():
        if n == 0:
            purpose = "training" if role == "train" else "early stopping (split `val`)"
            raise NormctError(
                f"no usable slice for {purpose}: there is no healthy scan, or quality control set all aside; "
                "add healthy scans"
            )
    total = sum(counts)
    (out_dir / "content.json").unlink(missing_ok=True)  # never beside other arrays than its own
    with (
        atomic(out_dir / "images.npy") as images_part,
        atomic(out_dir / "masks.npy") as masks_part,
        atomic(out_dir / "index.tsv") as index_part,
        images_part.open("wb") as images_file,
        masks_part.open("wb") as masks_file,
        index_part.open("w", encoding="utf-8") as index,
    ):
        images = _Array(images_file, np.float16, (total, SIZE, SIZE))
        masks = _Array(masks_file, np.uint8, (total, SIZE, SIZE // 8))
        index.write("participant_id\tz\trole\n")
        for scan, n in zip(plan, counts, strict=True):
            if n == 0:
                log.info("%s: set aside, not trained on", scan["participant_id"])
                continue
            store = read_slices(scan["slices"])
            _check_store(store, scan)
            usable = np.flatnonzero(store.usable)
            images.add(store.image[usable])
            masks.add(np.packbits(store.mask[usable], axis=-1))
            index.writelines(f"{store.participant_id}\t{z}\t{scan['role']}\n" for z in usable)
    write_json(out_dir / "content.json", {"images": images.sha256, "masks": masks.sha256})
    return slices


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    parser = cli.parser(__doc__, "normct.train.pack")
    parser.add_argument(
        "out_dir", type=Path, help="folder that gets images.npy, masks.npy, index.tsv and content.json"
    )
    parser.add_argument("plan", type=Path, help="JSON: [{participant_id, patient, role, slices}, ...]")
    args = parser.parse_args(argv)
    slices = pack(args.out_dir, read_json(args.plan))
    log.info("packed %s", ", ".join(f"{n} slices to {role}" for role, n in slices.items()))


if __name__ == "__main__":
    cli.run(main)
