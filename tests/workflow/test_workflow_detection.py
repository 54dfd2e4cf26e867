"""The detection study: who is in its cohort, whether its DAG builds, and whether its bars say what tables say."""

from __future__ import annotations

import copy
import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest
import yaml
from benchmarks import detection
from benchmarks.detection_bars import Bar, measure, read_tables
from snakemake.utils import update_config

from normct.cohort.table import participants_from_rows
from normct.common.config import validate_config
from normct.phantom.plan import plan_rows

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def config(monkeypatch) -> dict:
    monkeypatch.chdir(REPOSITORY)
    return detection.load_config()


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


def tables(folder: Path, **changes: float) -> Path:
    """Write evaluation tables in which every bar is just kept; ``changes`` replaces values by name."""
    v = {
        "gain": 0.13,
        "low": 0.01,
        "aupr": 0.25,
        "vae_kl_gain": 0.3,
        "atlas": 0.03,
        "volume": 0.9,
        "r2": 0.04,
        "scanner": 0.69,
    } | changes
    key = {"members": "single", "note": ""}
    fused = {"method": "fused", "score": "fused", **key}
    paired = [
        {**fused, "protocol": p, "against": a, "auroc_difference": d, "auroc_low": v["low"], "auroc_high": d + 0.1,
         "aupr_gain_difference": v["aupr"], "aupr_gain_low": 0.1, "aupr_gain_high": 0.3, "rival": "cevae"}
        for p, a, d in (("slice_healthy", "published", v["gain"]), ("slice_healthy", "atlas_calibrated", v["atlas"]),
                        ("volume", "published", 0.1), ("slice", "published", 0.5))
    ]  # fmt: skip
    paired += [
        paired[0] | {"method": m, "score": "calibrated", "against": "published_calibrated"}
        for m in ("denoising", "vae_kl")
    ]
    summary = [
        {**fused, "protocol": "slice_healthy", "auroc_mean": 0.9, "auroc_low": 0.8, "auroc_high": 0.95, "prevalence": 0.2},
        {**fused, "protocol": "volume", "auroc_mean": v["volume"], "auroc_low": 0.8, "auroc_high": 0.95, "prevalence": 0.6},
    ]  # fmt: skip
    summary += [
        summary[0] | {"method": m, "score": "calibrated", "auroc_mean": a}
        for m, a in (("denoising", 0.8), ("vae_kl", 0.9), ("vae_variance", 0.7))
    ]
    summary[0]["aupr_gain_mean"] = 0.4 + v["aupr"]
    summary += [
        {
            "method": m,
            "score": "thesis",
            "members": "single",
            "protocol": "slice_healthy",
            "aupr_gain_mean": g,
        }
        for m, g in (("vae_kl", v["vae_kl_gain"]), ("cevae", 0.4))
    ]
    auroc = {"auroc_mean": 0.86, "auroc_low": 0.8, "auroc_high": 0.9, **fused}
    confound = [
        {
            "check": c,
            "method": m,
            "score": s,
            "value": v["r2"],
            "value_low": -0.1,
            "value_high": 0.4,
            "detail": "",
        }
        for c in ("position_r2", "area_r2")
        for m, s in (("fused", "fused"), ("vae_kl", "thesis"))
    ]
    confound += [
        {"check": c, "method": m, "score": k, "value": x, "value_low": 0.5, "value_high": 0.8, "detail": "A"}
        for c in ("scanner", "slice_thickness")
        for m, k, x in (
            ("fused", "fused", v["scanner"]),
            ("vae_kl", "thesis", 0.9),
            ("denoising", "calibrated", 0.4),
            ("acquisition", "trivial", 1.0),
        )
    ]
    strata = [
        auroc | {"kind": "subtype", "stratum": "bleed: subdural", "protocol": p}
        for p in ("slice_healthy", "volume")
    ]
    strata += [
        auroc | {"kind": "pathology", "stratum": p, "protocol": "volume"} for p in ("ischemia", "cavernoma")
    ]
    content = {
        "detection_paired": paired,
        "detection_summary": summary,
        "pathology": [auroc | {"pathology": p} for p in ("ischemia", "cavernoma")],
        "strata": strata,
        "confound": confound,
    }
    for name, rows in content.items():
        pd.DataFrame(rows).to_csv(folder / f"{name}.csv", index=False)
    return folder


def test_bars_hold_where_every_limit_is_kept(tmp_path):
    bars = measure(read_tables(tables(tmp_path)))
    assert {b.name: b.missing for b in bars if b.missing} == {}
    assert {b.name for b in bars if b.holds is False} == set()
    by_name = {b.name: b for b in bars}
    assert (by_name["fused_aupr_gain"].value, by_name["fused_aupr_gain"].low) == (0.25, 0.1)
    assert "denoising" in by_name["network_over_published"].what  # vae_kl is better, and a rival
    assert by_name["position_r2_vae_kl"].holds is None
    assert all(bar.low is not None and bar.high is not None for bar in by_name.values())
    assert (by_name["no_scanner"].value, by_name["no_scanner_thesis"].value) == (0.69, 0.9)
    assert by_name["no_scanner_thesis"].holds is None


@pytest.mark.parametrize(
    ("change", "missed"),
    [
        ({"gain": 0.119}, {"fused_over_published"}),
        ({"low": 0.0}, {"fused_over_published", "network_over_published", "fused_over_atlas"}),
        ({"aupr": 0.249}, {"fused_aupr_gain"}),
        ({"vae_kl_gain": 0.401}, {"fused_aupr_gain"}),
        ({"atlas": 0.029}, {"fused_over_atlas"}),
        ({"volume": 0.899}, {"fused_volume"}),
        ({"r2": 0.051}, {"position_r2_fused", "area_r2_fused"}),
        ({"scanner": 0.71}, {"no_scanner", "no_slice_thickness"}),
    ],
)
def test_a_missed_limit_is_said(tmp_path, change, missed):
    bars = measure(read_tables(tables(tmp_path, **change)))
    assert {b.name for b in bars if b.holds is False} == missed


def test_the_rival_in_aupr_is_the_better_in_aupr(tmp_path):
    """The table's pair is with the better in AUROC: with another one the interval is not known."""
    bars = {b.name: b for b in measure(read_tables(tables(tmp_path, vae_kl_gain=0.41)))}
    bar = bars["fused_aupr_gain"]
    assert bar.value == pytest.approx(0.65 - 0.41)
    assert (bar.low, bar.high, bar.missing) == (None, None, "")
    assert "vae_kl" in bar.what


def test_what_was_not_made_does_not_hold(tmp_path, monkeypatch):
    (tables(tmp_path) / "confound.csv").unlink()
    bars = measure(read_tables(tmp_path))
    lost = {b.name for b in bars if b.holds is False}
    assert lost == {"position_r2_fused", "area_r2_fused", "no_scanner", "no_slice_thickness"}
    assert all(b.missing == "confound.csv was not made" for b in bars if b.name in lost)
    assert not any(b.holds for b in measure({}))
    assert Bar("a", "b", 0.5, low_above=0.0).holds is False  # no interval, no claim


def test_bars_are_written_beside_those_of_other_cohorts(config, tmp_path, monkeypatch):
    """The next cohort takes over the results folder: what the one before reached stays."""
    root = tmp_path / "results"
    monkeypatch.setattr(detection, "load_config", lambda: config | {"results_dir": str(root)})
    monkeypatch.setattr(detection, "OUT", tmp_path / "detection.json")
    (root / "evaluate").mkdir(parents=True)
    (root / "score" / "bundle").mkdir(parents=True)
    tables(root / "evaluate")
    for name, seed in (("one", 1), ("two", 2), ("one", 1)):
        for scores in ("slices.csv.gz", "volumes.csv"):
            (root / "score" / scores).write_text(str(seed), "utf-8")
        study = detection.Study(seed, name)
        detection.keep(study)
        detection.write_bars(study)
    assert (tmp_path / "results_one" / "volumes.csv").read_text("utf-8") == "1"
    assert (tmp_path / "results_two" / "volumes.csv").read_text("utf-8") == "2"
    written = json.loads((tmp_path / "detection.json").read_text("utf-8"))
    assert sorted(entry["seed"] for entry in written) == [1, 2]
    assert all(entry["held"] == entry["judged"] > 10 for entry in written)
    assert all("may differ on patients" in entry["note"] for entry in written)
