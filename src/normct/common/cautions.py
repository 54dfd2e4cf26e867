"""Sentences that a figure must not be read without; the same words wherever they stand."""

from __future__ import annotations

RANKING = "Synthetic cohort: the ranking may differ on patients."
EXPOSED = (
    "Three defaults of the calibrated score (how far along z a slice's position is compared and its score smoothed, and "
    "how many components are taken off) were chosen on synthetic lesions, so calibrated and fused scores with these "
    "defaults are outlier-exposed in their settings; no network was trained on a lesion, and plain scores are not "
    "exposed. A synthetic cohort's lesions come from the generator that the choice was made on, so its figures are "
    "exposed however new its scans are."
)
"""True of every run: position_mm, slice_smooth_mm and components of ``score.calibrated`` (docs/scores.md)."""
EXPOSED_SHORT = "The settings of calibrated and fused scores are outlier-exposed (see the methods text)."
"""The mark of a table that shows such scores."""
