"""The detection study, stage by stage: `make detection`, or `python -m benchmarks.detection STAGE`.

The synthetic cohort of ``configs/detection.yaml`` is generated, trained on, scored and evaluated; the bars are then
read off the evaluation's tables into ``results/detection.json``. The development seed stands in the config. A *freeze*
takes the seed of its test scans from the hash of the commit that froze code and settings, so that nobody could have
looked at them before, and is refused where the code is not that commit's. All cohorts share the training scans and
what was trained on them, so one results folder: each cohort's tables are copied beside it before the next takes over.
A development cohort has half of a freeze's test scans: it is there to find mistakes, not to measure.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from snakemake.utils import update_config

from benchmarks.detection_bars import Bar, measure, read_tables
from normct.common.files import atomic, read_json, write_json

CONFIG = Path("configs/detection.yaml")
STAGES = ("data", "train", "score", "evaluate")
FROZEN_PATHS = (
    *("Snakefile", "config.yaml", "configs/detection.yaml", "src", "workflow", "constraints.txt"),
    # how many scans are tested, and the bars' limits
    "benchmarks/detection*.py",
)
OUT = Path("results/detection.json")
SEED_VARIABLE = "DETECTION_SEED"
WARNING = "synthetic cohort: the ranking may differ on patients"


@dataclass(frozen=True)
class Study:
    """One cohort of the study: the seed of its test scans, its name and, of a freeze, its commit."""

    seed: int
    name: str
    commit: str | None = None


def seed_of(commit: str) -> int:
    """Return the seed of a commit's test scans: the first 31 bits of its hash.

    Raises
    ------
    ValueError
        For anything but a full hash.
    """
    if len(commit) < 40 or set(commit) - set("0123456789abcdef"):
        raise ValueError(f"not a full commit hash: {commit}")
    return int(commit[:8], 16) >> 1


def load_config() -> dict[str, Any]:
    """Return the configuration of the development cohort."""
    config: dict[str, Any] = yaml.safe_load(Path("config.yaml").read_text("utf-8"))
    update_config(config, yaml.safe_load(CONFIG.read_text("utf-8")))
    return config


def git(*arguments: str) -> list[str]:
    """Return the lines that a git command prints about the folder we are in."""
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def choose(freeze: str | None) -> Study:
    """Return the study of a freeze, of ``DETECTION_SEED``, or the development one.

    Raises
    ------
    SystemExit
        Where the code or the settings are not those of the frozen commit.
    """
    config = load_config()
    given = os.environ.get(SEED_VARIABLE)
    if freeze is None:
        seed = int(given) if given else int(config["phantom"]["seed"])
        own = seed == config["phantom"]["seed"]
        return Study(seed, "development" if own else f"development_{seed}")
    if given:
        raise SystemExit(
            f"{SEED_VARIABLE} and a freeze exclude each other: a freeze's seed is its commit's hash"
        )
    commit = git("rev-parse", "--verify", f"{freeze}^{{commit}}")[0]
    differing = git("diff", "--name-only", commit, "--", *FROZEN_PATHS)
    # a file that was never added differs from no commit, and is imported all the same
    differing += [
        line.removeprefix("?? ")
        for line in git("status", "--porcelain", "--untracked-files=all", "--", *FROZEN_PATHS)
        if line.startswith("?? ")
    ]
    if differing:
        raise SystemExit(f"not the code of {commit[:12]}, these differ: {', '.join(differing)}")
    return Study(seed_of(commit), f"freeze_{commit[:12]}", commit)


def kept(study: Study) -> Path:
    """Return the folder in which a cohort's scores and tables outlive the next cohort."""
    return Path(f"{load_config()['results_dir']}_{study.name}")


def parts_of_training() -> list[str]:
    """Return ``train-<method>`` of each method: what trains for longer than one sitting can be done in several."""
    return [f"train-{method}" for method in load_config()["train"]["methods"]]


def targets(stage: str, root: str) -> list[str]:
    """Return what Snakemake makes in a stage, or in a part of the training; each needs the stages before it."""
    method = stage.removeprefix("train-")
    if method != stage:
        return [
            f"{root}/train/{method}/seed-{seed}/model.safetensors" for seed in load_config()["train"]["seeds"]
        ]
    return {
        "data": ["preprocess_all"],
        "train": ["train_all"],
        "score": [f"{root}/score/slices.csv.gz"],
        # the bundle's card quotes the tables
        "evaluate": [f"{root}/evaluate/report.html", f"{root}/score/bundle/bundle.json"],
    }[stage]


def scans_to_test(study: Study) -> dict[str, Any]:
    """Return seed and numbers of a cohort's test scans: a freeze has all, a development cohort half of each."""
    chosen: dict[str, Any] = {"test_seed": study.seed}
    if study.commit is None:
        full = load_config()["phantom"]
        chosen["healthy_test"] = full["healthy_test"] // 2
        chosen["abnormal"] = {pathology: n // 2 for pathology, n in full["abnormal"].items()}
    return chosen


def command(stage: str, study: Study, cores: str) -> list[str]:
    """Return the Snakemake call of a stage; what differs between cohorts goes in by a config file of its own."""
    root = load_config()["results_dir"]
    overlay = Path(root) / "study.yaml"
    content = yaml.safe_dump({"phantom": scans_to_test(study)})
    if not overlay.is_file() or overlay.read_text("utf-8") != content:
        with atomic(overlay) as part:
            part.write_text(content, "utf-8")
    return [
        sys.executable, "-m", "snakemake", "--cores", cores, "--rerun-incomplete", "--keep-going",
        # the default scheduler took a tenth of a small machine
        "--scheduler", "greedy",
        "--quiet", "rules", "host", "reason", "--configfile", str(CONFIG), str(overlay), "--", *targets(stage, root),
    ]  # fmt: skip


def scored_by(study: Study) -> list[str]:
    """Return the commits whose code filled a freeze's folder, one after the other."""
    record = kept(study) / "scored_by.json"
    if record.is_file():
        return list(read_json(record))
    return ["not recorded"] if study.commit and kept(study).is_dir() else []


def scored_again(study: Study) -> str | None:
    """Return what a reader must know of a freeze that other code has scored before."""
    by = scored_by(study)
    return f"scored before by other code, so not unseen: {', '.join(by)}" if len(by) > 1 else None


def summary(study: Study, bars: list[Bar]) -> dict[str, Any]:
    """Return the content of ``results/detection.json``."""
    config = load_config()
    judged = [b for b in bars if b.holds is not None]
    return {
        "note": WARNING,
        "cohort": "freeze" if study.commit else "development",
        "commit": study.commit,
        "scored_again": scored_again(study),
        "seed": study.seed,
        "results": str(kept(study)),
        "methods": config["train"]["methods"],
        "seeds": config["train"]["seeds"],
        "fusion": config["score"]["fusion"],
        "held": sum(b.holds is True for b in judged),
        "judged": len(judged),
        "bars": [b.record() for b in bars],
    }


def keep(study: Study) -> None:
    """Copy the scores and tables of the cohort that was just evaluated to its own folder."""
    root = Path(load_config()["results_dir"])
    by = scored_by(study)
    if study.commit:
        code = git("log", "-1", "--format=%H", "--", *FROZEN_PATHS)[0]
        by = [*(commit for commit in by if commit != code), code]
    with atomic(kept(study)) as part:
        shutil.copytree(root / "evaluate", part / "evaluate")
        shutil.copytree(root / "score" / "bundle", part / "bundle")
        for name in ("slices.csv.gz", "volumes.csv"):
            shutil.copyfile(root / "score" / name, part / name)
        write_json(part / "scored_by.json", by)


def write_bars(study: Study) -> list[Bar]:
    """Read a cohort's kept tables and write the bars; what other cohorts reached stays in the file."""
    bars = measure(read_tables(kept(study) / "evaluate"))
    known = read_json(OUT) if OUT.is_file() else []
    others = [entry for entry in known if entry["results"] != str(kept(study))]
    write_json(OUT, [*others, summary(study, bars)])
    return bars


def show(study: Study, bars: list[Bar]) -> None:
    """Print the bars as a table of Markdown, ready for docs/detection.md."""
    print(
        f"{WARNING}. Seed {study.seed}, {kept(study)}.\n{scored_again(study) or ''}\n"
        "| bar | value | 95 % interval | limit | holds |\n|---|---|---|---|---|"
    )
    for b in bars:
        value = b.missing or "none" if b.value is None else f"{b.value:.3f}"
        bounds = "" if b.low is None or b.high is None else f"{b.low:.3f} to {b.high:.3f}"
        print(
            f"| {b.what} | {value} | {bounds} | {b.bar} | {({None: '', True: 'yes', False: 'no'})[b.holds]} |"
        )


def main(argv: list[str] | None = None) -> int:
    """Run a stage (``all``: every one) or one method's training, or print the seed, or write the bars."""
    cli = argparse.ArgumentParser(prog="python -m benchmarks.detection", description=__doc__)
    cli.add_argument("stage", choices=["seed", *STAGES, *parts_of_training(), "bars", "all"])
    cli.add_argument("--cores", default="all")
    cli.add_argument("--freeze", metavar="COMMIT", help="the commit whose hash is the seed")
    args = cli.parse_args(argv)
    study = choose(args.freeze)
    if args.stage == "seed":
        print(study.seed)
        return 0
    for stage in STAGES if args.stage == "all" else [args.stage] * (args.stage != "bars"):
        print(f"detection: {stage}, {study.name}, seed {study.seed}", flush=True)
        done = subprocess.run(command(stage, study, args.cores), check=False).returncode
        if done:
            return done
        if stage == "evaluate":
            keep(study)
    if args.stage in {"bars", "all", "evaluate"}:
        show(study, write_bars(study))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
