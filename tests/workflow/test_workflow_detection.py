"""The detection study: who is in its cohort, whether its DAG builds, and what a freeze refuses."""

from __future__ import annotations

import copy
import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import yaml
from benchmarks import detection
from snakemake.utils import update_config

from normct.cohort.table import participants_from_rows
from normct.common.config import validate_config
from normct.phantom.plan import plan_rows
from workflow.detection_case import tables

REPOSITORY = Path(__file__).resolve().parents[2]


def test_cohort_is_the_size_the_bars_ask_for(config):
    validate_config(config, REPOSITORY / "workflow" / "schemas")
    people = participants_from_rows(plan_rows(config["phantom"], "out"), config["cohort"])
    roles = Counter(p.role for p in people if p.group == "healthy")
    assert roles["train"] + roles["stop"] + roles["calibrate"] >= 60
    assert roles["calibrate"] >= 20
    assert roles["test"] >= 40
    abnormal = [p for p in people if p.group == "abnormal"]
    assert {p.role for p in abnormal} == {"test"}
    found = Counter(p.pathology for p in abnormal)
    assert set(found) == {"aneurysm", "atrophy", "bleed", "cavernoma", "icb", "ischemia", "tumor"}
    assert min(found.values()) >= 10
    assert sum(p.subtype == "subdural" for p in abnormal) >= 10
    assert len(config["train"]["seeds"]) == 3
    assert config["results_dir"] != "results"
    assert {"vae_kl", "cevae", "denoising"} <= set(config["train"]["methods"])


def test_rivals_get_at_least_our_methods_gradient_steps(config):
    train = config["train"]
    ours = [train[m]["epochs"] for m in train["methods"] if m not in {"vae_kl", "cevae"}]
    assert min(train["vae_kl"]["epochs"], train["cevae"]["epochs"]) >= max(ours)


@pytest.mark.parametrize("name", ["cq500", "ctich"])
def test_public_sets_get_the_same_methods_and_evaluation(config, name):
    public = yaml.safe_load((REPOSITORY / "configs" / f"{name}.yaml").read_text("utf-8"))
    merged = copy.deepcopy(config)
    update_config(merged, public)
    validate_config(merged, REPOSITORY / "workflow" / "schemas")
    assert {key for key in config if merged[key] != config[key]} == {"results_dir", "cohort", "handoff"}
    assert merged["cohort"]["participants"] == f"{name}/participants.tsv"
    assert merged["results_dir"] not in {"results", config["results_dir"]}


def test_dag_of_every_stage_builds(fresh):
    """The stage's own command line, dry, in a copy; the score stage needs every other's rules."""
    (fresh.folder / "configs").mkdir()
    (fresh.folder / "configs" / "detection.yaml").write_bytes(
        (REPOSITORY / "configs/detection.yaml").read_bytes()
    )
    (fresh.folder / "seed.yaml").write_text("phantom: {test_seed: 99}\n")
    wanted = [t for stage in detection.STAGES for t in detection.targets(stage, "results_detection")]
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", "--cores", "2", "--dry-run", "-p",
         "--configfile", "configs/detection.yaml", "seed.yaml", "--", *wanted],
        cwd=fresh.folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    made = re.findall(r"subject (sub-\w+) .*'{\"age_years.*\"seed\": (\d+)", done.stdout)
    assert len(made) == 208
    for subject, seed in made:
        learnt = subject.startswith(("sub-healthytrain", "sub-healthyval"))
        assert seed == ("5005" if learnt else "99"), subject
    stats = done.stdout.partition("Job stats:")[2]
    counts = {
        line.split()[0]: int(line.split()[1])
        for line in stats.splitlines()
        if len(line.split()) == 2 and line.split()[1].isdigit()
    }
    assert counts["phantom_subject"] == counts["preprocess_slices"] == 208
    assert counts["train_method"] == 9
    assert not [rule for rule in counts if rule.startswith("handoff")]
    parts = [
        t for part in detection.parts_of_training() for t in detection.targets(part, "results_detection")
    ]
    assert len(parts) == 9
    assert all(path in done.stdout for path in parts)


def test_a_freezes_seed_is_its_commits_hash(config, monkeypatch):
    assert detection.seed_of("ffffffff" + "0" * 32) == 2**31 - 1
    assert detection.seed_of("00000002" + "f" * 32) == 1
    with pytest.raises(ValueError, match="full commit"):
        detection.seed_of("abc1234")
    monkeypatch.delenv("DETECTION_SEED", raising=False)
    assert detection.choose(None) == detection.Study(config["phantom"]["seed"], "development")
    monkeypatch.setenv("DETECTION_SEED", "7")
    assert detection.choose(None) == detection.Study(7, "development_7")


def in_git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
    command = ["git", *identity, *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def frozen(tmp_path, monkeypatch) -> Path:
    """A repository with a commit of everything that a freeze freezes; we are in it."""
    folder = tmp_path / "repository"
    for name in ("config.yaml", "configs/detection.yaml", "benchmarks/detection.py", "constraints.txt"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes((REPOSITORY / name).read_bytes())
    for name in ("src/normct/score/scores.py", "benchmarks/bench_store.py", "docs/detection.md"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("one\n")
    (folder / ".gitignore").write_text("__pycache__/\nresults*\n")
    in_git(folder, "init", "-q")
    in_git(folder, "add", ".")
    in_git(folder, "commit", "-q", "-m", "freeze")
    monkeypatch.chdir(folder)
    monkeypatch.delenv("DETECTION_SEED", raising=False)
    return folder


def test_a_freeze_of_the_code_at_hand_is_taken(frozen):
    commit = in_git(frozen, "rev-parse", "HEAD")
    wanted = detection.Study(detection.seed_of(commit), f"freeze_{commit[:12]}", commit)
    assert detection.choose("HEAD") == wanted
    # neither text nor what is made from code is code
    (frozen / "docs" / "detection.md").write_text("two\n")
    (frozen / "benchmarks" / "bench_store.py").write_text("two\n")
    cache = frozen / "src" / "normct" / "__pycache__"
    cache.mkdir()
    (cache / "scores.pyc").write_bytes(b"")
    assert detection.choose(commit) == wanted


@pytest.mark.parametrize(
    "name",
    [
        "src/normct/score/scores.py",
        "src/normct/score/never_added.py",
        "workflow/rules/new.smk",
        "configs/detection.yaml",
        "benchmarks/detection.py",
        "benchmarks/detection_bars.py",
    ],
)
@pytest.mark.parametrize("staged", [False, True])
def test_a_freeze_of_other_code_is_refused(frozen, name, staged):
    path = frozen / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text((path.read_text("utf-8") if path.is_file() else "") + "# two\n")
    if staged:
        in_git(frozen, "add", ".")
    with pytest.raises(SystemExit, match=f"these differ: {re.escape(name)}$"):
        detection.choose("HEAD")


def test_a_freeze_of_an_earlier_commit_is_refused_once_code_moved_on(frozen):
    commit = in_git(frozen, "rev-parse", "HEAD")
    (frozen / "src" / "normct" / "score" / "scores.py").write_text("two\n")
    in_git(frozen, "commit", "-q", "-a", "-m", "next")
    with pytest.raises(SystemExit, match=r"scores\.py$"):
        detection.choose(commit)


def test_a_freeze_takes_no_other_seed(frozen, monkeypatch):
    monkeypatch.setenv("DETECTION_SEED", "7")
    with pytest.raises(SystemExit, match="exclude each other"):
        detection.choose("HEAD")


def test_a_freeze_that_other_code_scored_before_says_so(frozen, capsys):
    root = frozen / "results_detection"
    for folder in ("evaluate", "score/bundle"):
        (root / folder).mkdir(parents=True)
    tables(root / "evaluate")
    for scores in ("slices.csv.gz", "volumes.csv"):
        (root / "score" / scores).write_text("", "utf-8")

    def again(study: detection.Study) -> str | None:
        detection.keep(study)
        detection.show(study, detection.write_bars(study))
        entry = json.loads(detection.OUT.read_text("utf-8"))[-1]
        assert ("scored before" in capsys.readouterr().out) == bool(entry["scored_again"])
        return entry["scored_again"]

    study = detection.choose("HEAD")
    first = in_git(frozen, "rev-parse", "HEAD")
    detection.OUT.parent.mkdir()
    assert again(study) is None
    (frozen / "docs" / "detection.md").write_text("two\n")
    in_git(frozen, "commit", "-q", "-a", "-m", "text alone")
    assert again(study) is None  # the same code once more
    (frozen / "src" / "normct" / "score" / "scores.py").write_text("two\n")
    in_git(frozen, "commit", "-q", "-a", "-m", "code")
    said = again(study)
    assert first in said
    assert in_git(frozen, "rev-parse", "HEAD") in said
    (detection.kept(study) / "scored_by.json").unlink()
    assert "not recorded" in again(study)  # a folder from before commits were kept
    assert again(detection.Study(5005, "development")) is again(detection.Study(5005, "development")) is None


def test_development_cohort_has_half_the_test_scans(config):
    freeze = detection.scans_to_test(detection.Study(3, "freeze_0", "0" * 40))
    assert freeze == {"test_seed": 3}
    half = detection.scans_to_test(detection.Study(3, "development"))
    assert half["healthy_test"] * 2 == config["phantom"]["healthy_test"]
    assert {p: 2 * n for p, n in half["abnormal"].items()} == config["phantom"]["abnormal"]
    update_config(config, {"phantom": half})
    validate_config(config, REPOSITORY / "workflow" / "schemas")
