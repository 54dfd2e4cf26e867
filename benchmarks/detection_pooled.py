"""Test scans of several freezes as one cohort: `python -m benchmarks.detection_pooled FOLDER FOLDER ... --out FOLDER`.

One freeze has ten scans a pathology; two that were scored with the same settings say more together. The folders are
those that the study keeps (``results_detection_freeze_<commit>``). Nothing is scored anew: the collected scores are put
one under the other, patients of different freezes being different people, and the evaluation makes its tables of them.
The bars are printed as the study prints them; no limit was set for a pooled cohort.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import pandas as pd
import yaml

from benchmarks.detection_bars import measure, read_tables
from normct.evaluate import confound, detection, strata
from normct.evaluate.collect import SLICES, VOLUMES
from normct.evaluate.data import SCANS, accepted_test

WARNING = "synthetic cohort: the ranking may differ on patients"


def renamed(table: pd.DataFrame, number: int) -> pd.DataFrame:
    """Return a table whose scans and patients carry their freeze's number: IDs repeat from freeze to freeze."""
    columns = [name for name in ("participant_id", "patient") if name in table]
    return table.assign(**{name: f"{number}-" + table[name].astype(str) for name in columns})


def pool(folders: list[Path], out: Path) -> pd.DataFrame:
    """Write the collected tables of all folders' test scans to ``out``; return the scans.

    Raises
    ------
    SystemExit
        Where the folders hold different scores, which cannot stand in one column.
    """
    collected = [folder / "evaluate" / "collected" for folder in folders]
    tests = [accepted_test(pd.read_parquet(folder / SCANS)) for folder in collected]
    columns = [list(pd.read_parquet(folder / SLICES).columns) for folder in collected]
    for folder, found in zip(folders, columns, strict=True):
        if set(found) != set(columns[0]):
            odd = sorted(set(found) ^ set(columns[0]))
            raise SystemExit(f"{folder.name} and {folders[0].name} differ in their scores: {', '.join(odd)}")
    out.mkdir(parents=True, exist_ok=True)
    for name in (SLICES, VOLUMES):
        parts = [renamed(pd.read_parquet(folder / name), i) for i, folder in enumerate(collected, start=1)]
        pd.concat(parts, ignore_index=True).to_parquet(out / name)
    scans = pd.concat([renamed(part, i) for i, part in enumerate(tests, start=1)], ignore_index=True)
    scans.to_parquet(out / SCANS)
    return scans


def main(argv: list[str] | None = None) -> int:
    """Pool, evaluate, print the bars."""
    cli = argparse.ArgumentParser(prog="python -m benchmarks.detection_pooled", description=__doc__)
    cli.add_argument("folders", nargs="+", type=Path)
    cli.add_argument("--out", required=True, type=Path, help="folder of the tables")
    args = cli.parse_args(argv)
    settings = yaml.safe_load(Path("config.yaml").read_text("utf-8"))["evaluate"]
    # operating points need one list of healthy scores; that of the last freeze stands for all
    calibration = args.folders[-1] / "bundle" / "calibration.json"
    with tempfile.TemporaryDirectory() as folder:
        scans = pool(args.folders, Path(folder))
        given = ["--collected", folder, "--settings", json.dumps(settings), "--out", str(args.out)]
        for stage in (detection, strata, confound):
            stage.main([*given, "--calibration", str(calibration)])
    counts = scans["group"].value_counts()
    print(
        f"{WARNING}. {len(args.folders)} freezes, {counts['healthy']} healthy and {counts['abnormal']} abnormal scans.\n"
    )
    print("| figure | value | 95 % interval |\n|---|---|---|")
    for bar in measure(read_tables(args.out)):
        value = bar.missing or "none" if bar.value is None else f"{bar.value:.3f}"
        bounds = "" if bar.low is None or bar.high is None else f"{bar.low:.3f} to {bar.high:.3f}"
        print(f"| {bar.what} | {value} | {bounds} |")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
