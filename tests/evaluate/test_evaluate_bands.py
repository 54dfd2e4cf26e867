from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import precision_recall_curve, roc_curve

from normct.evaluate import bands, curves, protocols
from normct.evaluate.data import of_matrix
from normct.evaluate.metrics import draw_patients


def scans(healthy: int, abnormal: int) -> pd.DataFrame:
    """One scan a patient."""
    group = ["healthy"] * healthy + ["abnormal"] * abnormal
    names = [f"p{i:02d}" for i in range(len(group))]
    table = pd.DataFrame({"participant_id": names, "patient": names, "group": group, "has_lesion_mask": True})
    return table.assign(pathology=np.where(table["group"] == "healthy", "n/a", "icb"))


@pytest.mark.parametrize("kind", ["roc", "pr"])
def test_a_draw_is_the_weighted_curve(kind):
    rng = np.random.default_rng(1)
    positive, patient = rng.random(400) < 0.4, rng.integers(0, 40, 400)
    values = np.round(rng.standard_normal(400) + positive, 1)  # with ties
    count = rng.poisson(1, 40)
    weight = count[patient]
    if kind == "roc":
        x, y, _ = roc_curve(positive, values, sample_weight=weight)
        expected = np.interp(bands.GRID, x, y)
    else:
        precision, recall, _ = precision_recall_curve(positive, values, sample_weight=weight)
        expected = [precision[np.flatnonzero(recall >= max(r, 1e-9) - 1e-12)[-1]] for r in bands.GRID]
    found = bands.Sorted(values, positive, patient).curve(kind, count)
    np.testing.assert_allclose(found, expected, atol=1e-9)


def test_band_holds_the_curve_and_is_narrower_with_more_patients():
    widths = []
    for n in (20, 200):
        table = scans(n, n)
        strata = protocols.make_strata(table)
        classes, patient = protocols.classes(table, "volume"), strata.code(table)
        rng = np.random.default_rng(2)
        seeds = [rng.standard_normal(2 * n) + classes for _ in range(2)]
        counts = draw_patients(strata.stratum, 100, 0)
        for kind in ("roc", "pr"):
            found = bands.band(kind, seeds, classes, patient, counts)
            assert found is not None
            ones = np.ones((1, 2 * n))
            exact = bands.band(kind, seeds, classes, patient, ones.astype(np.uint16))
            assert exact is not None
            inside = (found[0] <= exact[0] + 1e-9) & (exact[0] <= found[1] + 1e-9)
            assert inside.mean() > 0.95
        widths.append((found[1] - found[0]).mean())
    assert widths[1] < 0.6 * widths[0]


def figure_of(healthy: int, abnormal: int):
    """ROC figure of two networks, the atlas and fused, one seed each; returns the panels of whole scans."""
    table = scans(healthy, abnormal)
    sick = (table["group"] == "abnormal").to_numpy(float)
    columns = [("vae_kl", "thesis", "0"), ("cevae", "thesis", "0")]
    columns += [("statistical_atlas", "trivial", "n/a"), ("brain_area", "trivial", "n/a")]
    columns += [("vae_kl", "calibrated", "0"), ("cevae", "calibrated", "0")]
    columns += [("statistical_atlas", "calibrated", "n/a"), ("fused", "fused", "0")]
    values = np.random.default_rng(0).standard_normal((len(table), len(columns))) + sick[:, None]
    summary = pd.DataFrame(columns, columns=["method", "score", "seed"])
    figures = [0.6, 0.8, 0.7, 0.6, 0.85, 0.75, 0.8, 0.9]
    summary = summary.assign(protocol="volume", members="single", auroc_mean=figures)
    strata = protocols.make_strata(table)
    counts = draw_patients(strata.stratum, 100, 0)
    nothing = of_matrix(pd.DataFrame(), [], np.zeros((0, 0)))
    figure = curves.detection_figure(
        "roc", nothing, of_matrix(table, columns, values), summary, strata, counts
    )
    return figure.axes[-2:]


def legend_of(axes) -> list[str]:
    """Legend lines of a panel, the line of chance left out."""
    return [text.get_text() for text in axes.get_legend().get_texts()[:-1]]


def test_plain_scores_stand_left_and_calibrated_ones_right():
    plain, calibrated = figure_of(8, 6)
    assert plain.get_title().endswith("plain scores")
    assert legend_of(plain) == ["VAE-KL 0.600", "ceVAE 0.800", "Brain area 0.600", "Statistical atlas 0.700"]
    assert calibrated.get_title().endswith("calibrated scores")
    assert legend_of(calibrated) == ["VAE-KL 0.850", "ceVAE 0.750", "Fused 0.900", "Statistical atlas 0.800"]


def test_one_seed_has_bands_for_the_best_network_the_atlas_and_fused():
    from matplotlib.colors import to_rgb

    from normct.evaluate.style import line

    plain, calibrated = figure_of(8, 6)
    for axes, methods in (
        (plain, ("cevae", "statistical_atlas")),
        (calibrated, ("vae_kl", "statistical_atlas", "fused")),
    ):
        found = {to_rgb(band.get_facecolor()[0][:3]) for band in axes.collections}
        assert found == {to_rgb(line(m)["color"]) for m in methods}


@pytest.mark.parametrize(("healthy", "abnormal"), [(1, 6), (6, 1)])
def test_no_band_over_a_single_patient(healthy, abnormal):
    for axes in figure_of(healthy, abnormal):
        assert not axes.collections
        assert len(axes.lines) == 5
