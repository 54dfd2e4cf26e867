"""Run every benchmark: `python -m benchmarks.run [name ...]`.

Each module ``benchmarks/bench_<stage>.py`` has ``measure() -> list[Entry]``. A benchmark that cannot run here
(a program or a device is missing) says so and leaves its entries out.
"""

from __future__ import annotations

import importlib
import platform
import sys
from pathlib import Path

from benchmarks.entry import Entry
from normct.common.files import read_json, write_json

FOLDER = Path(__file__).parent


def main(names: list[str]) -> int:
    """Measure, print, write; a missed bar is said in the table, 2 is returned for an unknown name."""
    known = sorted(path.stem.removeprefix("bench_") for path in FOLDER.glob("bench_*.py"))
    unknown = set(names) - set(known)
    if unknown:
        print(
            f"no benchmark named {', '.join(sorted(unknown))}; there are: {', '.join(known)}", file=sys.stderr
        )
        return 2
    entries: list[Entry] = []
    for name in names or known:
        module = importlib.import_module(f"benchmarks.bench_{name}")
        print(f"measuring {name} ...", file=sys.stderr, flush=True)
        entries += module.measure()
    width = max((len(e.name) for e in entries), default=4)
    print(f"{platform.machine()}, {platform.system()}, Python {platform.python_version()}")
    print(f"{'entry':{width}}  {'value':>10} {'unit':8} {'bar':>8}  holds")
    for e in entries:
        verdict = {None: "", True: "yes", False: "NO"}[e.holds]
        print(f"{e.name:{width}}  {e.value:10.4g} {e.unit:8} {e.bar or '':>8}  {verdict}")
    # measuring some by name keeps what is known of the others
    path = Path("results/bench.json")
    known_entries = {e["name"]: e for e in read_json(path)} if names and path.is_file() else {}
    write_json(path, list((known_entries | {e.name: e.record() for e in entries}).values()))
    missed = [e.name for e in entries if e.holds is False]
    print(f"below their bar: {', '.join(missed)}" if missed else "every bar holds")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
