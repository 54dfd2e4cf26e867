"""A quantile of many values without keeping them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

BINS = 20_000


class TailQuantile:
    """Streaming quantile of non-negative values: a fixed histogram, so memory does not grow."""

    def __init__(self, top: float) -> None:
        self.top, self.largest = top, 0.0
        self.counts: NDArray[np.int64] = np.zeros(BINS, np.int64)

    def add(self, values: NDArray) -> None:
        """Count values of any shape; those above the top fall into the last bin."""
        if values.size:
            self.largest = max(self.largest, float(values.max()))
            index = np.minimum(values.ravel().astype(np.float32) * (BINS / self.top), BINS - 1).astype(
                np.int64
            )
            self.counts += np.bincount(index, minlength=BINS)

    def threshold(self, rate: float) -> float:
        """Return the smallest bin edge that at most a share ``rate`` of the values reaches."""
        above = np.concatenate([np.cumsum(self.counts[::-1])[::-1], [0]])  # values at or above each edge
        edge = int(np.argmax(above <= rate * max(int(self.counts.sum()), 1)))
        return self.largest if edge == BINS else edge * self.top / BINS
