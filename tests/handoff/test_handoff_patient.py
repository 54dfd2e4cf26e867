"""A patient's page: what it says, what it must not say, and what happens when it fails."""

import json
import re
import shutil
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import quote

import pytest
from handoff_case import INDEX, METHOD, arguments, write_aside, write_shared, write_subject

from normct.common.errors import NormctError
from normct.common.files import read_json
from normct.handoff.index import build, collect
from normct.handoff.page import ordinal_words, render, score_svg
from normct.handoff.patient import Settings, Sources, main, make, make_patient
from normct.handoff.scores import share_interval


def test_page_speaks_of_finding_score_and_limits(finished_run):
    text = (finished_run / "handoff" / "patients" / "sub-high" / "index.html").read_text("utf-8")
    assert "Research use only" in text
    assert "Synthetic data" in text
    assert "higher than all 4 healthy scans" in text
    assert "What the model cannot see" in text
    record = read_json(finished_run / "handoff" / "patients" / "sub-high" / "patient.json")
    (finding,) = record["findings"]
    assert finding["kind"] == "hyperdense" and finding["side"] == "left" and finding["region"] == "frontal"
    assert not finding["rim"]
    assert "has 6.5 such findings on average, 9 at most (4 calibration scans)" in unescape(text)
    assert finding["volume_ml"] == pytest.approx(17.2, rel=0.15)  # a ball of 16 mm
    assert finding["mean"] == pytest.approx(30, abs=4)


def test_pages_reach_no_network_and_know_no_label(finished_run):
    for page in (finished_run / "handoff").rglob("*.html"):
        text = page.read_text("utf-8")
        assert "default-src 'none'" in unescape(text)
        assert not re.search(r"(?:src|href|action)\s*=\s*[\"']?\s*(?:https?:)?//", text), page
        assert "http://" not in text and "https://" not in text
        assert "secretlabel" not in text
        assert not re.search(r"\sstyle=|\son\w+=", text)  # the policy forbids both


class Seen(HTMLParser):
    """What a browser makes of a page: elements, attributes, where links lead."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.names, self.links = [], set(), []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append(tag)
        self.names |= {name for name, _ in attrs}
        self.links += [
            value for name, value in attrs if name in {"href", "src"} and not value.startswith("data:")
        ]


HOSTILE = ["<script>alert(1)</script>", "../../x", "a\"b'c& onload=x</title><b>"]


def hostile_page(kind, subject, tmp_path, finished_run, monkeypatch):
    """Return a page as it were if an ID got past every check."""
    if kind == "aside":
        return render(
            "aside.html.j2", None, subject=subject, title=subject, synthetic=False, trained_on_synthetic=False,
            quality=None, picture=None, reasons=[subject], failed=False,
        )  # fmt: skip
    if kind == "patient":
        if subject == "sub-x":
            return (finished_run / "handoff" / "patients" / "sub-low" / "index.html").read_text("utf-8")
        given = arguments(finished_run, "sub-low")[2:]
        named = dict(zip(given[::2], given[1::2], strict=True))
        settings = Settings(**json.loads(named.pop("--settings")))
        sources = Sources(**{name[2:].replace("-", "_"): Path(path) for name, path in named.items()})
        (tmp_path / "made").mkdir()
        make(tmp_path / "made", subject, sources, settings)
        return (tmp_path / "made" / "index.html").read_text("utf-8")
    run = shutil.copytree(finished_run, tmp_path / "run")
    groups = collect(run)
    paged = {"participant_id": subject, "reasons": [subject], "page": True}
    groups["failed"].append(paged | {"status": "failed"})
    groups["aside"].append(paged)
    groups["scored"][0]["participant_id"] = subject
    monkeypatch.setattr("normct.handoff.index.collect", lambda _: groups)
    monkeypatch.setattr("normct.handoff.history.stamp_page", lambda *_: None)
    monkeypatch.setattr("normct.handoff.history.stamp_record", lambda *_: None)
    build(run, INDEX, [], None)
    return (run / "handoff" / "index.html").read_text("utf-8")


@pytest.mark.parametrize("kind", ["aside", "patient", "worklist"])
@pytest.mark.parametrize("subject", HOSTILE)
def test_ids_that_got_through_are_text_and_lead_nowhere(kind, subject, tmp_path, finished_run, monkeypatch):
    text = hostile_page(kind, subject, tmp_path, finished_run, monkeypatch)
    harmless = hostile_page(kind, "sub-x", tmp_path / "harmless", finished_run, monkeypatch)
    page, expected = Seen(text), Seen(harmless)
    assert page.elements == expected.elements and page.names == expected.names
    assert page.links == [link.replace("sub-x", quote(subject, safe="")) for link in expected.links]
    assert [link for link in page.links if ".." in link.split("/")] in ([], ["../../index.html"])
    assert subject in unescape(text)


@pytest.mark.parametrize("subject", HOSTILE)
def test_hostile_id_is_refused_before_a_file_is_written(subject, tmp_path):
    given = arguments(tmp_path, "sub-a")
    with pytest.raises(NormctError, match="letters or digits"):
        main([subject, *given[1:]])
    assert not list(tmp_path.iterdir())


def test_failure_becomes_a_page_and_leaves_nothing_half_written(tmp_path):
    write_shared(tmp_path, {"sub-a": "test"})
    write_aside(tmp_path, "sub-a", "unused")
    (tmp_path / "preprocess" / "sub-a" / "slices.npz").write_bytes(b"no zip")
    main(arguments(tmp_path, "sub-a"))
    folder = tmp_path / "handoff" / "patients" / "sub-a"
    record = read_json(folder / "patient.json")
    assert record["status"] == "failed" and "see the log" in record["reasons"][0]
    assert str(tmp_path) not in (folder / "index.html").read_text("utf-8")
    assert sorted(p.name for p in folder.parent.rglob("*")) == ["index.html", "patient.json", "sub-a"]


def test_link_in_a_patients_place_is_replaced_not_followed(tmp_path):
    write_shared(tmp_path, {"sub-a": "test"})
    write_aside(tmp_path, "sub-a", "no brain was found")
    outside, folder = tmp_path / "outside", tmp_path / "handoff" / "patients" / "sub-a"
    outside.mkdir()
    (outside / "keep.txt").write_text("x")
    folder.parent.mkdir(parents=True)
    folder.symlink_to(outside)
    main(arguments(tmp_path, "sub-a"))
    assert [p.name for p in outside.iterdir()] == ["keep.txt"]
    assert not folder.is_symlink() and (folder / "index.html").is_file()


def test_map_that_does_not_fit_names_subject_and_remedy(tmp_path):
    write_shared(tmp_path, {"sub-a": "test"})
    write_subject(tmp_path, "sub-a", shape=(40, 40, 12), zooms=(5.0, 5.0, 14.0))
    import numpy as np

    np.savez(tmp_path / "score" / "maps" / "sub-a.npz", **{f"{METHOD}/seed-0": np.zeros(5, np.float16)})
    main(arguments(tmp_path, "sub-a"))
    folder = tmp_path / "handoff" / "patients" / "sub-a"
    assert "Score the scan again" in read_json(folder / "patient.json")["reasons"][0]
    assert not list(folder.glob("*.nii.gz"))


def test_memory_and_disk_fail_the_job(tmp_path, monkeypatch):
    """They are the machine's faults, which a retry mends: never a verdict on the scan."""
    settings = Settings(**json.loads(arguments(tmp_path, "sub-a")[-1]))
    sources = Sources(*[tmp_path] * len(Sources.__dataclass_fields__))
    for error in (MemoryError(), OSError(28, "No space left on device")):

        def broken(*_, error=error):
            raise error

        monkeypatch.setattr("normct.handoff.patient.make", broken)
        with pytest.raises(type(error)):
            make_patient(tmp_path / "out", "sub-a", sources, settings)
        assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("below", "n", "interval"),
    [(4, 4, (39, 100)), (0, 4, (0, 61)), (50, 100, (39, 61)), (1, 1, (2, 100))],
)
def test_place_among_few_healthy_scans_is_as_wide_as_tables_say(below, n, interval):
    """Clopper and Pearson: 0.025 = 0.3976^4 for four of four; 0.398 to 0.602 for 50 of 100."""
    assert share_interval(below, n) == interval


def test_page_says_how_sure_the_place_is(finished_run):
    """The two networks of sub-high score 0.85 and 1.15 times 1.6, of sub-low times 0.95."""
    folder = finished_run / "handoff" / "patients"
    record = read_json(folder / "sub-high" / "patient.json")
    assert [record[k] for k in ("percentile", "percentile_low", "percentile_high")] == [80, 39, 100]
    text = (folder / "sub-high" / "index.html").read_text("utf-8")
    assert (
        "higher than 39 to 100 % of healthy scans (95 % interval); all networks: higher than 4 of 4" in text
    )
    assert "SD of the score over seeds 0.24" in text and record["uncertainty"] == pytest.approx(0.24)
    low = (folder / "sub-low" / "index.html").read_text("utf-8")
    assert "single networks: higher than 0 to 3 of 4" in low
    assert "Age is not part of the reference" in low


def test_words_claim_no_more_than_the_number_of_scans_allows():
    assert ordinal_words(2.0, [1.0, 1.5]) == "higher than all 2 healthy scans"
    assert ordinal_words(1.2, [1.0, 1.5]) == "higher than 1 of 2 healthy scans"
    assert ordinal_words(0.5, [1.0, 1.5]) == "lower than all 2 healthy scans"
    assert ordinal_words(1.0, [1.0]) == "not higher than the one healthy scan"
    assert ordinal_words(1.0, []) == "no healthy scans to compare with"
    assert score_svg(1.0, [1.0, 1.0]).count("circle") == 2  # no spread: nothing to divide by
