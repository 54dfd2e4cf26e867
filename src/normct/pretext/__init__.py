"""Pretext tasks: pure tensor functions, importing nothing of ours."""
