"""Stage 1, stage 2 and baselines."""
