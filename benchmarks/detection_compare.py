"""What a change of training or scoring is worth: `python -m benchmarks.detection_compare BEFORE AFTER [AFTER ...]`.

Each folder holds results of the same test scans (``evaluate/collected``). Every method with every score is measured on
the scans that all folders accepted, and differences to the first folder are taken on the same draws of patients: of
cohorts of this size intervals of two separate figures overlap long after the difference is clear. Scores that only one
of the folders has stand alone. Nothing is scored anew.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from normct.evaluate import protocols as pr
from normct.evaluate.aggregate import Draws, Key, evaluate_protocol, summarise
from normct.evaluate.data import SLICES, accepted_test, read_cohort, read_slice_scores, read_volume_scores
from normct.evaluate.metrics import Counts, draw_patients, interval

PROTOCOLS = ("slice_healthy", "volume")
SAME, FEW = 0.02, 20
"""Share and pixels by which processors may make one scan's masks differ."""
WARNING = "synthetic cohort: the ranking may differ on patients"


def pixels(collected: Path) -> pd.DataFrame:
    """Return a scan's pixels of brain and of lesion in usable slices, by ID."""
    columns = ["participant_id", "brain_pixels", "lesion_pixels"]
    table = pd.read_parquet(collected / SLICES, columns=[*columns, "usable"])
    return table.loc[table["usable"], columns].groupby("participant_id").sum()


def common_scans(folders: list[Path]) -> pd.DataFrame:
    """Return the test scans that all folders accepted.

    Raises
    ------
    SystemExit
        Where a scan of one ID is of another patient or group, or shows another brain or lesion: these are results of
        other scans.
    """
    known = ["patient", "group", "pathology"]
    found = [folder / "evaluate" / "collected" for folder in folders]
    scans = [accepted_test(read_cohort(path)).set_index("participant_id") for path in found]
    sizes = [pixels(path) for path in found]
    first = scans[0]
    for folder, other, size in zip(folders[1:], scans[1:], sizes[1:], strict=True):
        both = first.index.intersection(other.index)
        same = first.loc[both, known].astype(str).equals(other.loc[both, known].astype(str))
        here, there = (s.reindex(both, fill_value=0) for s in (sizes[0], size))
        # phantoms of another seed have the same IDs, and other brains
        if both.empty or not same or ((there - here).abs() > SAME * here + FEW).any(axis=None):
            raise SystemExit(f"{folder} and {folders[0]} hold results of different test scans")
        first = first.loc[both]
    return first.reset_index()


def measured(
    folder: Path, scans: pd.DataFrame, strata: pr.Strata, counts: Counts, protocol: str
) -> tuple[dict[Key, float], dict[Key, Draws]]:
    """Return AUROC (mean over seeds) and bootstrap samples of every method and score in a folder."""
    collected = folder / "evaluate" / "collected"
    read = read_volume_scores if protocol == "volume" else read_slice_scores
    scores = read(collected, scans)
    rows, samples = evaluate_protocol(scores, pr.classes(scores.units, protocol), protocol, strata, counts)
    short = summarise(rows, samples, pr.Intervals(True, ""))
    return {(r["method"], r["score"], r["members"]): r["auroc_mean"] for r in short}, samples


def compare(folders: list[Path], draws: int, seed: int) -> pd.DataFrame:
    """Return a row a protocol, folder, method and score: AUROC, and its difference to the first folder.

    Also, as method ``a - b``, differences within a folder to its own calibrated atlas.

    Parameters
    ----------
    folders : list of Path
        Results folders; the first is what the others are compared with.
    draws, seed : int
        Of the bootstrap over patients.
    """
    scans = common_scans(folders)
    strata = pr.make_strata(scans)
    counts = draw_patients(strata.stratum, draws, seed)
    rows = []
    for protocol in PROTOCOLS:
        found = [measured(folder, scans, strata, counts, protocol) for folder in folders]
        for folder, (means, samples) in zip(folders, found, strict=True):
            atlas = ("statistical_atlas", "calibrated", "single")
            drawn = {key: sample.auroc for key, sample in samples.items()}
            for key in [
                k for k in drawn if k[1] in {"calibrated", "fused"} and k != atlas and atlas in drawn
            ]:
                name = (f"{key[0]} - statistical_atlas", *key[1:])
                means[name], drawn[name] = means[key] - means[atlas], drawn[key] - drawn[atlas]
            for key, sample in drawn.items():
                entry = dict(zip(("method", "score", "members"), key, strict=True))
                entry |= {"protocol": protocol, "folder": folder.name, "auroc": means[key]}
                entry["low"], entry["high"] = interval(sample)
                rows.append(entry | {"_sample": sample})
    table = pd.DataFrame(rows)
    first = table[table["folder"] == folders[0].name].set_index(["protocol", "method", "score", "members"])
    for at, row in table[table["folder"] != folders[0].name].iterrows():
        key = (row["protocol"], row["method"], row["score"], row["members"])
        if key in first.index:
            before = first.loc[key]
            table.loc[at, "gain"] = row["auroc"] - before["auroc"]
            table.loc[at, ["gain_low", "gain_high"]] = interval(row["_sample"] - before["_sample"])
    columns = ["protocol", "method", "score", "members", "folder", "auroc", "low", "high"]
    return table.reindex(columns=[*columns, "gain", "gain_low", "gain_high"])


def main(argv: list[str] | None = None) -> int:
    """Compare and print."""
    cli = argparse.ArgumentParser(prog="python -m benchmarks.detection_compare", description=__doc__)
    cli.add_argument(
        "folders", nargs="+", type=Path, help="results folders; the first is what others are compared with"
    )
    cli.add_argument("--out", type=Path, help="table (CSV) to write, the ensembles' rows among them")
    args = cli.parse_args(argv)
    if len({folder.name for folder in args.folders}) < len(args.folders):
        raise SystemExit("two folders of one name: the table could not tell them apart")
    settings = yaml.safe_load(Path("config.yaml").read_text("utf-8"))["evaluate"]
    table = compare(args.folders, settings["bootstrap"], settings["seed"])
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        table.to_csv(args.out, index=False)
    print(f"{WARNING}. AUROC, 95 % interval over patients; gain: less {args.folders[0].name}.\n")
    print("| protocol | method | score | folder | AUROC | gain |\n|---|---|---|---|---|---|")
    for row in table[table["members"] == "single"].to_dict("records"):
        value = f"{row['auroc']:.3f} ({row['low']:.3f} to {row['high']:.3f})"
        gain = (
            f"{row['gain']:.3f} ({row['gain_low']:.3f} to {row['gain_high']:.3f})"
            if np.isfinite(row["gain"])
            else ""
        )
        print(
            f"| {row['protocol']} | {row['method']} | {row['score']} | {row['folder']} | {value} | {gain} |"
        )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
