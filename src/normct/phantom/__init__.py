"""The embedded synthetic cohort, with ground truth."""
