"""The miniature run is made once for all tests of the hand-off; nobody changes it."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from handoff_case import shared_run


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory) -> Path:
    """Results folder with a finished hand-off."""
    return shared_run(tmp_path_factory.getbasetemp())
