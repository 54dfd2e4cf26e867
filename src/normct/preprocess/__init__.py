"""Resample, skull-strip, register, check and slice head CT."""
