"""``report.pdf``: a page a scan for the file (more where its text is long): key slice, score, findings, limits."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from matplotlib import get_data_path
from reportlab.lib.pagesizes import A4
from reportlab.lib.units import mm
from reportlab.lib.utils import ImageReader, simpleSplit
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.pdfgen.canvas import Canvas

from normct.handoff.page import RESEARCH, SYNTHETIC, UNTRAINED

WIDTH, HEIGHT = A4
LEFT, RIGHT = 18 * mm, WIDTH - 18 * mm
BOTTOM = 15 * mm
LEADING = 1.35
LISTED = 10
PLAIN, BOLD = "NormCT", "NormCT-Bold"
LIMITS = (
    "The model looks inside the brain mask only and names no disease. A low score is no evidence of health: "
    "small aneurysms, thin subarachnoid or subdural blood, early ischaemia and anything as dense as its "
    "surroundings can be missed. False findings are expected in every scan, most at the brain's rim."
)


class Page:
    """A page that is written from the top down; what finds no room goes on to a next one with the same head."""

    def __init__(self, canvas: Canvas, shared: dict[str, Any], heading: str) -> None:
        self.canvas, self.shared = canvas, shared
        self._start(heading)
        self.heading = f"{heading}, continued"

    def _start(self, heading: str) -> None:
        self.y, self.top = HEIGHT - 18 * mm, float("-inf")  # no break within the head
        self.text(RESEARCH, 10, BOLD)
        if self.shared["synthetic"]:
            self.text(SYNTHETIC, 10, BOLD)
        if self.shared["trained_on_synthetic"]:
            self.text(UNTRAINED, 10, BOLD)
        self.gap()
        self.text(heading, 16, BOLD)
        self.text(f"{self.shared['title']}. Hand-off {self.shared['handoff_id']}, {self.shared['date']}.", 9)
        self.gap()
        self.top = self.y

    def need(self, height: float) -> None:
        """Go on to a next page where less than this is left, in points; on a fresh one it must do."""
        if self.y - height < BOTTOM and self.y < self.top:
            self.canvas.showPage()
            self._start(self.heading)

    def text(self, words: str, size: float = 10, font: str = PLAIN) -> None:
        """Write a paragraph, broken into lines; kept together where a page can hold it."""
        lines = simpleSplit(words, font, size, RIGHT - LEFT)
        self.need(len(lines) * size * LEADING)
        for line in lines:
            self.need(size * LEADING)
            self.y -= size * LEADING
            self.canvas.setFont(font, size)
            self.canvas.drawString(LEFT, self.y, line)

    def gap(self, points: float = 6) -> None:
        """Leave a space."""
        self.y -= points

    def picture(self, path: Path) -> None:
        """Place a picture across the page."""
        image = ImageReader(str(path))
        width, height = image.getSize()
        scale = min((RIGHT - LEFT) / width, 95 * mm / height)
        self.need(height * scale + 4)
        self.y -= height * scale + 4
        self.canvas.drawImage(image, LEFT, self.y, width * scale, height * scale)


def _scan(canvas: Canvas, record: dict[str, Any], folder: Path, shared: dict[str, Any]) -> None:
    page = Page(canvas, shared, record["participant_id"])
    page.text(f"Anomaly score {record['words']} ({shared['method']}). Rank {record['rank']}.", 11, BOLD)
    page.text("Quality: " + "; ".join([record["quality"], *record["reasons"]]))
    for text in record["out_of_scope"]:
        page.text(f"Caution: {text}.")
    page.gap()
    picture = folder / record["participant_id"] / "key_slice.jpg"
    if picture.is_file():
        page.picture(picture)
        page.text(
            "Original; overlay (orange denser, blue less dense than expected); healthy reconstruction. "
            "Slice of the first finding. Image left is the patient's right.",
            8,
        )
    if record["high_slices"]:
        n = record["n_healthy_levels"]
        page.text(
            f"Levels higher than the same level of every healthy person ({n} at most): slices {record['high_slices']}. "
            f"Of a healthy head's levels about one in {n + 1} is, too."
        )
    page.gap()
    page.text(f"Findings of {shared['min_ml']} mL or more", 12, BOLD)
    if not record["findings"]:
        page.text("None. That does not mean that the scan is normal.")
    digits = 1 if record["unit"] == "SD" else 0
    for f in record["findings"][:LISTED]:
        mean, peak = (f"{f[name]:+.{digits}f}" for name in ("mean", "peak"))
        values = f"slice {f['slice']}; mean {mean}, peak {peak} {record['unit']}"
        page.text(f"{f['number']}. {f['words']} ({values})", 9.5)
    if len(record["findings"]) > LISTED:
        page.text(f"and {len(record['findings']) - LISTED} more, see findings.csv", 9.5)
    page.gap()
    page.text(LIMITS, 8.5)


@contextmanager
def _dated(date: str) -> Iterator[None]:
    """Have reportlab, which asks SOURCE_DATE_EPOCH, date the file with the hand-off's own date."""
    made = datetime.strptime(date, "%Y-%m-%d %H:%M UTC").replace(tzinfo=UTC)
    before = os.environ.get("SOURCE_DATE_EPOCH")
    os.environ["SOURCE_DATE_EPOCH"] = str(int(made.timestamp()))
    try:
        yield
    finally:
        if before is None:
            del os.environ["SOURCE_DATE_EPOCH"]
        else:
            os.environ["SOURCE_DATE_EPOCH"] = before


def write_report(
    path: Path, groups: dict[str, list[dict[str, Any]]], folder: Path, shared: dict[str, Any]
) -> None:
    """Write the report; the same results give the same bytes.

    Parameters
    ----------
    path : Path
        ``report.pdf``.
    groups : dict
        ``scored``, ``aside`` and ``failed`` records.
    folder : Path
        ``patients``, with each scan's ``key_slice.jpg``.
    shared : dict
        ``title, synthetic, trained_on_synthetic, method, handoff_id, date, min_ml``.
    """
    fonts = Path(get_data_path()) / "fonts" / "ttf"
    for name, file in ((PLAIN, "DejaVuSans.ttf"), (BOLD, "DejaVuSans-Bold.ttf")):
        pdfmetrics.registerFont(TTFont(name, str(fonts / file)))
    with _dated(shared["date"]):
        canvas = Canvas(str(path), pagesize=A4, invariant=1, pageCompression=1)
    canvas.setTitle(f"{shared['title']}: hand-off {shared['handoff_id']}")
    canvas.setAuthor("NormCT")
    for record in groups["scored"]:
        _scan(canvas, record, folder, shared)
        canvas.showPage()
    without = [(r, "failed") for r in groups["failed"]] + [(r, "set aside") for r in groups["aside"]]
    if without or not groups["scored"]:
        page = Page(canvas, shared, "Scans without a result" if without else "No scans")
        for record, why in without:
            page.text(f"{record['participant_id']} ({why}): {'; '.join(record['reasons'])}")
        canvas.showPage()
    canvas.save()
