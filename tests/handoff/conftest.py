"""The miniature run is made once for all tests of the hand-off; nobody changes it."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from handoff_case import shared_run, shared_z_run


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory) -> Path:
    """Results folder with a finished hand-off."""
    return shared_run(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="session")
def finished_z_run(tmp_path_factory) -> Path:
    """The same with the calibrated map of statistical atlas and networks together."""
    return shared_z_run(tmp_path_factory.getbasetemp())
