from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest
import yaml
from evaluate_case import Scan, write_cohort

from conftest import Path, run_all
from normct.evaluate import sentences, sentences_beyond

HOSTILE = "<script>alert(1)</script>|x"


@pytest.fixture(scope="module")
def page(evaluated) -> str:
    return (evaluated / "report.html").read_text("utf-8")


def test_page_is_self_contained_and_scriptless(page):
    assert "Content-Security-Policy" in page
    assert "default-src &#39;none&#39;" in page or "default-src 'none'" in page
    assert "<script" not in page
    sources = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert sources
    assert all(source.startswith(("data:image/", "#")) for source in sources)
    assert len(re.findall(r'src="data:image/', page)) == 12  # three pathologies need one sample figure


def test_page_says_what_it_must(page):
    for text in (
        "Synthetic cohort",
        "A program generated these scans",
        "Research use only",
        "Statistical atlas",
        "Brain area",
        "brain volume 300 mL.",
        "In-house data of the thesis",
        "0.652",
        "⌈Dice⌉",
        "Prevalence",
        "bootstrap",
        "Lesions found in the calibrated map (FROC)",
        "Scanner: A",
        "Ischemia: lacunar",
        "Leak check: none of",
        "head alone",
        "SD over seeds",
        "Among healthy scans",
    ):
        assert text in page, text
    rows = re.findall(r'<tr[^>]*><th scope="row">VAE-KL</th>(.*?)</tr>', page)
    assert len(rows) >= 5


def test_real_cohort_has_no_synthetic_note(scored, tmp_path):
    from normct.evaluate.content import sections
    from normct.evaluate.report import TABLES
    from normct.evaluate.tables import read_csv

    tables = {name: read_csv(scored / "evaluate" / f"{name}.csv") for name in TABLES}
    settings = {"synthetic": False, **config_sections()}
    found = sections(tables, settings)
    assert not [t.caption for section in found for t in section.tables if "ynthetic" in t.caption]
    titles = [section.title for section in found]
    assert "Synthetic cohort" not in titles
    assert titles[0] == "What the numbers say" or titles[0] == "Confound alarm"


def test_every_table_of_a_synthetic_cohort_says_so(evaluated):
    page = (evaluated / "summary.md").read_text("utf-8")
    tables = page.count("\n|---")
    assert tables > 10
    assert page.count("ynthetic cohort: the ranking may differ on patients.") == tables
    html = (evaluated / "report.html").read_text("utf-8")
    captions = re.findall("<caption>(.*?)</caption>", html)
    assert len(captions) == tables
    assert all(c.endswith("ynthetic cohort: the ranking may differ on patients.") for c in captions)


def test_hostile_pathology_label_is_escaped_everywhere(tmp_path):
    scans = [
        Scan("sub-c0", "healthy", role="calibrate"),
        Scan("sub-h0", "healthy"),
        Scan("sub-h1", "healthy"),
    ]
    scans += [Scan(f"sub-a{i}", "abnormal", HOSTILE, mask=True) for i in range(2)]
    out = run_all(write_cohort(tmp_path, scans), title="<b>Own</b>")
    html, summary = (out / "report.html").read_text("utf-8"), (out / "summary.md").read_text("utf-8")
    assert "<script" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;|x" in html
    assert "<b>Own" not in html
    assert "<script" not in summary
    assert "&lt;script&gt;alert(1)&lt;/script&gt;\\|x" in summary  # a bare | would add a column
    lines = summary.split("\n")
    start = next(i for i, line in enumerate(lines) if line.startswith("| Method | &lt;script"))
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines[start : start + 4]} == {3}


def test_figures_repeat_byte_for_byte(scored, evaluated, tmp_path):
    from normct.evaluate import curves, style
    from normct.evaluate.tables import read_csv

    style.use()
    style.save(curves.cohort_figure(read_csv(evaluated / "cohort.csv")), tmp_path, "figure_4_1_cohort")
    for suffix in (".png", ".svg"):
        name = f"figure_4_1_cohort{suffix}"
        assert (tmp_path / name).read_bytes() == (evaluated / name).read_bytes()
    assert "<dc:date>" not in (evaluated / "figure_6_1_roc.svg").read_text()


def test_losses_are_drawn_from_epoch_1_to_the_last(scored):
    from normct.evaluate import losses

    figure = losses.loss_figure(losses.read_histories(scored / "train", ["vae_kl/seed-0"]))
    for drawn in figure.axes[0].lines:
        epochs = np.asarray(drawn.get_xdata())
        assert (epochs[0], epochs[-1]) == (1, 6)


def test_last_steps_of_validation_loss_stand_in_the_legend():
    from normct.evaluate import losses

    table = pd.DataFrame({"epoch": [1, 2, 3, 4, 5], "val_loss": [8.0, 4.0, 2.0, 1.9, 1.9]})
    short = pd.DataFrame({"epoch": [1], "val_loss": [3.0]})
    figure = losses.validation_figure({"vae_kl": {"0": table, "1": short}})
    texts = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert texts == ["seed 0: −50.0, −5.0, +0.0 %", "seed 1"]


def test_radiological_convention():
    from normct.evaluate.panels import radiological

    image = np.zeros((4, 6))
    image[3, 0] = 1  # front, patient's left
    assert radiological(image)[0, 5] == 1  # top right of the picture


def test_sample_is_the_scan_of_median_lesion(scored, collected):
    from normct.evaluate.data import accepted_test, read_cohort, read_slice_scores
    from normct.evaluate.panels import representative, take_sample

    scans = accepted_test(read_cohort(collected))
    chosen = representative(read_slice_scores(collected, scans, "all").units)
    assert representative(read_slice_scores(collected, scans).units) == chosen
    assert representative(read_slice_scores(collected, scans[:0]).units) == []
    assert chosen[1:] == ["sub-a3"]
    assert chosen[0] in {"sub-a0", "sub-a1", "sub-a2"}
    folders = [scored / name for name in ("score/maps", "preprocess", "score/calibrated")]
    sample = take_sample(chosen[0], "icb", *folders, {"fused": 3.0})
    assert sample.z == 80
    inside = sample.residuals["vae_kl"][sample.lesion].mean()
    assert inside > 3 * sample.residuals["vae_kl"][sample.brain & ~sample.lesion].mean()
    assert (sample.z_name, sample.threshold) == ("fused", 3.0)
    assert (
        (sample.z_map[sample.lesion] > 3).mean()
        > 0.8
        > 0.1
        > (np.abs(sample.z_map[~sample.lesion]) > 3).mean()
    )


def config_sections() -> dict:
    config = yaml.safe_load((Path(__file__).resolve().parents[2] / "config.yaml").read_text("utf-8"))
    return {name: config[name] for name in ("preprocess", "train", "score", "evaluate")}


def summary_rows(**auroc: float) -> pd.DataFrame:
    rows = []
    for protocol in ("slice_healthy", "volume"):
        for method, value in auroc.items():
            rows.append(
                {
                    "protocol": protocol,
                    "method": method,
                    "members": "single",
                    "n_seeds": 1,
                    "auroc_mean": value,
                    "score": "thesis" if method in {"vae_kl", "vae_pretrained"} else "trivial",
                    "auroc_low": np.nan,
                    "auroc_high": np.nan,
                    "n_pos": 5,
                    "n_neg": 4,
                    "note": "",
                }
            )
    return pd.DataFrame(rows)


PAIRED = pd.DataFrame(
    columns=["protocol", "method", "score", "members", "against", "auroc_low", "auroc_high"]
)


def test_sentences_state_what_the_numbers_say():
    worse = sentences.against_trivial(summary_rows(vae_kl=0.6, brain_area=0.62), PAIRED, "slice_healthy")
    assert "no network beats brain area on this cohort" in worse
    better = sentences.against_trivial(summary_rows(vae_kl=0.7, brain_area=0.62), PAIRED, "slice_healthy")
    assert "0.080 above" in better
    assert "not established" in better
    pair = pd.DataFrame(
        [
            {
                "protocol": "slice_healthy",
                "method": "vae_kl",
                "score": "thesis",
                "members": "single",
                "against": "trivial",
                "auroc_low": 0.01,
                "auroc_high": 0.15,
            }
        ]
    )
    sure = sentences.against_trivial(summary_rows(vae_kl=0.7, brain_area=0.62), pair, "slice_healthy")
    assert "excludes zero" in sure


def acquired(value: float, p: float, abnormal: int, healthy: int) -> pd.DataFrame:
    row = {"check": "acquisition", "value": value, "value_low": np.nan, "value_high": np.nan, "p_value": p}
    return pd.DataFrame([row | {"n_group": abnormal, "n_others": healthy}])


@pytest.mark.parametrize(
    ("value", "p", "abnormal", "alarm", "words"),
    [
        (0.95, 0.004, 5, True, "Confound alarm"),
        (0.714, 0.3, 7, False, "beyond chance"),  # four healthy scans: no wolf
        (1.0, 0.333, 2, False, "Too few scans"),  # whatever they show
        (0.1, 0.01, 9, True, "healthy scans are the unusual ones"),
        (np.nan, np.nan, 5, False, "could not be tested"),
    ],
)
def test_confound_alarm(value, p, abnormal, alarm, words):
    text, raised = sentences_beyond.confound(acquired(value, p, abnormal, 2 if abnormal == 2 else 4))
    assert raised is alarm
    assert words in text


def test_alarm_leads_the_page(evaluated):
    from normct.evaluate.content import sections
    from normct.evaluate.report import TABLES
    from normct.evaluate.tables import read_csv

    tables = {name: read_csv(evaluated / f"{name}.csv") for name in TABLES}
    table = tables["confound"]
    table.loc[table["check"] == "acquisition", ["value", "p_value"]] = [0.97, 0.01]
    found = sections(tables, {"synthetic": False, **config_sections()})
    assert found[0].title == "Confound alarm"
    assert found[0].alarm


def test_every_way_of_scoring_has_its_table_and_sentence(evaluated):
    page = (evaluated / "summary.md").read_text("utf-8")
    table = page.split("The same maps with the thesis's score")[1].split("\n\n")[1]
    for name in ("VAE-KL", "VAE with pretraining", "Statistical atlas", "Fused"):
        assert f"| {name} |" in table
    cells = next(line for line in table.splitlines() if line.startswith("| Fused")).split("|")
    assert cells[2].strip() == "–"
    assert float(cells[3].split()[0]) > 0.5
    for words in (
        "Calibrated scoring, slice-wise",
        "to the atlas",
        "calibrated map |z|",
        "Calibrated scores: AUROC",
    ):
        assert words in page.replace("\\|", "|")
