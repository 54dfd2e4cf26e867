"""Which rules run again when a key of the configuration changes: its stage and what follows, nothing else.

A row for every key of ``config.yaml``; what follows a rule is read from the workflow's own rule graph.
"""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import yaml

from normct.common.config import flatten, load_schema

pytestmark = [pytest.mark.xdist_group("pipeline"), pytest.mark.timeout(1800)]

REPOSITORY = Path(__file__).resolve().parents[2]
DEMO = yaml.safe_load((REPOSITORY / "config.yaml").read_text("utf-8"))

PHANTOM = {"phantom_subject", "phantom_participants", "cohort_participants"}
NETWORKS = {"train_stage1", "train_method"}
# they write down the settings of every stage before them
RECORDS = {"score_bundle", "evaluate_report", "handoff_index"}

# pattern of a key -> the first rules that it reaches; the first matching row counts
FIRST: list[tuple[str, set[str]]] = [
    ("results_dir", {*PHANTOM, "preprocess_atlas"}),
    # the synthetic table names every split itself; which validation scans stop and which calibrate is drawn
    ("cohort.seed", {"cohort_participants", "train_pack", "score_calibrate"}),
    ("cohort.*", {"handoff_index"}),
    ("phantom.bleed_subtypes", PHANTOM),
    ("phantom.*", PHANTOM),
    ("preprocess.resample.*", {"preprocess_resample"}),
    ("preprocess.skullstrip.*", {"preprocess_skullstrip"}),
    ("preprocess.register.interpolation", {"preprocess_slices"}),
    ("preprocess.register.second_pass", {"preprocess_mean_brain", "preprocess_refine"}),
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
    ("train.*", NETWORKS),
    ("score.transforms", {"score_infer"}),
    ("score.statistical_atlas.*", {"score_atlas"}),
    ("score.bundle_name", RECORDS),
    ("score.fusion", {"score_zmap"}),
    ("score.calibrated.centre", {"score_zmap"}),
    ("score.calibrated.pool_share", {"score_zmap"}),
    ("score.calibrated.position_mm", {"score_calibrate"}),
    ("score.calibrated.slice_smooth_mm", {"score_calibrate"}),
    ("score.calibrated.volume_share", {"score_calibrate"}),
    ("score.calibrated.*", {"score_reference", "score_zmap"}),
    ("score.*", {"score_calibrate"}),
    ("evaluate.slices", {"evaluate_detection", "evaluate_strata", "evaluate_ablation", "evaluate_figures"}),
    ("evaluate.specificities", {"evaluate_detection", "evaluate_strata", "evaluate_uncertainty"}),
    (
        "evaluate.*",
        {
            f"evaluate_{name}"
            for name in ["detection", "strata", "froc", "confound", "ablation", "uncertainty"]
        },
    ),
    ("handoff.method", {"handoff_patient", "handoff_index"}),
    ("handoff.title", {"preprocess_quality_page", "handoff_patient", "handoff_index", "evaluate_report"}),
    ("handoff.*", {"handoff_patient"}),
]
# a temp() file that has to be rebuilt for its only reader
REBUILT = {"preprocess_skullstrip": {"preprocess_resample"}}
VALUES: dict[str, Any] = {
    "results_dir": "elsewhere",
    "handoff.method": "vae_kl",
    "cohort.pathologies": ["abscess"],
}
# not a value but a cohort, a program or a file of one's own
LEFT_OUT = {"cohort.participants", "preprocess.skullstrip.engine", "preprocess.register.atlas"}


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


def jobs_of(text: str) -> set[str]:
    """Names of the rules in Snakemake's job statistics."""
    table = text.partition("Job stats:")[2].partition("total")[0]
    return {m[1] for m in re.finditer(r"^(\w+) +\d+$", table, re.MULTILINE)} - {"all"}


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


@pytest.mark.study
def test_every_key_reruns_its_stage_and_what_follows(finished, tmp_path):
    graph = rule_graph(finished)
    config = yaml.safe_load((finished.folder / "tiny.yaml").read_text("utf-8"))
    values = flatten(DEMO) | flatten(config)

    def check(key: str) -> str | None:
        first = next((rules for pattern, rules in FIRST if fnmatch(key, pattern)), None)
        if first is None:
            return f"{key}: no row says which rules it reaches"
        edited = tmp_path / f"{key}.yaml"
        edited.write_text(yaml.safe_dump(nested(key, other(key, values[key]))), "utf-8")
        done = finished.snakemake("--dry-run", "--nolock", extra=str(edited), check=False)
        if done.returncode:
            return f"{key}: {done.stderr[-500:]}"
        jobs = jobs_of(done.stdout)
        expected = following(first, graph)
        allowed = expected.union(*(REBUILT.get(rule, set()) for rule in first))
        missing, extra = first - jobs, jobs - allowed
        if missing or extra:
            return f"{key}: does not rerun {sorted(missing) or 'nothing'}, reruns too much: {sorted(extra) or 'nothing'}"
        return None

    keys = [key for key in values if key not in LEFT_OUT]
    with ThreadPoolExecutor(2) as pool:
        faults = [fault for fault in pool.map(check, keys) if fault]
    assert not faults, "\n".join(faults)


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
    assert "score_calibrate" not in counts
    assert counts["handoff_patient"] == 2
