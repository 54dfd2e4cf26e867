"""`snakemake --lint` finds nothing but what is explained here; every rule grows with its attempts."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from normct.common.rules import growing

REPOSITORY = Path(__file__).resolve().parents[2]

# what the linter finds -> why it stays
EXCEPTIONS = {
    r"Param \w+ is a prefix of input or output file but hardcoded": "a script gets the folder that results_dir roots; "
    "the files meet on a shared file system, never in an object store",
    r"Mixed rules and functions in same snakefile\.": "functions that one stage alone uses stay in its rule file",
    r"Migrate long run directives into scripts or notebooks": "preprocess_quality_page: four lines that put thousands "
    "of paths into a file and run its module",
}


def test_lint_finds_what_is_explained_and_nothing_else():
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", "--lint"], cwd=REPOSITORY, capture_output=True, text=True, check=False,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY / "src")},
    )  # fmt: skip
    text = done.stdout + done.stderr
    found = re.findall(r"^    \* (.*):$", text, re.MULTILINE)
    assert found, text
    unknown = [title for title in found if not any(re.fullmatch(known, title) for known in EXCEPTIONS)]
    assert not unknown, text
    unused = [known for known in EXCEPTIONS if not any(re.fullmatch(known, title) for title in found)]
    assert not unused  # an exception that is no more needed goes
    assert len(re.findall("Migrate long run", text)) == 1


def test_every_rule_asks_for_more_memory_and_time_with_every_attempt():
    """In the rule files' own words: a job that was killed for memory or time must not be tried with the same again."""
    assert [growing(60)(wildcards=None, attempt=attempt) for attempt in (1, 2, 3)] == [60, 120, 180]
    for path in sorted((REPOSITORY / "workflow" / "rules").glob("*.smk")):
        for rule in re.split(r"^ *rule ", path.read_text("utf-8"), flags=re.MULTILINE)[1:]:
            if "shell:" not in rule and "run:" not in rule:
                continue
            name = rule.partition(":")[0]
            assert "mem_mb=growing(" in rule, name
            assert "runtime=growing(" in rule, name
            assert "log:" in rule, name
            assert '"""' in rule, name
