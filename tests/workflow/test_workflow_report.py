"""Snakemake's own report of a finished run: every table and figure of the evaluation, with its caption."""

from __future__ import annotations

import re
from pathlib import Path
from zipfile import ZipFile

import jinja2
import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
CAPTIONS = sorted((REPOSITORY / "workflow" / "report").glob("*.rst"))
WARNING = "Synthetic cohort: the ranking may differ on patients."


@pytest.mark.slow
@pytest.mark.xdist_group("pipeline")
@pytest.mark.timeout(1800)
def test_report_holds_tables_and_figures_with_captions(finished, tmp_path):
    checkout = finished.copy(tmp_path / "checkout")
    checkout.snakemake("--report", "report.zip")
    with ZipFile(checkout.folder / "report.zip") as content:
        held = {Path(name).name for name in content.namelist()}
        page = content.read("report/report.html").decode()
    made = checkout.folder / "out" / "evaluate"
    shown = {p.name for p in made.iterdir() if p.suffix in {".csv", ".png"}} | {"report.html"}
    assert {"detection_summary.csv", "figure_6_1_roc.png"} <= shown <= held
    for words in ("Tables of the test scans.", "Figures 4.1 (cohort)", "The evaluation in one page"):
        assert words in page
    # a result each, and the cohort is synthetic
    assert page.count(WARNING) == len(shown)
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", page), (
        "the report asks the network for something"
    )


@pytest.mark.parametrize("path", CAPTIONS, ids=lambda p: p.stem)
def test_captions_say_that_a_cohort_is_synthetic_only_where_it_is(path):
    caption = jinja2.Template(path.read_text("utf-8"), undefined=jinja2.StrictUndefined)

    def said(participants: str | None) -> bool:
        snakemake = {"config": {"cohort": {"participants": participants}}}
        return WARNING in caption.render(snakemake=snakemake)

    assert said(None)
    assert not said("own/participants.tsv")
