"""Without a Slurm: the cluster page shows no command that the tests on a real one do not run."""

from __future__ import annotations

import ast
from pathlib import Path

from slurm.page import ALWAYS, PAGE, RUN, STUDIED, commands

TESTS = Path(__file__).with_name("test_slurm_profile.py")


def words_of(function: ast.FunctionDef) -> set[str]:
    """The strings in a test, RUN put in."""
    found = set()
    for node in ast.walk(function):
        match node:
            case ast.Constant(value=str(text)):
                found.add(text)
            case ast.JoinedStr(
                values=[ast.FormattedValue(value=ast.Name(id="RUN")), ast.Constant(value=rest)]
            ):
                found.add(RUN + rest)
            case ast.Name(id="RUN"):
                found.add(RUN)
    return found


def is_study(function: ast.FunctionDef) -> bool:
    return any("study" in ast.unparse(mark) for mark in function.decorator_list)


def test_the_page_shows_what_the_tests_run_and_nothing_else():
    shown = commands()
    assert set(shown) == {*ALWAYS, *STUDIED}
    assert tuple(shown[: len(ALWAYS)]) == ALWAYS  # from clone to results, in that order
    functions = [
        node for node in ast.parse(TESTS.read_text("utf-8")).body if isinstance(node, ast.FunctionDef)
    ]
    always = set().union(*(words_of(f) for f in functions if not is_study(f)))
    studied = set().union(*(words_of(f) for f in functions if is_study(f)))
    assert set(ALWAYS) - always == set()
    assert set(STUDIED) - studied == set()


def test_a_new_command_is_noticed():
    text = PAGE.read_text("utf-8") + "\n```\nscontrol hold JOB   # a comment\n```\n"
    assert set(commands(text)) - {*ALWAYS, *STUDIED} == {"scontrol hold JOB"}
