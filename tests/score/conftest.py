"""The tiny cohort, scored once a session."""

from __future__ import annotations

from pathlib import Path

import pytest

from score.score_case import run_stage


@pytest.fixture(scope="session")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the results folder of a cohort that went through every module of the stage."""
    root = tmp_path_factory.mktemp("cohort")
    run_stage(root)
    return root
