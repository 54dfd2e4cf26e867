"""The cohort's quality page and table: order, escaping, self-containedness, size."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest
from PIL import Image

from normct.common.errors import ConfigError
from normct.common.files import write_json
from normct.preprocess.quality_page import main


def write_record(
    folder: Path, subject: str, verdict: str, reasons: list[str], overlap: float | None, picture=True
) -> str:
    record = {
        "participant_id": subject,
        "verdict": verdict,
        "reasons": reasons,
        "measures": {"overlap_dice": overlap, "mi": 0.5, "n_slices": 30},
    }
    write_json(folder / subject / "quality.json", record)
    if picture:
        Image.linear_gradient("L").resize((1438, 600)).convert("RGB").save(folder / subject / "quality.png")
    return str(folder / subject / "quality.json")


@pytest.fixture
def cohort(tmp_path):
    return [
        write_record(tmp_path, "sub-b", "pass", [], 0.95),
        write_record(tmp_path, "sub-a", "pass", [], 0.85),
        write_record(
            tmp_path,
            "sub-c",
            "warn",
            ["Noise is 30 HU\t(limit 12 HU).", "<script>alert(1)</script> & more"],
            0.9,
        ),
        write_record(tmp_path, "sub-d", "fail", ["ct: empty."], None, picture=False),
    ]


def test_table_lists_the_worst_first_with_reasons(tmp_path, cohort):
    (tmp_path / "list.txt").write_text("\n".join(cohort) + "\n")
    main([str(tmp_path / "q.html"), str(tmp_path / "q.tsv"), "--inputs-file", str(tmp_path / "list.txt")])
    with (tmp_path / "q.tsv").open() as handle:
        rows = list(csv.DictReader(handle, delimiter="\t"))
    assert [r["participant_id"] for r in rows] == ["sub-d", "sub-c", "sub-a", "sub-b"]
    assert rows[0]["overlap_dice"] == "n/a"
    assert rows[1]["reasons"].startswith("Noise is 30 HU (limit 12 HU).")  # a tab would have split the column
    assert rows[3]["reasons"] == "n/a"


def test_page_is_one_file_and_escapes_what_others_wrote(tmp_path, cohort):
    main([str(tmp_path / "q.html"), str(tmp_path / "q.tsv"), *cohort, "--title", "<b>clinic</b>"])
    page = (tmp_path / "q.html").read_text("utf-8")
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; more" in page
    assert "<b>clinic</b>" not in page
    assert not re.search(r"(?:src|href)=[\"'](?!data:|#)", page)
    assert "default-src 'none'" in page
    assert re.findall(r'<article class="card" id="(sub-\w+)"', page) == [
        "sub-d",
        "sub-c",
        "sub-a",
        "sub-b",
    ]
    assert page.count("data:image/jpeg;base64,") == 3
    assert "1 fail" in page
    assert "2 pass" in page


def test_a_large_cohort_shows_pictures_of_the_worst_only(tmp_path):
    paths = [
        write_record(tmp_path, f"sub-{n:04d}", "pass", [], 0.9 - n * 1e-5, picture=n > 390)
        for n in range(400)
    ]
    (tmp_path / "list.txt").write_text("\n".join(paths))
    main(
        [
            str(tmp_path / "q.html"),
            str(tmp_path / "q.tsv"),
            "--inputs-file",
            str(tmp_path / "list.txt"),
            "--pictures",
            "9",
        ]
    )
    page = (tmp_path / "q.html").read_text("utf-8")
    assert page.count("<img") == 9
    assert "of the worst 9" in page
    assert page.count("<tr>") == 401
    assert len(page) < 2_000_000


def test_no_input_is_an_error_in_words(tmp_path):
    with pytest.raises(ConfigError, match="give quality"):
        main([str(tmp_path / "q.html"), str(tmp_path / "q.tsv")])
