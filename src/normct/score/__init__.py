"""Inference, trivial baselines, calibration, combination."""
