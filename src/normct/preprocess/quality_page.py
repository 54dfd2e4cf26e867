"""The cohort's quality table and page: one row a scan, worst first, with reasons and a picture.

The page is one file that opens without network and runs no script. Pictures are small JPEGs, for the worst
scans only once a cohort is large: a page of thousands still opens.
"""

from __future__ import annotations

import base64
import csv
import io
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from normct.common.cli import parser, run
from normct.common.errors import ConfigError
from normct.common.files import atomic, read_json
from normct.preprocess.quality_rules import RANK

THUMB_WIDTH = 620
COLUMNS = {
    "brain_volume_ml": ("Brain, mL", 0),
    "overlap_dice": ("Overlap", 2),
    "mi": ("Likeness (MI)", 2),
    "pitch_deg": ("Pitch, °", 0),
    "roll_deg": ("Roll, °", 0),
    "yaw_deg": ("Yaw, °", 0),
    "noise_hu": ("Noise, HU", 1),
    "slice_thickness_mm": ("Slices, mm", 1),
    "n_slices": ("Slices", 0),
}
"""Measures shown on the page: heading and decimals. The table holds all."""


def order(record: dict[str, Any]) -> tuple[int, float, str]:
    """Sort key, worst first: verdict, then overlap with the atlas, then ID."""
    overlap = record["measures"].get("overlap_dice")
    return RANK[record["verdict"]], -1.0 if overlap is None else float(overlap), record["participant_id"]


def thumbnail(path: Path) -> str | None:
    """Return ``quality.png`` as a small JPEG data URI; None when there is no picture."""
    from PIL import Image

    if not path.exists():
        return None
    with Image.open(path) as image:
        small = image.convert("RGB")
        small.thumbnail((THUMB_WIDTH, THUMB_WIDTH))
        buffer = io.BytesIO()
        small.save(buffer, "JPEG", quality=72)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def write_table(path: str | Path, records: list[dict[str, Any]]) -> None:
    """Write ``quality.tsv``: participant, verdict, every measure, reasons; ``n/a`` for missing."""
    names = list(dict.fromkeys(name for record in records for name in record["measures"]))
    with atomic(path) as part, part.open("w", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle, delimiter="\t", lineterminator="\n")
        writer.writerow(["participant_id", "verdict", *names, "reasons"])
        for record in records:
            values = ["n/a" if (v := record["measures"].get(n)) is None else v for n in names]
            reasons = " ".join(" ".join(record["reasons"]).split()) or "n/a"
            writer.writerow([record["participant_id"], record["verdict"], *values, reasons])


def render(records: list[tuple[dict[str, Any], Path]], title: str, pictures: int) -> str:
    """Return the page.

    Parameters
    ----------
    records : list of (dict, Path)
        Content of each ``quality.json``, worst first, and the path of its picture.
    title : str
        Shown on top.
    pictures : int
        Scans that get a picture; the rest are in the table only.
    """
    environment = Environment(
        loader=PackageLoader("normct.preprocess"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    cards = [{**record, "picture": thumbnail(png)} for record, png in records[:pictures]]
    counts = {v: sum(r["verdict"] == v for r, _ in records) for v in ("fail", "warn", "pass")}
    rows = [
        {
            **record,
            "values": [
                "–" if (v := record["measures"].get(name)) is None else f"{v:.{decimals}f}"
                for name, (_, decimals) in COLUMNS.items()
            ],
        }
        for record, _ in records
    ]
    return environment.get_template("quality.html.j2").render(
        title=title,
        cards=cards,
        rows=rows,
        counts=counts,
        headings=[h for h, _ in COLUMNS.values()],
        total=len(rows),
    )


def main(argv: list[str] | None = None) -> None:
    """Command line: ``OUT_HTML OUT_TSV (--inputs-file FILE | QUALITY_JSON ...)``."""
    cli = parser(__doc__, "normct.preprocess.quality_page")
    cli.add_argument("out_html")
    cli.add_argument("out_tsv")
    cli.add_argument("inputs", nargs="*", help="quality.json files; quality.png is taken from beside each")
    cli.add_argument("--inputs-file", help="file with one path of a quality.json a line")
    cli.add_argument("--title", default="NormCT")
    cli.add_argument("--pictures", type=int, default=200, help="how many scans get a picture, worst first")
    args = cli.parse_args(argv)
    paths = [Path(p) for p in args.inputs]
    if args.inputs_file:
        paths += [Path(line) for line in Path(args.inputs_file).read_text("utf-8").splitlines() if line]
    if not paths:
        raise ConfigError("No scan to report on:", ["give quality.json files, or --inputs-file"])
    records = sorted(((read_json(p), p.with_name("quality.png")) for p in paths), key=lambda r: order(r[0]))
    write_table(args.out_tsv, [record for record, _ in records])
    with atomic(args.out_html) as part:
        part.write_text(render(records, args.title, args.pictures), "utf-8")


if __name__ == "__main__":
    run(main)
