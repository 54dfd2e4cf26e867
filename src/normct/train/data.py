"""Packed slices as batches by index: resident on a GPU where they fit, memory-mapped otherwise."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from normct.common.errors import NormctError

RESIDENT_SHARE = 0.5
"""Largest share of a GPU's free memory that the slices may take."""


def derived_seed(*parts: int | str) -> int:
    """Return a seed that depends on all of ``parts`` and on nothing else (63 bits)."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8], "big") >> 1


def generator(device: torch.device | str, *parts: int | str) -> torch.Generator:
    """Return a generator on ``device`` seeded by ``parts``, so that a resume draws the same numbers."""
    return torch.Generator(device=device).manual_seed(derived_seed(*parts))


class PackedSlices:
    """The packed slices of :mod:`normct.train.pack`.

    Attributes
    ----------
    index : pandas.DataFrame
        ``participant_id``, ``z``, ``role``, a row a slice.
    """

    def __init__(self, folder: Path) -> None:
        self.index = pd.read_csv(folder / "index.tsv", sep="\t", dtype={"participant_id": str, "role": str})
        self._images = np.load(folder / "images.npy", mmap_mode="r")
        self._masks = np.load(folder / "masks.npy", mmap_mode="r")
        self._resident: tuple[Tensor, Tensor] | None = None
        self._device = torch.device("cpu")
        if not len(self.index) == len(self._images) == len(self._masks):
            raise NormctError(
                "the packed slices are not whole (lengths differ); remove train/data and run again"
            )
        if both := set(self.participants("train")) & set(self.participants("stop")):
            raise NormctError(f"scans both in training and in early stopping: {', '.join(sorted(both)[:5])}")

    def rows(self, role: str) -> Tensor:
        """Return the rows of a role's slices, int64."""
        return torch.from_numpy(np.flatnonzero(self.index["role"].to_numpy() == role))

    def participants(self, role: str) -> list[str]:
        """Return the IDs of a role's scans, sorted."""
        return sorted(self.index.loc[self.index["role"] == role, "participant_id"].unique())

    def to(self, device: torch.device) -> None:
        """Serve batches on ``device``, from there where everything fits.

        On the CPU the page cache keeps the mapped file in memory as far as there is room: nothing is copied.
        """
        self._device = device
        self._resident = None
        if device.type != "cuda":
            return
        if self._images.nbytes + self._masks.nbytes < RESIDENT_SHARE * torch.cuda.mem_get_info(device)[0]:
            self._resident = (
                torch.from_numpy(np.array(self._images)).to(device),
                torch.from_numpy(np.array(self._masks)).to(device),
            )

    def batch(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return images (B, 1, 128, 128) float32 and brain masks (B, 128, 128) bool, on the device."""
        if self._resident is not None:
            on_device = rows.to(self._device, non_blocking=True)
            images, bits = (part[on_device] for part in self._resident)
        else:
            images = torch.from_numpy(self._images[rows.numpy()]).to(self._device)
            bits = torch.from_numpy(self._masks[rows.numpy()]).to(self._device)
        shifts = torch.arange(7, -1, -1, device=self._device, dtype=torch.uint8)
        masks = (bits[..., None] >> shifts).bitwise_and(1).flatten(-2).bool()
        return images.float()[:, None], masks


class IndexBatches:
    """Batches of rows, in an order drawn from (seed, epoch), that can start in mid-epoch.

    Handed to Lightning as a data loader: it yields ``(step, rows)``; the module fetches the slices itself.

    Parameters
    ----------
    rows : Tensor of int64
        Rows to draw from.
    size : int
        Slices a batch; the last one of an epoch may be smaller.
    seed : int or None
        None keeps the order of ``rows``.
    """

    def __init__(self, rows: Tensor, size: int, seed: int | None = None) -> None:
        self._rows, self._size, self._seed = rows, size, seed
        self._epoch = self._start = 0
        self.done = 0

    def set_epoch(self, epoch: int) -> None:
        """Draw the order of ``epoch`` from now on."""
        self._epoch = epoch

    def __len__(self) -> int:
        return math.ceil(len(self._rows) / self._size)

    def __iter__(self) -> Iterator[tuple[int, Tensor]]:
        rows, start = self._rows, self._start
        self._start = 0
        if self._seed is not None:
            order = torch.randperm(len(rows), generator=generator("cpu", self._seed, "order", self._epoch))
            rows = rows[order]
        for step in range(start, len(self)):
            yield step, rows[step * self._size : (step + 1) * self._size]

    def state_dict(self) -> dict[str, int]:
        """Return the epoch and how many of its batches are trained (set by the module)."""
        return {"epoch": self._epoch, "done": self.done}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on in the epoch after the batches that are trained."""
        self._epoch, self._start = state["epoch"], state["done"]
