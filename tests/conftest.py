"""What holds for every test."""

import os

import pytest

# read once, when ITK starts: as in the pipeline, where each job is one thread
os.environ["ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"] = "1"

LONG = ("pipeline", "slurm", "hostile")
"""Groups of tests that share one long run each: started first, side by side, so that none is waited for at the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the long groups first; the order within a group and of all the others stays."""

    def place(item: pytest.Item) -> int:
        mark = item.get_closest_marker("xdist_group")
        name = mark.args[0] if mark and mark.args else ""
        return LONG.index(name) if name in LONG else len(LONG)

    items.sort(key=place)
