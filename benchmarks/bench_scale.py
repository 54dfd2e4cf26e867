"""How the workflow grows with the cohort: parsing, the graph of jobs, and deciding that nothing is left to do.

Scans are one-byte stand-ins: nothing is run. CPU seconds and peak memory are of the Snakemake process.
"""

from __future__ import annotations

import os
import resource
import sys
import tempfile
from pathlib import Path

import yaml

from benchmarks.child import Cost, cost
from benchmarks.entry import Entry

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent
SOURCE = {"PYTHONPATH": str(REPOSITORY / "src")}
SIZES = (100, 1_000, 10_000)
# of a hundred scans: as a cohort for a paper may be split
SPLITS = [("healthy", "train")] * 50 + [("healthy", "val")] * 15 + [("healthy", "test")] * 15
SPLITS += [("abnormal", "test")] * 20
BARS = {10_000: {"parse": "<= 5", "graph": "<= 120", "dag_mb": "<= 4000", "done": "<= 180"}}


def write_table(folder: Path, rows: list[tuple[str, str, str]], name: str = "participants.tsv") -> None:
    """Write a table of scans, given as ID, group and split, and a stand-in for each that is not there yet."""
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).with_name("scans").mkdir(exist_ok=True)
    lines = ["participant_id\tct\tgroup\tpathology\tsplit"]
    for subject, group, split in rows:
        scan = (folder / name).with_name("scans") / f"{subject}.nii.gz"
        if not scan.exists():
            scan.write_bytes(b".")
            os.utime(scan, (1_000_000_000, 1_000_000_000))
        label = "icb" if group == "abnormal" else "n/a"
        lines.append(f"{subject}\tscans/{scan.name}\t{group}\t{label}\t{split}")
    (folder / name).write_text("\n".join(lines) + "\n", "utf-8")


def link_workflow(folder: Path) -> None:
    """Make a folder one that Snakemake runs in."""
    for name in ("Snakefile", "workflow", "config.yaml", "envs"):
        (folder / name).symlink_to(REPOSITORY / name)


def make_cohort(folder: Path, n: int) -> None:
    """Write a table of ``n`` scans, their stand-ins, and a configuration."""
    write_table(folder, [(f"sub-{i:06d}", *SPLITS[i % len(SPLITS)]) for i in range(n)])
    config = {"results_dir": "out", "cohort": {"participants": "participants.tsv"}}
    (folder / "cohort.yaml").write_text(yaml.safe_dump(config), "utf-8")
    link_workflow(folder)


def measure_size(folder: Path, n: int) -> dict[str, Cost]:
    """Return the cost of parsing, of the graph, of a dry run with all to do, and of finding nothing to do."""
    make_cohort(folder, n)
    snakemake = [sys.executable, "-m", "snakemake"]
    arguments = ["--configfile", "cohort.yaml"]
    profile = yaml.safe_load((REPOSITORY / "slurm" / "config.yaml").read_text("utf-8"))
    # which scans share a job of a cluster is part of its graph
    grouped = ["--groups", *profile["groups"], "--group-components", *profile["group-components"]]
    found = {
        "parse": cost([*snakemake, *arguments, "--list-rules"], folder, SOURCE),
        "graph": cost(
            [sys.executable, str(HERE / "graph_built.py"), "--cores", "1", *arguments, *grouped, "--dry-run"],
            folder,
            SOURCE,
        ),
        "dag": cost(
            [*snakemake, "--cores", "1", *arguments, "--dry-run", "--quiet", "rules"], folder, SOURCE
        ),
    }
    cost([sys.executable, str(HERE / "finished_state.py"), *arguments], folder, SOURCE)
    found["done"] = cost([*snakemake, "--cores", "1", *arguments, "--dry-run"], folder, SOURCE)
    if "Nothing to be done" not in found["done"].output:
        raise RuntimeError(f"the finished state is not one\n{found['done'].output[-3000:]}")
    return found


def measure(sizes: tuple[int, ...] = SIZES) -> list[Entry]:
    """Return ``scale_<what>_<n>``."""
    entries = []
    for n in sizes:
        bars = BARS.get(n, {})
        with tempfile.TemporaryDirectory() as folder:
            found = measure_size(Path(folder) / "cohort", n)
        for what, taken in found.items():
            entries.append(Entry(f"scale_{what}_cpu_s_{n}", taken.cpu_s, "CPU s", bars.get(what)))
        entries.append(Entry(f"scale_dag_mb_{n}", found["dag"].mb, "MB", bars.get("dag_mb")))
    return entries


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for entry in measure(tuple(int(n) for n in sys.argv[1:]) or SIZES):
        print(entry.record())
