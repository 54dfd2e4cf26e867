"""Freeze what inference needs into a model bundle, with a model card."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np

from normct.common.bundle import SECTIONS, bundle_paths, write_bundle
from normct.common.cli import parser, run
from normct.common.files import read_json
from normct.common.provenance import git_commit, versions
from normct.score.model_card import model_card

log = logging.getLogger(__name__)


def frozen_config(config: dict[str, Any]) -> dict[str, Any]:
    """Return the sections a bundle keeps; a user's own atlas goes in as a file, so its path stays behind."""
    sections = json.loads(json.dumps({name: config[name] for name in SECTIONS}))
    sections["preprocess"].get("register", {})["atlas"] = None
    return sections


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
    arguments.add_argument("--healthy-slices", type=Path, required=True)
    arguments.add_argument("--evaluation", type=Path, help="folder of the evaluation's tables, for the card")
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
        about = json.loads(str(content["trained_on"]))
    training = counts | {"stop": args.settings["stop"], "calibrate": calibration["n_healthy"],
                         "synthetic": args.settings["synthetic"]}  # fmt: skip
    inside, root = bundle_paths("."), Path()
    files = {
        str(inside.atlas.relative_to(root)): args.atlas,
        str(inside.atlas_mask.relative_to(root)): args.atlas_mask,
        str(inside.statistical_atlas.relative_to(root)): args.statistical_atlas,
        str(inside.calibration.relative_to(root)): args.calibration,
        str(inside.reference.relative_to(root)): args.reference,
        str(inside.healthy_slices.relative_to(root)): args.healthy_slices,
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
    described = training | {"methods": methods, "seeds": seeds, "trained_on": about}
    card = model_card(name, config, described, calibration, args.evaluation)
    write_bundle(args.out, fields, files, {"model_card.md": card})
    log.info("bundle of %d networks, %d files", len(args.network), len(files) + 1)


if __name__ == "__main__":
    run(main)
