"""The hand-off of the default settings: a z map of statistical atlas and networks together, in SD."""

import csv
import json
import re
from html import unescape
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from handoff_case import (
    INDEX,
    METHOD,
    Z_PER_HU,
    Z_SETTINGS,
    Z_THRESHOLD,
    arguments,
    write_aside,
    write_shared,
    write_subject,
)
from jsonschema import Draft202012Validator

from normct.cohort.importer import run_import
from normct.common.files import read_json
from normct.handoff.anomaly import read_residual
from normct.handoff.index import build
from normct.handoff.page import UNTRAINED
from normct.handoff.patient import main, slider
from normct.handoff.scope import side_warnings

DOCS = Path(__file__).resolve().parents[2] / "docs"


def page_of(run: Path, subject: str) -> str:
    return unescape((run / "handoff" / "patients" / subject / "index.html").read_text("utf-8"))


def test_findings_and_threshold_are_in_standard_deviations(finished_z_run):
    record = read_json(finished_z_run / "handoff" / "patients" / "sub-high" / "patient.json")
    assert (record["unit"], record["threshold"], record["score_name"]) == ("SD", Z_THRESHOLD, "calibrated")
    assert record["score"] == pytest.approx(3 * 1.6) and record["words"] == "higher than all 4 healthy scans"
    first = record["findings"][0]
    assert first["kind"] == "hyperdense" and first["side"] == "left" and first["region"] == "frontal"
    assert first["mean"] == pytest.approx(30 * Z_PER_HU, abs=1)
    text = page_of(finished_z_run, "sub-high")
    hu = np.asarray(nib.load(finished_z_run / "cohort" / "sub-high" / "ct.nii.gz").dataobj)
    peak = first["peak_hu"]
    assert f"mean {first['mean']:+.1f}, peak {first['peak']:+.1f} SD; the scan up to {peak} HU" in text
    assert "has 29.3 such findings on average, 46 at most" in text
    assert "standard deviations (SD) of healthy scans" in text and " HU against" not in text
    volume = nib.load(finished_z_run / "handoff" / "patients" / "sub-high" / "anomaly_map.nii.gz")
    marked = nib.load(finished_z_run / "handoff" / "patients" / "sub-high" / "anomaly_mask.nii.gz")
    z = volume.get_fdata()[np.asarray(marked.dataobj) == 1]
    assert z.min() > Z_THRESHOLD and z.mean() == pytest.approx(first["mean"], abs=0.1)
    own = hu[np.asarray(marked.dataobj) == 1]
    assert (own > peak).mean() <= 0.01 <= (own >= peak).mean()
    assert peak == pytest.approx(
        30 + 37, abs=12
    )  # the ball's 30 HU over white and grey matter, noise of 4 HU
    with (finished_z_run / "handoff" / "findings.csv").open(newline="") as table:
        rows = [row for row in csv.DictReader(table) if row["participant_id"] == "sub-high"]
    assert rows[0]["peak_hu"] == str(peak)


def test_plain_residual_stays_in_hu(finished_run):
    record = read_json(finished_run / "handoff" / "patients" / "sub-high" / "patient.json")
    assert (record["unit"], record["threshold"], record["score_name"]) == ("HU", 9.6, "thesis")
    first = record["findings"][0]
    text = page_of(finished_run, "sub-high")
    assert f"mean {first['mean']:+.0f}, peak {first['peak']:+.0f} HU" in text
    assert "standard deviations" not in text and "what the model expects, inside" in text


def test_healthy_picture_comes_from_the_networks(finished_run, finished_z_run):
    """It shows HU whatever the map is; here the mean of all networks is that of the one."""
    pictures = [
        re.search(r'id="data-expected">([^<]+)<', page_of(run, "sub-high")).group(1)
        for run in (finished_run, finished_z_run)
    ]
    assert pictures[0] == pictures[1]
    assert "what the networks expect on average, inside" in page_of(finished_z_run, "sub-high")


def test_mean_of_networks_leaves_out_what_is_none(tmp_path):
    maps = {"a/seed-0": 1, "a/seed-1": 3, "b/seed-0": 8, "statistical_atlas": 100}
    np.savez(tmp_path / "maps.npz", **{k: np.full(4, v, np.float16) for k, v in maps.items()})
    for method, expected in (("fused", 4), ("statistical_atlas", 4), ("a", 2)):
        np.testing.assert_array_equal(
            read_residual(tmp_path / "maps.npz", method, any_network=True), expected
        )
    with pytest.raises(KeyError, match="fused"):
        read_residual(tmp_path / "maps.npz", "fused")


@pytest.mark.parametrize("mode", ["thesis", "calibrated"])
def test_texts_and_summary_tell_the_mode(mode, request):
    out = request.getfixturevalue("finished_run" if mode == "thesis" else "finished_z_run") / "handoff"
    guide, methods = (" ".join((out / n).read_text("utf-8").split()) for n in ("README.txt", "methods.txt"))
    summary = read_json(out / "summary.json")
    Draft202012Validator(json.loads((DOCS / "handoff_summary.schema.json").read_text())).validate(summary)
    scored = [s for s in summary["scans"] if s["status"] == "scored"]
    assert {s["score_name"] for s in scored} == {mode}
    if mode == "thesis":
        assert "differences to the model's reconstruction, in HU" in guide and "model expects it in" in guide
        assert "network's reconstruction, averaged over seeds" in methods and "z score" not in methods
        assert "Fused" not in methods
    else:
        assert "standard deviations (SD) of healthy scans" in guide and "networks expect it, on" in guide
        assert "by Statistical atlas, VAE with pretraining, as a z score" in methods
        assert "was trained on healthy scans only" in methods
        assert summary["method"] == "statistical atlas and networks together"


def test_slider_meets_the_calibrated_threshold():
    """A browser moves the handle to the nearest step, counted from the lowest value."""
    for threshold, span in ((2.72, 12), (9.6, 80), (37.87, 80), (0.43, 1)):
        made = slider(threshold, span)
        steps = (threshold - made["min"]) / made["step"]
        assert steps == pytest.approx(round(steps), abs=1e-9) and 0 <= made["min"] < 0.1


def test_score_that_is_not_there_is_named(tmp_path):
    write_shared(tmp_path, {"sub-a": "test"})
    write_subject(tmp_path, "sub-a", shape=(40, 40, 12), zooms=(5.0, 5.0, 14.0))
    main(arguments(tmp_path, "sub-a", method="statistical_atlas", score="calibrated"))
    (reason,) = read_json(tmp_path / "handoff" / "patients" / "sub-a" / "patient.json")["reasons"]
    assert "no calibrated score of statistical_atlas" in reason and str(tmp_path) not in reason


def test_single_network_may_draw_its_own_z(tmp_path):
    write_shared(tmp_path, {"sub-a": "test"})
    write_subject(tmp_path, "sub-a", shape=(40, 40, 12), zooms=(5.0, 5.0, 14.0))
    main(arguments(tmp_path, "sub-a", method=METHOD, score="calibrated"))
    record = read_json(tmp_path / "handoff" / "patients" / "sub-a" / "patient.json")
    assert (record["unit"], record["threshold"], record["score"]) == ("SD", 1.5, 3.2)


def test_unsure_sides_are_said_on_the_page(tmp_path):
    """With the words that the import itself writes."""
    x, y, z = (np.indices((60, 60, 30)) - np.array([30, 30, 15]).reshape(3, 1, 1, 1)) * 5
    far = np.sqrt(x**2 + y**2 + z**2)
    head = np.where(far < 70, 35, np.where(far < 78, 1000, -1000)).astype(np.int16)
    image = nib.Nifti1Image(head, None)
    image.header.set_zooms((5.0, 5.0, 5.0))
    image.set_sform(None, 0)
    image.set_qform(None, 0)
    (tmp_path / "in").mkdir()
    nib.save(image, tmp_path / "in" / "ct.nii.gz")
    run_import("sub-a", tmp_path / "in" / "ct.nii.gz", None, tmp_path / "imported")
    repairs = read_json(tmp_path / "imported" / "import.json")["repairs"]
    assert side_warnings({"repairs": repairs}) and side_warnings({"repairs": ["padding"]}) == []
    write_shared(tmp_path, {"sub-a": "test"})
    write_subject(tmp_path, "sub-a", shape=(40, 40, 12), zooms=(5.0, 5.0, 14.0))
    place = tmp_path / "cohort" / "sub-a" / "import.json"
    place.write_text(json.dumps(read_json(place) | {"repairs": repairs}))
    main(arguments(tmp_path, "sub-a"))
    assert "left and right are unsure" in page_of(tmp_path, "sub-a")
    record = read_json(tmp_path / "handoff" / "patients" / "sub-a" / "patient.json")
    assert "left and right are unsure" in record["out_of_scope"][0]


def test_model_of_synthetic_scans_is_named_on_every_page(tmp_path):
    """A bundle of the demo that scores real scans."""
    write_shared(tmp_path, {"sub-a": "unlabelled", "sub-b": "unlabelled"})
    write_subject(tmp_path, "sub-a", shape=(40, 40, 12), zooms=(5.0, 5.0, 14.0))
    write_aside(tmp_path, "sub-b", "no brain was found")
    real = {"synthetic": False, "trained_on_synthetic": True}
    for subject in ("sub-a", "sub-b"):
        main(arguments(tmp_path, subject, **Z_SETTINGS, **real))
    build(tmp_path, INDEX | Z_SETTINGS | real, [], None)
    out = tmp_path / "handoff"
    pages = [*out.rglob("*.html"), out / "README.txt", out / "methods.txt"]
    assert len(pages) == 5
    for page in pages:
        text = page.read_text("utf-8")
        assert UNTRAINED in text and "Synthetic data" not in text, page
    assert read_json(out / "summary.json")["trained_on_synthetic"] is True


def test_demo_says_so_without_the_second_banner(finished_z_run):
    assert UNTRAINED not in page_of(finished_z_run, "sub-high")
