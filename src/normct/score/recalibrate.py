"""Make a frozen model a site's own: the same networks, with scales, thresholds and percentiles of its healthy scans.

Nothing is trained, and the parent bundle is not changed. Networks, atlas and statistical atlas are its files,
byte for byte; ``reference.npz``, ``calibration.json`` and ``healthy_slices.npz`` are new, and so is the model card.
"""

from __future__ import annotations

import argparse
import json
import logging
import re
from pathlib import Path

import numpy as np

from normct.common.bundle import verify_bundle, write_bundle
from normct.common.cli import parser, run
from normct.common.errors import NormctError
from normct.common.files import read_json, sha256
from normct.common.provenance import git_commit, versions
from normct.score.model_card import model_card

log = logging.getLogger(__name__)
RENEWED = ("calibration.json", "reference.npz", "healthy_slices.npz")
FEWEST = 2


def recalibrated_name(parent: str, site: str) -> str:
    """Return the new bundle's name: the parent's and the site's, in characters that a folder may have."""
    return f"{parent}-{re.sub('[^A-Za-z0-9_.-]+', '_', site).strip('_.-') or 'site'}"


def recalibrate(
    parent: Path, out: Path, *, calibration: Path, reference: Path, healthy_slices: Path, site: str
) -> str:
    """Write the new bundle and return its name.

    Parameters
    ----------
    parent : Path
        The frozen bundle.
    out : Path
        Folder of the new one.
    calibration, reference, healthy_slices : Path
        Of the site's healthy scans, made with the parent's networks.
    site : str
        Last part of the new name.

    Raises
    ------
    BundleError
        The parent is not whole.
    NormctError
        Too few scans were accepted: one scan has no other to be compared with.
    """
    manifest = verify_bundle(parent)
    made = read_json(calibration)
    if made["n_healthy"] < FEWEST or not made["calibrated"]["n_scans"]:
        raise NormctError(
            f"{made['n_healthy']} healthy scans passed quality control, from too few patients: recalibration needs "
            f"two or more, and about 20 to be worth having; see preprocess/quality.html for what was set aside"
        )
    name = recalibrated_name(manifest["name"], site)
    origin = {"name": manifest["name"], "checksum": sha256(parent / "bundle.json")}
    files = {n: parent / n for n in manifest["files"] if n not in (*RENEWED, "model_card.md")}
    files |= dict(zip(RENEWED, (calibration, reference, healthy_slices), strict=True))
    training = manifest["training"] | {"calibrate": made["n_healthy"]}
    with np.load(parent / "statistical_atlas.npz", allow_pickle=False) as content:
        about = json.loads(str(content["trained_on"]))
    described = training | {"methods": manifest["methods"], "seeds": manifest["seeds"], "trained_on": about}
    card = model_card(name, manifest["config"], described, made, parent=origin)
    found = versions()
    fields = {
        "name": name,
        "created_by": f"normct {found['normct']}",
        **{key: manifest[key] for key in ("config", "methods", "seeds")},
        "versions": found,
        "commit": git_commit(),
        "training": training,
        "parent": origin,
    }
    write_bundle(out, fields, files, {"model_card.md": card})
    return name


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    arguments: argparse.ArgumentParser = parser(__doc__, "normct.score.recalibrate")
    arguments.add_argument("parent", type=Path, help="folder of the frozen bundle")
    arguments.add_argument("out", type=Path, help="folder of the new bundle")
    arguments.add_argument(
        "--calibration", type=Path, required=True, help="calibration.json of the site's scans"
    )
    arguments.add_argument("--reference", type=Path, required=True, help="reference.npz of the site's scans")
    arguments.add_argument("--healthy-slices", type=Path, required=True, help="healthy_slices.npz of them")
    arguments.add_argument("--site", required=True, help="last part of the new bundle's name")
    args = arguments.parse_args(argv)
    name = recalibrate(
        args.parent,
        args.out,
        calibration=args.calibration,
        reference=args.reference,
        healthy_slices=args.healthy_slices,
        site=args.site,
    )
    warning = read_json(args.calibration)["warning"]
    if warning:
        log.warning("%s: %s", name, warning)
    log.info("%s", name)


if __name__ == "__main__":
    run(main)
