"""``report.html``, one self-contained page, and ``summary.md``: what this stage found."""

from __future__ import annotations

import base64
import json
import logging
from importlib.metadata import version
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from normct.common.cli import parser, run
from normct.common.files import atomic
from normct.common.provenance import versions
from normct.evaluate.captions import FIGURES
from normct.evaluate.content import RESEARCH_NOTE, sections
from normct.evaluate.document import Section, markdown
from normct.evaluate.tables import read_csv

log = logging.getLogger(__name__)

TABLES = (
    "detection_summary",
    "detection_paired",
    "pathology",
    "operating_points",
    "cohort",
    "set_aside",
    "segmentation_summary",
    "froc",
    "strata",
    "subgroups",
    "confound",
    "leaks",
    "lambda",
    "risk_coverage_summary",
)
PHOTOGRAPHIC = ("figure_6_3_samples", "figure_6_4_samples")
"""Figures made of pixels: embedded as PNG, the others as SVG."""


def embed(folder: str | Path) -> dict[str, str]:
    """Return each figure as a ``data:`` address, so that the page needs no other file."""
    found = {}
    for name in FIGURES:
        suffix, kind = (".png", "image/png") if name in PHOTOGRAPHIC else (".svg", "image/svg+xml")
        content = (Path(folder) / f"{name}{suffix}").read_bytes()
        found[name] = f"data:{kind};base64,{base64.b64encode(content).decode()}"
    return found


def render(title: str, parts: list[Section], figures: dict[str, str]) -> str:
    """Return the page; every text is escaped, its policy forbids scripts and network addresses."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html").render(
        title=title,
        note=RESEARCH_NOTE,
        sections=parts,
        figures=figures,
        captions=FIGURES,
        version=version("normct"),
    )


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    p = parser(__doc__, "normct.evaluate.report")
    p.add_argument("--tables", required=True, help="folder R/evaluate, with the tables and figures")
    p.add_argument(
        "--settings",
        required=True,
        type=json.loads,
        help="JSON: title, synthetic, and the config sections preprocess, train, score, evaluate",
    )
    p.add_argument("--html", required=True)
    p.add_argument("--summary", required=True)
    args = p.parse_args(argv)
    tables = {name: read_csv(Path(args.tables) / f"{name}.csv") for name in TABLES}
    # for the methods text
    found = {"counts": tables["cohort"].to_dict("records"), "versions": versions()}
    settings: dict[str, Any] = args.settings | found
    parts = sections(tables, settings)
    title = settings["title"]
    with atomic(args.html) as part:
        part.write_text(render(title, parts, embed(args.tables)), "utf-8")
    with atomic(args.summary) as part:
        part.write_text(markdown(title, parts, FIGURES), "utf-8")
    log.info("%d sections", len(parts))


if __name__ == "__main__":
    run(main)
