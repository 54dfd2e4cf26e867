"""Freeze what inference needs into a model bundle, with a model card."""

from __future__ import annotations

import json
import logging
import re
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from normct.common.bundle import SECTIONS, bundle_paths, write_bundle
from normct.common.cli import parser, run
from normct.common.files import read_json
from normct.common.registry import METHODS

log = logging.getLogger(__name__)
LIBRARIES = ("normct", "torch", "numpy", "scipy", "antspyx", "nibabel", "nipype", "safetensors")


def versions() -> dict[str, str]:
    """Return the versions of the libraries that decide what inference computes."""
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def git_commit() -> str | None:
    """Return the commit of this code, ``-dirty`` when it was changed since; None outside a checkout."""
    here = Path(__file__)
    git = ["git", "-C", str(here.parent)]
    try:
        # an installed copy may lie inside somebody else's repository
        subprocess.run(
            [*git, "ls-files", "--error-unmatch", here.name], capture_output=True, check=True, timeout=20
        )
        describe = [*git, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
        done = subprocess.run(describe, capture_output=True, text=True, check=True, timeout=60)
    except (OSError, subprocess.SubprocessError):
        return None
    commit = done.stdout.strip()
    return commit if re.fullmatch("[0-9a-f]{40,64}(-dirty)?", commit) else None


def frozen_config(config: dict[str, Any]) -> dict[str, Any]:
    """Return the sections a bundle keeps; a user's own atlas goes in as a file, so its path stays behind."""
    sections = json.loads(json.dumps({name: config[name] for name in SECTIONS}))
    sections["preprocess"].get("register", {})["atlas"] = None
    return sections


def model_card(
    name: str, config: dict[str, Any], training: dict[str, Any], calibration: dict[str, Any]
) -> str:
    """Return the model card in Markdown."""
    methods = [METHODS[m] for m in training["methods"]]
    seeds = ", ".join(map(str, training["seeds"]))
    data = (
        "a **synthetic** cohort (generated phantoms, no patients)"
        if training["synthetic"]
        else "head CT of one cohort"
    )
    score, head, n = config["score"], config["score"]["head"], calibration["n_healthy"]
    warning, engine = calibration["warning"], config["preprocess"]["skullstrip"]["engine"]
    lines = [
        f"# Model card: {name}",
        "",
        "**Research use only.** Not a medical device; not for diagnosis, triage or treatment.",
        "",
        "## What it is",
        "Networks that learnt healthy head CT and score what departs from it "
        "(Venkatakrishnan 2020, arXiv 2011.05428), with the atlas, scales and thresholds that go with them.",
        "",
        "| method | seeds | source |",
        "|---|---|---|",
        *(f"| {m.label} (`{m.name}`) | {seeds} | {m.citation} |" for m in methods),
        "",
        f"Score: λ = {score['lambda']}, transforms: {score['transforms']}, head: {head['combine']} of its "
        f"three probabilities, {head['anomaly']}. Skull stripping: {engine}.",
        "",
        "## Training data",
        f"Trained on {data}. No abnormal scan was used.",
        "",
        "| healthy scans | number |",
        "|---|---|",
        f"| training | {training['scans']} ({training['slices']} usable slices) |",
        f"| deciding when training stopped | {training['stop']} |",
        f"| setting scales, thresholds and percentiles | {n} |",
        "",
        "## Intended use",
        "Ranking unenhanced head CT of adults for research, where each result is looked at by a radiologist.",
        "",
        "## Limits",
        *(["- The networks have seen no patient: figures show working machinery, nothing of disease."]
          if training["synthetic"] else []),
        *([f"- {warning[0].upper()}{warning[1:]}."] if warning else []),
        f"- A percentile is a rank among {n} healthy scans and no finer than that.",
        "- A scanner, slice thickness, reconstruction kernel or age group that training lacked can look "
        "abnormal; compare with the `acquisition` baseline before believing a difference.",
        "- A score that is not high does not exclude disease: small, skull-base, subarachnoid and thin "
        "subdural findings are easily missed.",
        "- Children, contrast-enhanced scans, and scans after surgery were not provided for.",
        "",
    ]  # fmt: skip
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    arguments = parser(__doc__, "normct.score.bundle")
    arguments.add_argument("out", type=Path, help="folder of the bundle")
    arguments.add_argument(
        "--network", nargs=3, action="append", required=True, metavar=("METHOD", "SEED", "WEIGHTS")
    )
    arguments.add_argument("--atlas", type=Path, required=True)
    arguments.add_argument("--atlas-mask", type=Path, required=True)
    arguments.add_argument(
        "--mean-brain",
        type=Path,
        nargs=2,
        metavar=("IMAGE", "MASK"),
        help="target of the second pass, if it is on",
    )
    arguments.add_argument("--statistical-atlas", type=Path, required=True)
    arguments.add_argument("--calibration", type=Path, required=True)
    arguments.add_argument("--reference", type=Path, required=True)
    arguments.add_argument(
        "--settings", type=json.loads, required=True, help="config sections, synthetic, stop (scans)"
    )
    args = arguments.parse_args(argv)
    config = frozen_config(args.settings["config"])
    name = config["score"]["bundle_name"]
    methods = list(dict.fromkeys(method for method, _, _ in args.network))
    seeds = list(dict.fromkeys(int(seed) for _, seed, _ in args.network))
    calibration = read_json(args.calibration)
    with np.load(args.statistical_atlas, allow_pickle=False) as content:
        counts = {key: int(content[key]) for key in ("scans", "slices")}
    training = counts | {"stop": args.settings["stop"], "calibrate": calibration["n_healthy"],
                         "synthetic": args.settings["synthetic"]}  # fmt: skip
    inside, root = bundle_paths("."), Path()
    files = {
        str(inside.atlas.relative_to(root)): args.atlas,
        str(inside.atlas_mask.relative_to(root)): args.atlas_mask,
        str(inside.statistical_atlas.relative_to(root)): args.statistical_atlas,
        str(inside.calibration.relative_to(root)): args.calibration,
        str(inside.reference.relative_to(root)): args.reference,
    }
    if args.mean_brain:
        places = (inside.mean_brain, inside.mean_brain_mask)
        files |= {str(p.relative_to(root)): f for p, f in zip(places, args.mean_brain, strict=True)}
    files |= {
        str(inside.weights(method, seed).relative_to(root)): Path(path) for method, seed, path in args.network
    }
    found = versions()
    fields = {
        "name": name,
        "created_by": f"normct {found['normct']}",
        "config": config,
        "methods": methods,
        "seeds": seeds,
        "versions": found,
        "commit": git_commit(),
        "training": training,
    }
    card = model_card(name, config, training | {"methods": methods, "seeds": seeds}, calibration)
    write_bundle(args.out, fields, files, {"model_card.md": card})
    log.info("bundle of %d networks, %d files", len(args.network), len(files) + 1)


if __name__ == "__main__":
    run(main)
