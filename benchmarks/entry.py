"""An entry of the benchmark's table; whether it holds is computed, never stated."""

from __future__ import annotations

import operator
import re
from dataclasses import dataclass
from typing import Any

COMPARE = {">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt}


@dataclass(frozen=True)
class Entry:
    """A measured figure.

    Attributes
    ----------
    name : str
        ``<stage>_<what>``.
    value : float
        The figure; ratios are within one run.
    unit : str
        ``x``, ``CPU s``, ``MB`` ...
    bar : str or None
        What it should reach, such as ``">= 6"``; None for a figure that is only reported.
    """

    name: str
    value: float
    unit: str
    bar: str | None = None

    @property
    def holds(self) -> bool | None:
        """Whether the value reaches the bar; None without one."""
        if self.bar is None:
            return None
        match = re.fullmatch(r"(>=|<=|>|<) ([0-9.]+)", self.bar)
        if match is None:
            raise ValueError(f"{self.name}: bar {self.bar!r} is not of the form '>= 6'")
        return bool(COMPARE[match[1]](self.value, float(match[2])))

    def record(self) -> dict[str, Any]:
        """Return the entry as it stands in ``results/bench.json``."""
        return {
            "name": self.name,
            "value": float(f"{self.value:.4g}"),
            "unit": self.unit,
            "bar": self.bar,
            "holds": self.holds,
        }
