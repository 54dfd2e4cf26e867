"""Which rules run again when a key of the configuration changes: its stage and what follows, nothing else.

A row for every key of ``config.yaml``; what follows a rule is read from the workflow's own rule graph.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import yaml

from normct.common.config import flatten, load_schema

pytestmark = [pytest.mark.xdist_group("pipeline"), pytest.mark.timeout(1800)]

REPOSITORY = Path(__file__).resolve().parents[2]
DRY_RUNS = Path(__file__).with_name("dry_runs.py")
DEMO = yaml.safe_load((REPOSITORY / "config.yaml").read_text("utf-8"))

PHANTOM = {"phantom_subject", "phantom_participants", "cohort_participants"}
SCANS = {"phantom_subject", "phantom_participants"}
NETWORKS = {"train_stage1", "train_method"}
# they come with the key, so the demo's own rule graph has none of them
FOLDS = {"train_fold_pack", "train_fold_stage1", "train_fold_method", "score_fold_atlas"}
# they write down the settings of every stage before them
RECORDS = {"score_bundle", "evaluate_report", "handoff_index"}

UNUSED = ("denoising", "vae_variance", "vae_dropout", "aae", "vae_flow", "beta_tcvae")

# pattern of a key -> the first rules that it reaches; the first matching row counts
FIRST: list[tuple[str, set[str]]] = [
    ("results_dir", {*PHANTOM, "phantom_template", "preprocess_atlas"}),
    # the synthetic table names every split itself; which validation scans stop and which calibrate is drawn
    ("cohort.seed", {"cohort_participants", "train_pack", "score_thresholds", "score_calibrate"}),
    ("cohort.*", {"handoff_index"}),
    # other scans of the same people: the table of participants stays
    ("phantom.pose.*", SCANS),
    ("phantom.slice_thickness_mm", SCANS),
    ("phantom.noise_hu", SCANS),
    ("phantom.*", PHANTOM),
    ("preprocess.resample.*", {"preprocess_resample"}),
    ("preprocess.skullstrip.*", {"preprocess_skullstrip"}),
    ("preprocess.register.interpolation", {"preprocess_slices"}),
    # the first pass writes under another name then, and the second joins the chain
    (
        "preprocess.register.second_pass",
        {"preprocess_register", "preprocess_mean_brain", "preprocess_refine"},
    ),
    ("preprocess.register.atlas", {"preprocess_atlas"}),
    ("preprocess.register.*", {"preprocess_register"}),
    ("preprocess.slices.write_nifti", {"preprocess_nifti_slices", *RECORDS}),
    ("preprocess.slices.*", {"preprocess_slices"}),
    ("preprocess.quality.*", {"preprocess_quality"}),
    ("train.methods", {"score_infer"}),
    ("train.seeds", {"score_infer", *NETWORKS}),
    ("train.context_restoration.*", {"train_stage1"}),
    ("train.vae.*", {"train_method"}),
    ("train.multitask.*", {"train_method"}),
    ("train.vae_kl.*", {"train_method"}),
    ("train.cevae.*", {"train_method"}),
    # how fast a network is trained changes nothing of it
    ("train.threads", RECORDS),
    # methods that the demo does not train
    *((f"train.{method}.*", RECORDS) for method in UNUSED),
    ("train.*", NETWORKS),
    ("score.transforms", {"score_infer"}),
    ("score.accelerator", {"score_infer"}),
    ("score.statistical_atlas.*", {"score_atlas"}),
    ("score.bundle_name", RECORDS),
    # inference and z maps of the training scans alone; all scans meet the calibration that they widen
    (
        "score.cross_fit",
        {*FOLDS, "score_infer", "score_reference", "score_zmap", "score_thresholds", "score_calibrate"},
    ),
    ("score.fusion", {"score_zmap"}),
    ("score.calibrated.centre", {"score_zmap"}),
    ("score.calibrated.pool_share", {"score_calibrate"}),
    ("score.calibrated.position_mm", {"score_calibrate"}),
    ("score.calibrated.slice_smooth_mm", {"score_calibrate"}),
    ("score.calibrated.volume_share", {"score_calibrate"}),
    ("score.calibrated.*", {"score_reference", "score_zmap"}),
    ("score.lambda", {"score_calibrate"}),
    ("score.head.*", {"score_calibrate"}),
    ("score.voxel_fpr", {"score_thresholds"}),
    ("evaluate.slices", {"evaluate_detection", "evaluate_strata", "evaluate_ablation", "evaluate_figures"}),
    (
        "evaluate.specificities",
        {f"evaluate_{name}" for name in ["detection", "strata", "uncertainty", "plots"]},
    ),
    (
        "evaluate.*",
        {
            *{f"evaluate_{name}" for name in ["detection", "strata", "segmentation", "froc"]},
            *{f"evaluate_{name}" for name in ["confound", "ablation", "uncertainty", "figures"]},
        },
    ),
    ("handoff.method", {"handoff_patient", "handoff_index"}),
    ("handoff.title", {"preprocess_quality_page", "handoff_patient", "handoff_index", "evaluate_report"}),
    ("handoff.zip", {"handoff_index"}),
    ("handoff.*", {"handoff_patient"}),
]
METHODS = {"vae_kl", "cevae", "vae_pretrained", "multitask_pretrained"}
# pattern of a key -> the methods that it trains again beside stage 1; the first matching row counts
TRAINED: list[tuple[str, set[str]]] = [
    ("train.methods", set()),
    # stage 1's weights reach the pretrained ones; its epochs are a part of every other method's equal budget
    ("train.context_restoration.epochs", METHODS),
    ("train.context_restoration.*", {"vae_pretrained", "multitask_pretrained"}),
    ("train.vae.epochs", METHODS - {"multitask_pretrained"}),
    ("train.vae.*", {"vae_pretrained"}),
    ("train.multitask.*", {"multitask_pretrained"}),
    ("train.vae_kl.*", {"vae_kl"}),
    ("train.cevae.*", {"cevae"}),
    ("train.threads", set()),
    *((f"train.{method}.*", set()) for method in UNUSED),
    ("train.*", METHODS),
]
# what these reach is combination and evaluation, never a rule that reads maps
COMBINED = ("lambda", "head.combine", "head.anomaly", *(f"calibrated.{key}" for key in
            ("pool_share", "position_mm", "slice_smooth_mm", "volume_share")))  # fmt: skip
READ_MAPS = {"score_infer", "score_reference", "score_zmap", "score_thresholds", "evaluate_segmentation",
             "evaluate_froc"}  # fmt: skip
# a temp() file that has to be rebuilt for its only reader
REBUILT = {"preprocess_skullstrip": {"preprocess_resample"}}
VALUES: dict[str, Any] = {
    "score.calibrated.pool_share": 0.02,  # one of those that are pooled already
    "results_dir": "elsewhere",
    "handoff.method": "vae_kl",
    "cohort.pathologies": ["abscess"],
    # never opened: nothing is run
    "preprocess.register.atlas": {"image": "Snakefile", "mask": "config.yaml"},
}
# keys whose other value needs another key's
BESIDE: dict[str, dict[str, Any]] = {"handoff.score": {"handoff": {"score": "thesis", "method": "vae_kl"}}}
# not a value but another cohort
LEFT_OUT = {"cohort.participants"}


def other(key: str, value: Any) -> Any:
    """Another valid value for a key."""
    if key in VALUES:
        return VALUES[key]
    node = load_schema(REPOSITORY / "workflow" / "schemas")
    for part in key.split("."):
        node = node.get("properties", {}).get(part, node.get("additionalProperties") or {})
    options = [option for option in node.get("enum", []) if option != value]
    if options:
        return options[0]
    match value:
        case bool():
            return not value
        case int() if value >= 1:
            return value + 1
        case float() | int():
            return value * 0.9 or 1
        case None:
            return min(3, node.get("maximum", 3))
        case "auto":
            return 50
        case str():
            return f"{value}2"
        case [_, *_] if all(isinstance(v, str) for v in value):
            return value[1:]
        case [first, *rest]:
            return [first + (1 if isinstance(first, int) else -0.01), *rest]
    raise AssertionError(f"{key}: give it a value in VALUES")


def nested(key: str, value: Any) -> dict[str, Any]:
    """{"a": {"b": value}} of "a.b"."""
    for part in reversed(key.split(".")):
        value = {part: value}
    return value


def jobs_of(graph: str) -> set[str]:
    """Names of the rules that have a job to run, from Snakemake's graph of jobs: dashed is what is done."""
    jobs = re.findall(r'label = "(\w+).*style="([^"]+)"', graph)
    return {name for name, style in jobs if "dashed" not in style} - {"all"}


def methods_of(graph: str) -> set[str]:
    """Methods that have a training of stage 2 or a baseline to run; a key of training may reach some of them only."""
    jobs = re.findall(r'label = "train_method\\nmethod: (\w+).*style="([^"]+)"', graph)
    return {method for method, style in jobs if "dashed" not in style}


def rule_graph(checkout) -> dict[str, set[str]]:
    """Rule -> rules that read what it writes, from the workflow itself."""
    text = checkout.snakemake("--rulegraph", "--forceall").stdout
    names = dict(re.findall(r'(\d+)\[label = "(\w+)', text))
    graph: dict[str, set[str]] = {name: set() for name in names.values()}
    for above, below in re.findall(r"(\d+) -> (\d+)", text):
        graph[names[above]].add(names[below])
    return graph


def following(first: set[str], graph: dict[str, set[str]]) -> set[str]:
    """The rules themselves and everything after them."""
    todo, seen = list(first), set()
    while todo:
        name = todo.pop()
        if name not in seen:
            seen.add(name)
            todo += graph.get(name, set())
    return seen - {"all"}


def fault_of(key: str, jobs: set[str], graph: dict[str, set[str]]) -> str | None:
    """Say what is wrong with the jobs that a changed key brings about, or None."""
    first = next((rules for pattern, rules in FIRST if fnmatch(key, pattern)), None)
    if first is None:
        return f"{key}: no row says which rules it reaches"
    allowed = following(first, graph).union(*(REBUILT.get(rule, set()) for rule in first))
    missing, extra = first - jobs, jobs - allowed
    if missing or extra:
        return f"{key}: does not rerun {sorted(missing) or 'nothing'}, reruns too much: {sorted(extra) or 'nothing'}"
    return None


def fault_of_methods(key: str, methods: set[str], jobs: set[str], graph: dict[str, set[str]]) -> str | None:
    """Say which methods a changed key of training trains wrongly, or what of all that follows does not run."""
    wanted = next((methods for pattern, methods in TRAINED if fnmatch(key, pattern)), None)
    if wanted is None:
        return None
    missing, extra = wanted - methods, methods - wanted
    # one scan's inference holds every network: whatever is trained, all of it and what reads it follow
    left = following({"train_method"}, graph) - {"train_method"} - jobs if wanted else set()
    if missing or extra or left:
        return f"{key}: does not train {sorted(missing)}, trains too much: {sorted(extra)}, leaves {sorted(left)}"
    return None


def plan(checkout, folder: Path, changes: dict[str, dict[str, Any]]) -> dict[str, str]:
    """Return what Snakemake would do after each change: name -> graph of jobs, or its words where it refuses."""
    names = list(changes)
    for name in names:
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(changes[name]), "utf-8")
    subprocess.run(
        [sys.executable, str(DRY_RUNS), str(folder)],
        cwd=checkout.folder, check=True, capture_output=True, text=True,
        input="\n".join(str(folder / f"{name}.yaml") for name in names),
        env=os.environ | {"PYTHONPATH": str(checkout.folder / "src"), "PYTHONWARNINGS": "ignore"},
    )  # fmt: skip
    return {name: (folder / f"{number}.out").read_text("utf-8") for number, name in enumerate(names)}


def test_every_key_reruns_its_stage_and_what_follows(finished, tmp_path):
    """About 0.7 CPU seconds a key."""
    graph = rule_graph(finished)
    config = yaml.safe_load((finished.folder / "tiny.yaml").read_text("utf-8"))
    values = flatten(DEMO) | flatten(config)
    keys = [key for key in values if key not in LEFT_OUT]
    changes = {key: BESIDE.get(key) or nested(key, other(key, values[key])) for key in keys}
    plans = plan(finished, tmp_path, {"": {}} | changes)
    assert jobs_of(plans.pop("")) == set()  # nothing changed: nothing to do
    faults = []
    for key, text in plans.items():
        if "digraph" not in text:
            faults.append(f"{key}: {text[-500:]}")
        else:
            faults.append(fault_of(key, jobs_of(text), graph))
            faults.append(fault_of_methods(key, methods_of(text), jobs_of(text), graph))
    assert not any(faults), "\n".join(fault for fault in faults if fault)
    # scores reach the evaluation by way of the collected tables alone, and through them all of it
    assert {rule for rule in graph["score_combine"] if rule.startswith("evaluate_")} == {"evaluate_collect"}
    assert jobs_of(plans["score.lambda"]) >= following({"score_combine"}, graph)
    for key in COMBINED:
        assert not jobs_of(plans[f"score.{key}"]) & READ_MAPS, key
    assert jobs_of(plans["score.voxel_fpr"]) >= {"evaluate_segmentation", "evaluate_froc", "score_calibrate"}


def test_the_table_finds_a_key_that_reruns_nothing_or_too_much():
    graph = {"score_calibrate": {"score_combine"}, "score_combine": {"score_export"}, "score_export": set()}
    right = {"score_calibrate", "score_combine", "score_export"}
    assert fault_of("score.lambda", right, graph) is None
    assert "does not rerun ['score_calibrate']" in str(fault_of("score.lambda", set(), graph))
    assert "too much: ['train_method']" in str(fault_of("score.lambda", right | {"train_method"}, graph))
    assert "no row" in str(fault_of("unheard.of", set(), graph))


def test_the_table_tells_methods_apart():
    graph = {"train_method": {"score_infer"}, "score_infer": {"score_export"}, "score_export": set()}
    key, jobs = "train.multitask.epochs", {"train_method", "score_infer", "score_export"}
    node = '1[label = "train_method\\nmethod: {}", color = "0.1 0.6 0.85", style="{}"];'
    text = node.format("multitask_pretrained", "rounded") + "\n" + node.format("vae_kl", "rounded,dashed")
    assert methods_of(text) == {"multitask_pretrained"}
    assert fault_of_methods(key, methods_of(text), jobs, graph) is None
    assert "too much: ['vae_kl']" in str(
        fault_of_methods(key, {"multitask_pretrained", "vae_kl"}, jobs, graph)
    )
    assert "not train ['multitask_pretrained']" in str(fault_of_methods(key, set(), jobs, graph))
    assert "leaves ['score_infer']" in str(
        fault_of_methods(key, {"multitask_pretrained"}, jobs - {"score_infer"}, graph)
    )
    assert fault_of_methods("score.lambda", set(), set(), graph) is None


def test_more_scans_leave_the_old_ones_alone(finished, tmp_path):
    """Two more test scans: only they are preprocessed; nothing is trained."""
    more = tmp_path / "more.yaml"
    more.write_text("phantom: {healthy_test: 3}\n", "utf-8")
    done = finished.snakemake("--dry-run", "--nolock", extra=str(more))
    table = done.stdout.partition("Job stats:")[2].partition("total")[0]
    counts = {m[1]: int(m[2]) for m in re.finditer(r"^(\w+) +(\d+)$", table, re.MULTILINE)}
    for rule in (
        "phantom_subject",
        "cohort_import",
        "preprocess_skullstrip",
        "preprocess_slices",
        "score_infer",
    ):
        assert counts[rule] == 2, rule
    assert not [rule for rule in counts if rule.startswith("train_")]
    assert not {"score_thresholds", "score_calibrate"} & set(counts)
    assert counts["handoff_patient"] == 2
