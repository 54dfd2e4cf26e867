"""What ``snakemake`` would run and why, in words: reads a dry run's output. Used by ``make status``."""

from __future__ import annotations

import re
import sys

from normct.common import cli

WHY = {
    "output files have to be generated": "its files are not there",
    "input files updated by another job": "what it reads will be made anew",
    "updated input files": "what it reads has changed",
    "params have changed since last execution": "its settings or its code changed",
    "code has changed since last execution": "its command changed",
    "set of input files has changed since last execution": "scans were added or removed",
    "software environment definition has changed since last execution": "its software environment changed",
    "incomplete output files": "it was cut off",
}
"""Snakemake's reason -> ours."""
STAGES = ("phantom", "cohort", "preprocess", "train", "score", "evaluate", "handoff")
COUNT = re.compile(r"^(\w+) +(\d+)$", re.MULTILINE)
REASON = re.compile(r"^    (\S[^\n]*):\n((?: {8}\S[^\n]*\n)+)", re.MULTILINE)


def plan(text: str) -> str:
    """Return the plan of a dry run.

    Parameters
    ----------
    text : str
        What ``snakemake --dry-run`` printed.
    """
    table = text.partition("Job stats:")[2].partition("\ntotal")[0]
    counts = {m[1]: int(m[2]) for m in COUNT.finditer(table) if m[1] not in {"all", "score_new"}}
    if not counts:
        return "Everything is up to date: nothing would run."
    reasons: dict[str, list[str]] = {name: [] for name in counts}
    for match in REASON.finditer(text.rpartition("Reasons:")[2]):
        for name in re.split(r"[,\s]+", match[2].strip()):
            if name in reasons:
                reasons[name].append(WHY.get(match[1], match[1]))
    # the reader changed one thing; what merely follows from it comes as a consequence
    later = WHY["input files updated by another job"]
    width = max(map(len, counts))
    lines = [f"{sum(counts.values())} jobs would run:", ""]
    for name in sorted(counts, key=_rank):
        own = [why for why in reasons[name] if why != later] or [later]
        lines.append(f"  {name:{width}}  {counts[name]:>6} x  {'; '.join(own)}")
    return "\n".join(lines)


def _rank(rule: str) -> tuple[int, str]:
    stage = rule.partition("_")[0]
    return (STAGES.index(stage) if stage in STAGES else len(STAGES), rule)


def main(argv: list[str] | None = None) -> None:
    """Command line: a dry run's output comes in, the plan goes out; an output without a plan passes as it is."""
    cli.parser(__doc__, "normct.common.plan").parse_args(argv)
    text = sys.stdin.read()
    understood = "Job stats:" in text or "Nothing to be done" in text
    print(plan(text) if understood else text.strip())
    raise SystemExit(0 if understood else 1)


if __name__ == "__main__":
    cli.run(main)
