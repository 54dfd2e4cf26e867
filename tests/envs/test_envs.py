"""The conda environments and container definitions, which cannot be built here: pins, imports, and where they are used."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from normct.common.codehash import closure

REPOSITORY = Path(__file__).resolve().parents[2]
ENVS = REPOSITORY / "envs"
FSL = ("fsl-bet2==2111.8", "fsl-avwutils==2209.2")
CHANNEL = "https://fsl.fmrib.ox.ac.uk/fsldownloads/fslconda/public/"


def plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(lines: list[str]) -> dict[str, str]:
    found = (re.fullmatch(r"([\w.-]+)==(\S+)", line) for line in lines)
    return {plain(m[1]): m[2] for m in found if m}


def environment(name: str) -> tuple[list[str], dict[str, str]]:
    """Conda packages, and pip packages with their versions."""
    listed = yaml.safe_load((ENVS / name).read_text("utf-8"))["dependencies"]
    (pip,) = [item["pip"] for item in listed if isinstance(item, dict)]
    assert len(pins(pip)) == len(pip), "every pip package is pinned exactly"
    return [item for item in listed if isinstance(item, str)], pins(pip)


def imports(files: list[Path]) -> set[str]:
    """Top-level names that the files import, our own and Python's left out."""
    names: set[str] = set()
    for path in files:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names.add(node.module.split(".")[0])
    return names - set(sys.stdlib_module_names) - {"normct"}


def uncovered(names: set[str], installed: dict[str, str]) -> set[str]:
    """Names that no installed package brings, itself or by what it requires."""
    todo, known = list(installed), set()
    while todo:
        package = todo.pop()
        if package not in known:
            known.add(package)
            try:
                required = importlib.metadata.requires(package) or []
            except importlib.metadata.PackageNotFoundError:
                continue
            todo += [plain(re.match(r"[\w.-]+", r)[0]) for r in required if "extra ==" not in r]
    brought = importlib.metadata.packages_distributions()
    return {n for n in names if not {plain(p) for p in brought.get(n, [])} & known}


@pytest.mark.parametrize("name", ["pipeline.yaml", "fsl.yaml"])
def test_versions_are_those_of_constraints(name):
    conda, pip = environment(name)
    known = pins((REPOSITORY / "constraints.txt").read_text("utf-8").splitlines())
    assert pip == {package: known[package] for package in pip}
    assert "python=3.11" in conda


def test_the_pipeline_environment_holds_every_dependency_and_import():
    _, pip = environment("pipeline.yaml")
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]
    wanted = [
        *project["dependencies"], *project["optional-dependencies"]["bet"], *project["optional-dependencies"]["flow"],
    ]  # fmt: skip
    assert {plain(re.match(r"[\w.-]+", r)[0]) for r in wanted} == set(pip)
    assert uncovered(imports(sorted((REPOSITORY / "src").rglob("*.py"))), pip) == set()


def test_the_fsl_environment_holds_what_skull_stripping_imports():
    conda, pip = environment("fsl.yaml")
    assert set(FSL) <= set(conda)
    files = [path for _, path in closure("normct.preprocess.skullstrip")]
    assert {p.name for p in files} >= {"skullstrip.py", "engine_bet.py", "volumes.py"}
    names = imports(files) - {"brainextractor"}  # another engine
    assert {"nipype", "nibabel", "numpy", "scipy"} <= names
    assert uncovered(names, pip) == set()
    assert uncovered({"torch"}, pip) == {"torch"}


@pytest.mark.parametrize("name", ["Dockerfile", "normct.def"])
def test_the_images_are_built_from_the_same_files(name):
    text = (ENVS / name).read_text("utf-8")
    assert "micromamba install --yes --name base --file envs/pipeline.yaml" in text
    assert all(package in text for package in (*FSL, CHANNEL))
    assert "pip install --no-deps --editable ." in text


def test_no_other_host_is_named():
    for path in ENVS.iterdir():
        assert set(re.findall(r"https?://\S+", path.read_text("utf-8"))) <= {CHANNEL}, path.name
