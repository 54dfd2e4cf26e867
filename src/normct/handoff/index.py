"""The worklist and what goes with it: tables, guide, provenance, status, checksums.

Scans are ranked by score alone; group and pathology are never read, so that reading stays blinded.
"""

from __future__ import annotations

import csv
import hashlib
import json
import logging
from pathlib import Path
from typing import Any

from normct.common.cli import parser, run
from normct.common.files import atomic, read_json, write_json
from normct.common.provenance import git_commit
from normct.common.registry import FUSED, METHODS, label
from normct.common.subject import refuse_bad_ids
from normct.handoff import history
from normct.handoff.page import RESEARCH, SYNTHETIC, UNTRAINED, method_words, render, trust_words
from normct.handoff.provenance import input_sums, provenance
from normct.handoff.report_pdf import write_report
from normct.handoff.stale import remove_parts, remove_stale
from normct.handoff.sums import ZIP, refuse_links, write_sums, write_zip
from normct.handoff.tables import write_csv, write_summary, write_tables

PAGED = ("test", "unlabelled")


def read_roles(path: Path) -> dict[str, str]:
    """Return participant ID to role, the only columns of ``participants.tsv`` that the hand-off reads."""
    with path.open(encoding="utf-8", newline="") as handle:
        return {row["participant_id"]: row["role"] for row in csv.DictReader(handle, delimiter="\t")}


def collect(root: Path) -> dict[str, list[dict[str, Any]]]:
    """Gather the records of all scans.

    Returns
    -------
    dict
        ``scored`` (most abnormal first), ``aside`` and ``failed`` (by ID).

    Raises
    ------
    ConfigError
        If an ID could lead out of the hand-off.
    """
    roles = read_roles(root / "cohort" / "participants.tsv")
    refuse_bad_ids(roles)
    groups: dict[str, list[dict[str, Any]]] = {"ok": [], "set_aside": [], "failed": []}
    for subject, role in roles.items():
        if role in PAGED:
            record = history.unstamped(read_json(root / "handoff" / "patients" / subject / "patient.json"))
            if "levels" in record:
                # a hundred levels a scan are for nothing but the hand-off's ID
                record["levels"] = hashlib.sha256(json.dumps(record["levels"]).encode()).hexdigest()
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


def false_in_healthy(scored: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Return how many findings a healthy scan gets at the threshold used, from any scan's record."""
    counts = next((r["healthy_findings"] for r in scored if r["healthy_findings"]), None)
    if counts is None:
        return None
    mean = counts["mean"][counts["factors"].index(1.0)]
    return {"mean": f"{mean:.3g}", "size_ml": counts["size_ml"], "n_scans": counts["n_scans"]}


def mapped_by(settings: dict[str, Any]) -> dict[str, Any]:
    """Return who drew the map, for the methods text: networks with their sources, whose expectation it is."""
    names = settings["fusion"] if settings["method"] == FUSED else [settings["method"]]
    if "networks" in names:
        names = [n for n in names if n != "networks"] + settings["networks"]
    used = [METHODS[n] for n in names if n in METHODS]
    said = [label(n) for n in names if n not in METHODS] + [m.label for m in used]
    return {
        "several": len(used) > 1,
        "networks": ", ".join(f"{m.label} ({m.citation})" for m in used),
        "expects": ", ".join(said),
    }


def build(root: Path, settings: dict[str, Any], weights: list[Path], bundle: Path | None) -> dict[str, int]:
    """Write everything of the hand-off but the patients' folders.

    Parameters
    ----------
    root : Path
        Results folder that holds ``cohort``, ``preprocess`` and ``handoff``.
    settings : dict
        ``title, method, score, synthetic, trained_on_synthetic, min_finding_ml, voxel_fpr, threshold_factor,
        config, networks, fusion, seeds, code``; ``networks`` are those that score, ``fusion`` what is scored together.
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
    remove_parts(out)
    refuse_links(out)
    made = provenance(settings, weights, bundle)
    made["inputs_sha256"] = input_sums(root / "cohort", groups)
    # one name for one state of the results: the same scans, scores and settings give the same ID
    text = json.dumps([made, scored, aside, failed], sort_keys=True, ensure_ascii=True)
    handoff_id = hashlib.sha256(text.encode()).hexdigest()[:12]
    date, changes = history.record(out, handoff_id, history.state(groups))
    write_json(
        out / "provenance.json", made | {"commit": git_commit(), "handoff_id": handoff_id, "date": date}
    )
    write_tables(out, groups, handoff_id, date)
    write_csv(out / "changes.csv", history.CHANGES, changes)
    brief = [
        [{"participant_id": r["participant_id"], "reason": "; ".join(r["reasons"])} for r in g]
        for g in (failed, aside)
    ]
    write_json(
        out / "status.json",
        {
            "handoff_id": handoff_id,
            "date": date,
            "made": [r["participant_id"] for r in scored],
            "failed": brief[0],
            "set_aside": brief[1],
        },
    )
    shared = {
        "title": settings["title"],
        "synthetic": settings["synthetic"],
        "trained_on_synthetic": settings["trained_on_synthetic"],
        "method": method_words(settings["method"]),
        "handoff_id": handoff_id,
        "date": date,
        "score": settings["score"],
        "unit": next((r["unit"] for r in scored), "SD" if settings["score"] != "thesis" else "HU"),
        "one_network": settings["method"] in METHODS,
        "n_healthy": scored[0]["n_healthy"] if scored else 0,
        "levels": any(r["n_healthy_levels"] for r in scored),
        "folds": scored[0].get("cross_fit", 0) if scored else 0,
        "min_ml": settings["min_finding_ml"],
        "healthy": false_in_healthy(scored),
        "factor": settings["threshold_factor"],
        "fpr": f"{settings['voxel_fpr'] * 100:.2g}",
    }
    listed = [r | {"trust": trust_words(r, r["n_healthy"])} for r in scored]
    page = render("index.html.j2", "worklist.js", scored=listed, aside=aside, failed=failed, **shared)
    texts = {
        "README.txt": render_text("README.txt.j2", shared),
        "methods.txt": render_text("methods.txt.j2", shared | made | mapped_by(settings)),
        "index.html": page,
    }
    for name, text in texts.items():
        with atomic(out / name) as part:
            part.write_text(text, "utf-8")
    write_summary(out / "summary.json", groups, shared, RESEARCH)
    with atomic(out / "report.pdf") as part:
        write_report(part, groups, out / "patients", shared)
    for subject in paged:
        history.stamp_page(out / "patients" / subject / "index.html", handoff_id, date)
        history.stamp_record(out / "patients" / subject / "patient.json", handoff_id, date)
    (out / ZIP).unlink(missing_ok=True)
    write_sums(out, f"Hand-off {handoff_id}, {date}")
    if settings["config"].get("handoff", {}).get("zip"):
        write_zip(out)
    return {"scored": len(scored), "set aside": len(aside), "failed": len(failed)}


def render_text(template: str, values: dict[str, Any]) -> str:
    """Return a page of plain text: the guide for the clinician, the methods."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    # plain text, not HTML: nothing to escape
    loader = PackageLoader("normct.handoff")
    environment = Environment(loader=loader, undefined=StrictUndefined, trim_blocks=True, autoescape=False)  # noqa: S701
    words = {"research": RESEARCH, "synthetic_words": SYNTHETIC, "untrained_words": UNTRAINED}
    return environment.get_template(template).render(**values, **words) + "\n"


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
