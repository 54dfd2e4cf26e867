"""Planning takes time in proportion to a cohort, and finds what Snakemake itself finds.

Where the first assertion of a pair fails, Snakemake was mended, and the function can go.
"""

from __future__ import annotations

import gc
import subprocess
import sys
from pathlib import Path

import pytest
from benchmarks import graph_built
from snakemake.io import IOFile
from snakemake.iocontainers import InputFiles

from normct.common.planning import LONG, _known, look_up_inputs

COHORT = 300
# a byte a call of a method
COUNTER = """
from snakemake.dag import DAG
from snakemake.io import _IOFile
from snakemake.jobs import Job

from normct.common import planning

calls, method = open("calls", "ab", buffering=0), KIND.NAME

def counted(*args):
    calls.write(b".")
    return method(*args)

KIND.NAME = counted
if config["light"]:
    planning.FUNCTION()
"""
ATLAS = """
rule all:
    input: expand("page/{i}", i=range(COHORT))

rule atlas:
    input: expand("scan/{i}", i=range(COHORT))
    output: "atlas"
    shell: "touch {output}"

rule scan:
    output: "scan/{i}"
    shell: "touch {output}"

rule score:
    input: "atlas", "scan/{i}"
    output: "scored/{i}"
    group: "page"
    shell: "touch {output}"

rule page:
    input: "scored/{i}"
    output: "page/{i}"
    group: "page"
    params: lambda wc: wc.i
    shell: "touch {output}"
""".replace("COHORT", str(COHORT))


def plan(folder: Path, snakefile: str, *arguments: str, light: bool) -> subprocess.CompletedProcess[str]:
    """Plan, with or without the lighter way, up to the grouped graph."""
    folder.mkdir(exist_ok=True)
    (folder / "Snakefile").write_text(snakefile, "utf-8")
    return subprocess.run(
        [sys.executable, graph_built.__file__, "-n", "--quiet", "rules", *arguments, "--config", f"light={light}"],
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip


def count(folder: Path, function: str, kind: str, name: str, *, light: bool) -> int:
    """Plan a cohort that is scored with an atlas of itself; return how often a method was called."""
    counter = COUNTER.replace("KIND", kind).replace("NAME", name).replace("FUNCTION", function)
    done = plan(folder, counter + ATLAS, light=light)
    assert done.returncode == 0, done.stderr
    return (folder / "calls").stat().st_size


@pytest.mark.parametrize(
    ("function", "kind", "name"),
    [("look_up_inputs", "_IOFile", "__eq__"), ("check_groups_at_once", "Job", "__hash__")],
)
def test_planning_does_not_grow_with_the_square_of_a_cohort(tmp_path, function, kind, name):
    plain = count(tmp_path / "plain", function, kind, name, light=False)
    light = count(tmp_path / "light", function, kind, name, light=True)
    # the plain way grows by COHORT² at least; what is left is in proportion to it
    assert plain > COHORT**2 + light
    assert light < 500 * COHORT


@pytest.mark.parametrize("length", [LONG - 1, LONG, 3 * LONG])
def test_an_input_is_known_as_snakemake_knows_it(length, monkeypatch):
    monkeypatch.setattr(InputFiles, "__contains__", list.__contains__)
    look_up_inputs()
    files = InputFiles([IOFile(f"scan/{i}", None) for i in range(length)])
    assert "scan/7" in files and IOFile("scan/7", None) in files
    assert "scan/x" not in files and IOFile(f"scan/{length}", None) not in files
    files.append(files[0])  # twice the same
    files.append(IOFile("scan/x", None))
    assert "scan/x" in files and "scan/y" not in files
    del files
    gc.collect()
    assert not _known


LOOP = """
from normct.common.planning import plan_lightly
if config["light"]:
    plan_lightly()

rule last:
    input: "outside", "first"
    output: "last"
    group: "g"
    shell: "touch {output}"

rule outside:
    input: "first"
    output: "outside"
    shell: "touch {output}"

rule first:
    output: "first"
    group: "g"
    shell: "touch {output}"
"""
TWO_FOLDERS = """
from normct.common.planning import plan_lightly
if config["light"]:
    plan_lightly()

rule all:
    input: "made", "made/file"

rule folder:
    output: directory("made")
    shell: "mkdir {output}"

rule file:
    output: "made/file"
    shell: "touch {output}"
"""


def said(done: subprocess.CompletedProcess[str]) -> str:
    """What it said from the graph on; before that come the time and the call itself."""
    return done.stdout.partition("Building DAG")[2] + done.stderr


@pytest.mark.parametrize(
    ("snakefile", "words"), [(LOOP, "group g"), (TWO_FOLDERS, "made/file")], ids=["loop", "two folders"]
)
def test_what_snakemake_refuses_is_refused_in_its_words(tmp_path, snakefile, words):
    plain = plan(tmp_path / "cohort", snakefile, light=False)
    light = plan(tmp_path / "cohort", snakefile, light=True)
    assert plain.returncode == light.returncode == 1
    assert words in said(plain)
    assert said(plain) == said(light)


@pytest.mark.parametrize(
    ("function", "kind", "name", "times"),
    [
        ("leave_params_to_jobs", "Job", "_expand_params", 3 * COHORT + 2),
        ("look_into_folders_made", "DAG", "check_directory_outputs", 1),
    ],
)
def test_what_has_no_use_is_not_done(tmp_path, function, kind, name, times):
    assert count(tmp_path / "plain", function, kind, name, light=False) == times
    assert count(tmp_path / "light", function, kind, name, light=True) == 0
