"""The worklist and what goes with it: tables, guide, provenance, status, checksums.

Scans are ranked by score alone; group and pathology are never read, so that reading stays blinded.
"""

from __future__ import annotations

import csv
import hashlib
import json
import logging
import platform
import re
import shutil
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from normct.common.cli import parser, run
from normct.common.files import atomic, read_json, sha256, write_json
from normct.common.registry import label
from normct.handoff.page import RESEARCH, SYNTHETIC, render
from normct.handoff.sums import write_sums

SUBJECT = re.compile(r"sub-[A-Za-z0-9]+")
PAGED = ("test", "unlabelled")
PACKAGES = ("normct", "numpy", "scipy", "nibabel", "torch", "antspyx", "nipype", "snakemake")
# values that are places on someone's disk
PLACES = {"results_dir", "new", "bundle", "participants", "atlas"}
SUMMARY = [
    *("rank", "participant_id", "status", "quality", "score", "percentile", "n_healthy", "n_below"),
    *("higher_than_all", "marked_ml", "findings", "strongest", "words", "reasons"),
]
FINDINGS = [
    *("participant_id", "number", "kind", "volume_ml", "mean", "peak", "unit"),
    *("side", "level", "depth", "slice", "i", "j", "k", "words"),
]


def read_roles(path: Path) -> dict[str, str]:
    """Return participant ID to role, the only columns of ``participants.tsv`` that the hand-off reads."""
    with path.open(encoding="utf-8", newline="") as handle:
        return {row["participant_id"]: row["role"] for row in csv.DictReader(handle, delimiter="\t")}


def remove_stale(patients: Path, wanted: Iterable[str]) -> list[str]:
    """Delete folders of scans that are no longer handed off; links are unlinked, never followed."""
    keep, removed = set(wanted), []
    for path in sorted(patients.iterdir()) if patients.is_dir() else []:
        if path.name not in keep and SUBJECT.fullmatch(path.name):
            if path.is_symlink() or not path.is_dir():
                path.unlink()
            else:
                shutil.rmtree(path)
            removed.append(path.name)
    return removed


def without_places(config: Any) -> Any:
    """Return the configuration without paths; an own file is noted as given."""
    if not isinstance(config, dict):
        return config
    return {
        key: ("given" if value else None) if key in PLACES else without_places(value)
        for key, value in config.items()
    }


def _cell(value: Any) -> Any:
    """Return a cell no spreadsheet takes for a formula."""
    if isinstance(value, str) and value[:1] in "=+-@\t\r":
        return "'" + value
    return "n/a" if value is None else value


def write_csv(path: Path, columns: list[str], rows: Iterable[dict[str, Any]]) -> None:
    """Write a table, atomically."""
    with atomic(path) as part, part.open("w", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([_cell(row.get(column)) for column in columns] for row in rows)


def collect(root: Path) -> dict[str, list[dict[str, Any]]]:
    """Gather the records of all scans.

    Returns
    -------
    dict
        ``scored`` (most abnormal first), ``aside`` and ``failed`` (by ID).
    """
    roles = read_roles(root / "cohort" / "participants.tsv")
    groups: dict[str, list[dict[str, Any]]] = {"ok": [], "set_aside": [], "failed": []}
    for subject, role in roles.items():
        if role in PAGED:
            record = read_json(root / "handoff" / "patients" / subject / "patient.json")
            groups[record["status"]].append(record | {"page": True})
        else:
            quality = read_json(root / "preprocess" / subject / "quality.json")
            if quality["verdict"] == "fail":
                reasons = list(quality["reasons"])
                groups["set_aside"].append({"participant_id": subject, "reasons": reasons, "page": False})
    scored = sorted(
        groups["ok"], key=lambda r: (-r["n_below"] / max(1, r["n_healthy"]), -r["score"], r["participant_id"])
    )
    for rank, record in enumerate(scored, 1):
        record["rank"] = rank
    aside, failed = (sorted(groups[g], key=lambda r: r["participant_id"]) for g in ("set_aside", "failed"))
    return {"scored": scored, "aside": aside, "failed": failed}


def provenance(settings: dict[str, Any], weights: list[Path], bundle: Path | None) -> dict[str, Any]:
    """Return what made this hand-off: no host, no path, no time."""
    return {
        "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
        "config": without_places(settings["config"]),
        "code": settings["code"],
        "method": settings["method"],
        "seeds": settings["seeds"],
        "weights_sha256": {f"{p.parent.parent.name}/{p.parent.name}": sha256(p) for p in sorted(weights)},
        "bundle_sha256": sha256(bundle / "bundle.json") if bundle else None,
    }


def build(root: Path, settings: dict[str, Any], weights: list[Path], bundle: Path | None) -> dict[str, int]:
    """Write everything of the hand-off but the patients' folders.

    Parameters
    ----------
    root : Path
        Results folder that holds ``cohort``, ``preprocess`` and ``handoff``.
    settings : dict
        ``title, method, synthetic, min_finding_ml, voxel_fpr, config, seeds, code``.
    weights : list of Path
        Weights of the networks used; empty when a bundle was used.
    bundle : Path or None
        The frozen bundle.

    Returns
    -------
    dict
        Numbers of scans scored, set aside, failed.
    """
    out = root / "handoff"
    groups = collect(root)
    scored, aside, failed = groups["scored"], groups["aside"], groups["failed"]
    paged = [r["participant_id"] for r in (*scored, *aside, *failed) if r["page"]]
    for subject in remove_stale(out / "patients", paged):
        logging.info("removed the page of %s, which is no longer in the table", subject)
    rows = [
        {
            **record,
            "findings": len(record["findings"]) if "findings" in record else None,
            "strongest": record["findings"][0]["words"] if record.get("findings") else None,
            "reasons": "; ".join(record["reasons"]) or None,
            "status": status,
        }
        for status, name in (("scored", "scored"), ("set_aside", "aside"), ("failed", "failed"))
        for record in groups[name]
    ]
    write_csv(out / "summary.csv", SUMMARY, rows)
    findings = [
        {
            **f,
            "participant_id": r["participant_id"],
            "unit": r["unit"],
            **dict(zip("ijk", f["voxel"], strict=True)),
        }
        for r in scored
        for f in r["findings"]
    ]
    write_csv(out / "findings.csv", FINDINGS, findings)
    made = provenance(settings, weights, bundle)
    # one name for one state of the results: the same scans, scores and settings give the same ID
    state = json.dumps([made, scored, aside, failed], sort_keys=True, ensure_ascii=True)
    made["handoff_id"] = hashlib.sha256(state.encode()).hexdigest()[:12]
    write_json(out / "provenance.json", made)
    brief = [
        [{"participant_id": r["participant_id"], "reason": "; ".join(r["reasons"])} for r in g]
        for g in (failed, aside)
    ]
    write_json(
        out / "status.json",
        {"made": [r["participant_id"] for r in scored], "failed": brief[0], "set_aside": brief[1]},
    )
    shared = {
        "title": settings["title"],
        "synthetic": settings["synthetic"],
        "method": label(settings["method"]),
        "handoff_id": made["handoff_id"],
        "n_healthy": scored[0]["n_healthy"] if scored else 0,
        "min_ml": settings["min_finding_ml"],
        "fpr": f"{settings['voxel_fpr'] * 100:.2g}",
    }
    page = render("index.html.j2", "worklist.js", scored=scored, aside=aside, failed=failed, **shared)
    guide = render_text(shared)
    for name, text in (("README.txt", guide), ("index.html", page)):
        with atomic(out / name) as part:
            part.write_text(text, "utf-8")
    write_sums(out)
    return {"scored": len(scored), "set aside": len(aside), "failed": len(failed)}


def render_text(values: dict[str, Any]) -> str:
    """Return the guide for the clinician, plain text."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    # plain text, not HTML: nothing to escape
    loader = PackageLoader("normct.handoff")
    environment = Environment(loader=loader, undefined=StrictUndefined, trim_blocks=True, autoescape=False)  # noqa: S701
    words = {"research": RESEARCH, "synthetic_words": SYNTHETIC}
    return environment.get_template("README.txt.j2").render(**values, **words) + "\n"


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    options = parser(__doc__, "normct.handoff.index")
    options.add_argument("root", type=Path, help="results folder")
    options.add_argument("--settings", required=True, help="JSON with the fields that build() names")
    options.add_argument(
        "--weights", type=Path, nargs="*", default=[], help="model.safetensors of the method"
    )
    options.add_argument("--bundle", type=Path, help="folder of the frozen bundle")
    arguments = options.parse_args(argv)
    counts = build(arguments.root, json.loads(arguments.settings), arguments.weights, arguments.bundle)
    logging.info(", ".join(f"{n} {what}" for what, n in counts.items()))


if __name__ == "__main__":
    run(main)
