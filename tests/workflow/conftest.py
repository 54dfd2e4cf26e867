"""One finished tiny run of the real DAG, shared by the workflow tests."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from benchmarks import detection

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def config(monkeypatch) -> dict:
    """The detection study's configuration, seen from the repository."""
    monkeypatch.chdir(REPOSITORY)
    return detection.load_config()


@dataclass(frozen=True)
class Checkout:
    """A copy of the code in a folder of its own, so that a test may edit code and config."""

    folder: Path

    def snakemake(
        self, *arguments: str, extra: str | None = None, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run snakemake in the copy, with the copy's own code; ``extra`` is a config file laid over tiny.yaml."""
        configs = ["tiny.yaml"] + ([extra] if extra else [])
        command = [sys.executable, "-m", "snakemake", "--cores", "2", *arguments, "--configfile", *configs]
        environment = os.environ | {"PYTHONPATH": str(self.folder / "src"), "PYTHONUNBUFFERED": "1"}
        done = subprocess.run(
            command, cwd=self.folder, env=environment, capture_output=True, text=True, check=False
        )
        if check and done.returncode:
            raise AssertionError(
                f"exit status {done.returncode}\n{done.stdout[-4000:]}\n{done.stderr[-8000:]}"
            )
        return done

    def copy(self, folder: Path) -> Checkout:
        """Return a copy of everything, results and Snakemake's records included, times kept."""
        shutil.copytree(self.folder, folder, symlinks=True)
        return Checkout(folder)


def new_checkout(folder: Path) -> Checkout:
    """Copy the code, not the results."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("src", "workflow"):
        shutil.copytree(
            REPOSITORY / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info")
        )
    for name in ("Snakefile", "config.yaml", "tests/workflow/tiny.yaml"):
        shutil.copy2(REPOSITORY / name, folder / Path(name).name)
    return Checkout(folder)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A checkout in which the tiny DAG has run to its end. Copy it before changing anything."""
    checkout = new_checkout(tmp_path_factory.mktemp("pipeline") / "checkout")
    checkout.snakemake()
    return checkout


@pytest.fixture(scope="session")
def make_checkout() -> Callable[[Path], Checkout]:
    """Return the function that copies the code, for a module that wants a checkout of its own."""
    return new_checkout


@pytest.fixture
def fresh(tmp_path: Path) -> Checkout:
    """A checkout without results."""
    return new_checkout(tmp_path / "checkout")
