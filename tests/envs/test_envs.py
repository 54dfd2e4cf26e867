"""The conda environments and container definitions, which cannot be built here: pins, imports, and where they are used."""

from __future__ import annotations

import ast
import importlib.metadata
import os
import re
import shutil
import subprocess
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


def copied(name: str) -> set[str]:
    """What an image's definition copies, each of it to its own name below /opt/normct."""
    text = (ENVS / name).read_text("utf-8")
    found = set()
    if name == "Dockerfile":
        for line in re.findall(r"^(?:COPY|ADD) (.+)$", text, re.MULTILINE):
            *sources, target = line.split()
            assert target == "./" or [target] == sources, line
            found |= set(sources)
        return found
    for line in re.search(r"^%files\n((?: +.*\n)+)", text, re.MULTILINE)[1].splitlines():
        source, target = line.split()
        assert target == f"/opt/normct/{source}", line
        found.add(source)
    return found


def test_images_hold_named_paths_only_and_no_data():
    """Apptainer reads no .dockerignore: a bare folder would take results and scans into the image."""
    names = copied("normct.def")
    assert names == copied("Dockerfile")
    assert not [name for name in names if re.search(r"[*?\[]|^\.|/", name)]
    assert not names & {"results", "tests", "benchmarks", "bundles"}
    assert [name for name in sorted(names) if not (REPOSITORY / name).exists()] == []
    ignored = (REPOSITORY / ".dockerignore").read_text("utf-8").splitlines()
    rules = [line for line in ignored if not line.startswith("#")]
    assert rules[0] == "*"
    assert {line[1:] for line in rules if line.startswith("!")} == names
    assert {line for line in rules[1:] if not line.startswith("!")} == {"**/__pycache__", "**/*.egg-info"}


def test_what_an_image_holds_plans_the_demo_and_is_installed(tmp_path):
    for name in copied("normct.def"):
        copy = shutil.copytree if (REPOSITORY / name).is_dir() else shutil.copy2
        copy(REPOSITORY / name, tmp_path / name)
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", "--cores", "1", "--dry-run", "--quiet", "rules"], cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path / "src")}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "handoff_index" in done.stdout, done.stderr[-3000:]
    project = tomllib.loads((tmp_path / "pyproject.toml").read_text("utf-8"))["project"]
    assert (tmp_path / project["readme"]).is_file()  # the build refuses a readme that is not there
    for asked in re.findall(r"envs/\w+\.yaml", (ENVS / "normct.def").read_text("utf-8")):
        assert (tmp_path / asked).is_file()


def test_no_other_host_is_named():
    for path in ENVS.iterdir():
        assert set(re.findall(r"https?://\S+", path.read_text("utf-8"))) <= {CHANNEL}, path.name
