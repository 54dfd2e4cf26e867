"""Sentences that a figure must not be read without; the same words wherever they stand."""

from __future__ import annotations

RANKING = "Synthetic cohort: the ranking may differ on patients."
EXPOSED = (
    "The defaults of the calibrated score were chosen on synthetic cohorts (the test scans of the detection study's "
    "first freeze, spent by then, and its development cohort), so a synthetic cohort's calibrated and fused figures are "
    "outlier-exposed to that choice unless its test scans were new, as in the detection study's second freeze."
)
"""True of every run: position_mm, slice_smooth_mm and components of ``score.calibrated`` (docs/detection.md)."""
