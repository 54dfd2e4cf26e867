"""Packed slices as batches by index: resident on a GPU where they fit, memory-mapped otherwise."""

from __future__ import annotations

import hashlib
import math
import mmap
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, distributed

from normct.common.errors import NormctError
from normct.common.files import read_json, sha256

RESIDENT_SHARE = 0.5
"""Largest share of a GPU's free memory that the slices may take."""
BLOCK = 2048
"""Slices copied to a GPU at once, 68 MB: never a second copy of all of them in the host's memory."""
MAPPED_BYTES = 256 * 2**20
"""Bytes read from a mapped file before its pages leave the process (they stay in the system's cache)."""


def derived_seed(*parts: int | str) -> int:
    """Return a seed that depends on all of ``parts`` and on nothing else (63 bits)."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8], "big") >> 1


def generator(device: torch.device | str, *parts: int | str) -> torch.Generator:
    """Return a generator on ``device`` seeded by ``parts``, so that a resume draws the same numbers."""
    return torch.Generator(device=device).manual_seed(derived_seed(*parts))


def ranks() -> tuple[int, int]:
    """Return this process's number and how many train together: (0, 1) where it trains alone."""
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1


def over_ranks(values: Tensor) -> Tensor:
    """Return the sum over the processes that train together."""
    if ranks()[1] > 1:
        values = values.clone()
        distributed.all_reduce(values)
    return values


def content(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of the packed images and masks, read anew where packing left no record of it."""
    try:
        return read_json(folder / "content.json")
    except FileNotFoundError:
        return {name: sha256(folder / f"{name}.npy") for name in ("images", "masks")}


def unpack_bits(bits: Tensor) -> Tensor:
    """Return masks (B, 128, 128) of packed bits (B, 128, 16), on any device, as ``numpy.unpackbits`` does."""
    shifts = torch.arange(7, -1, -1, device=bits.device, dtype=torch.uint8)
    return (bits[..., None] >> shifts).bitwise_and(1).flatten(-2).bool()


class MappedRows:
    """Rows of an ``.npy`` file larger than memory, read where they are asked for.

    A mapped page counts as the process's own until it is given back, and a Slurm job is killed for what it
    counts: so after every 256 MiB they are given back.

    Parameters
    ----------
    path : Path
        Axis 0 is rows.
    """

    def __init__(self, path: Path) -> None:
        self.array = np.load(path, mmap_mode="r")
        self._read = 0
        self._advise(mmap.MADV_RANDOM)  # rows are drawn in random order: reading ahead would only be waste

    def _advise(self, advice: int) -> None:
        self.array._mmap.madvise(advice)

    def __len__(self) -> int:
        return len(self.array)

    def read(self, rows: NDArray[np.int64]) -> NDArray:
        """Return a copy of the rows."""
        found = self.array[rows]
        self._read += found.nbytes
        if self._read > MAPPED_BYTES:
            self._advise(mmap.MADV_DONTNEED)
            self._read = 0
        return found

    def to(self, device: torch.device) -> Tensor:
        """Return all rows on ``device``, copied in blocks."""
        first = torch.from_numpy(self.read(np.arange(1)))
        whole = torch.empty(self.array.shape, dtype=first.dtype, device=device)
        for start in range(0, len(self), BLOCK):
            rows = np.arange(start, min(start + BLOCK, len(self)))
            whole[start : start + BLOCK] = torch.from_numpy(self.read(rows)).to(device)
        return whole


class PackedSlices:
    """The packed slices of :mod:`normct.train.pack`.

    Attributes
    ----------
    index : pandas.DataFrame
        ``participant_id``, ``z``, ``role``, a row a slice; words as categories, for millions of rows.
    """

    def __init__(self, folder: Path) -> None:
        kinds = {"participant_id": "category", "z": "int16", "role": "category"}
        self.index = pd.read_csv(folder / "index.tsv", sep="\t", dtype=kinds)
        self._images = MappedRows(folder / "images.npy")
        self._masks = MappedRows(folder / "masks.npy")
        self._resident: tuple[Tensor, Tensor] | None = None
        self._device = torch.device("cpu")
        if not len(self.index) == len(self._images) == len(self._masks):
            raise NormctError(
                "the packed slices are not whole (lengths differ); remove train/data and run again"
            )
        if both := set(self.participants("train")) & set(self.participants("stop")):
            raise NormctError(f"scans both in training and in early stopping: {', '.join(sorted(both)[:5])}")

    @property
    def channels(self) -> int:
        """Channels of a slice: 1 where the images are (n, 128, 128), C where they are (n, C, 128, 128)."""
        return self._images.array.shape[1] if self._images.array.ndim == 4 else 1

    def rows(self, role: str) -> Tensor:
        """Return the rows of a role's slices, int64."""
        return torch.from_numpy(np.flatnonzero((self.index["role"] == role).to_numpy()))

    def participants(self, role: str) -> list[str]:
        """Return the IDs of a role's scans, sorted."""
        return sorted(map(str, self.index.loc[self.index["role"] == role, "participant_id"].unique()))

    def first_scan(self, role: str) -> Tensor:
        """Return the rows of a role's first scan, base to vertex."""
        first = (self.index["role"] == role) & (self.index["participant_id"] == self.participants(role)[0])
        return torch.from_numpy(np.flatnonzero(first.to_numpy()))

    def to(self, device: torch.device) -> None:
        """Serve batches on ``device``, from there where everything fits.

        On the CPU the page cache keeps the mapped file in memory as far as there is room: nothing is copied.
        """
        self._device = device
        self._resident = None
        if self._fits(device):
            self._resident = (self._images.to(device), self._masks.to(device))

    def _fits(self, device: torch.device) -> bool:
        if device.type != "cuda":
            return False
        needed = self._images.array.nbytes + self._masks.array.nbytes
        return needed < RESIDENT_SHARE * torch.cuda.mem_get_info(device)[0]

    @property
    def resident(self) -> bool:
        """Whether all slices lie on the device."""
        return self._resident is not None

    def read(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return images and packed masks of the rows as they are stored, in memory; may run in a thread."""
        index = rows.numpy()
        parts = (torch.from_numpy(part.read(index)) for part in (self._images, self._masks))
        images, bits = (p.pin_memory() if self._device.type == "cuda" else p for p in parts)
        return images, bits

    def batch(self, rows: Tensor, ready: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, Tensor]:
        """Return a batch on the device.

        Parameters
        ----------
        rows : Tensor of int64
            Rows of the slices.
        ready : tuple of Tensor or None
            What :meth:`read` gave for these rows, where it was read ahead.

        Returns
        -------
        images : Tensor of float32
            Shape (B, C, 128, 128).
        masks : Tensor of bool
            Shape (B, 128, 128).
        """
        if self._resident is not None:
            on_device = rows.to(self._device, non_blocking=True)
            images, bits = (part[on_device] for part in self._resident)
        else:
            images, bits = (p.to(self._device, non_blocking=True) for p in ready or self.read(rows))
        if self._device.type == "cpu":  # numpy's unpacking beats shifts there
            masks = torch.from_numpy(np.unpackbits(bits.numpy(), axis=-1)).bool()
        else:
            masks = unpack_bits(bits)
        images = images.float()
        return images if images.ndim == 4 else images[:, None], masks


class IndexBatches:
    """Batches of rows, in an order drawn from (seed, epoch), that can start in mid-epoch.

    Handed to Lightning as a data loader: it yields ``(step, rows, ready)``, and the module makes the batch.
    Where slices do not lie on the device, a thread reads the next batch while this one trains. Processes that train
    together cut every batch among them, so they take the steps that one would.

    Parameters
    ----------
    rows : Tensor of int64
        Rows to draw from.
    size : int
        Slices a batch; the last one of an epoch may be smaller.
    seed : int or None
        None keeps the order of ``rows``.
    data : PackedSlices or None
        Whose slices are read ahead; None reads nothing.
    """

    def __init__(
        self, rows: Tensor, size: int, seed: int | None = None, data: PackedSlices | None = None
    ) -> None:
        self._rows, self._size, self._seed, self._data = rows, size, seed, data
        self._epoch = self._start = 0
        self.done = 0

    def set_epoch(self, epoch: int) -> None:
        """Draw the order of ``epoch`` from now on."""
        self._epoch = epoch

    def __len__(self) -> int:
        return math.ceil(len(self._rows) / self._size)

    def __iter__(self) -> Iterator[tuple[int, Tensor, tuple[Tensor, Tensor] | None]]:
        rows, start = self._rows, self._start
        self._start = 0
        if self._seed is not None:
            draws = generator("cpu", self._seed, "order", self._epoch)
            rows = rows[torch.randperm(len(rows), generator=draws)]
        size = self._size
        rank, world = ranks()
        steps = []
        for i in range(start, len(self)):
            whole = rows[i * size : (i + 1) * size]
            # a last batch smaller than the processes are many: none may stay without a slice
            steps.append((i, whole[rank::world] if rank < len(whole) else whole[:1]))
        if self._data is None or self._data.resident:
            yield from ((i, part, None) for i, part in steps)
            return
        with ThreadPoolExecutor(1, "read-ahead") as reader:
            ahead = reader.submit(self._data.read, steps[0][1]) if steps else None
            for (i, part), following in zip(steps, [*steps[1:], None], strict=True):
                assert ahead is not None
                ready = ahead.result()
                if following is not None:
                    ahead = reader.submit(self._data.read, following[1])
                yield i, part, ready

    def state_dict(self) -> dict[str, int]:
        """Return the epoch and how many of its batches are trained (set by the module)."""
        return {"epoch": self._epoch, "done": self.done}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on in the epoch after the batches that are trained."""
        self._epoch, self._start = state["epoch"], state["done"]
