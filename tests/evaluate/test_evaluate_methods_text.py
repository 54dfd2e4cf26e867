"""The methods text says what the merged configuration says, claims nothing that was not run, and cites whole."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from snakemake.utils import update_config

from normct.common.cautions import EXPOSED
from normct.common.config import flatten
from normct.common.registry import METHODS, STAGE1
from normct.evaluate.methods_text import KL_GRADIENT, methods_text
from normct.evaluate.references import CITED, REFERENCES
from normct.score.kl_gradient import METHODS as KL_GRADIENT_METHODS

REPOSITORY = Path(__file__).resolve().parents[2]
SECTIONS = ("preprocess", "train", "score", "evaluate")
# key -> another value than the merged configuration's
OTHER: dict[str, Any] = {
    "preprocess.resample.spacing": 0.5,
    "preprocess.skullstrip.engine": "fsl",
    "preprocess.register.atlas": {"image": "a.nii.gz", "mask": "m.nii.gz"},
    "preprocess.register.interpolation": "nearestNeighbor",
    "preprocess.register.second_pass": True,
    "preprocess.slices.normalisation": "slice",
    "preprocess.slices.window": [0, 100],
    "preprocess.slices.min_brain_pixels": 20,
    "train.methods": ["vae_kl"],
    "train.seeds": [0, 1, 2],
    "train.learning_rate": 0.01,
    "train.batch_size": 7,
    "train.gradient_clip": 0.3,
    "train.plateau_factor": 0.7,
    "train.plateau_patience": 0,
    "train.stop_patience": 3,
    "train.network": {"width": 32, "latent": 128},
    "train.context_restoration.epochs": 77,
    "train.vae.epochs": 77,
    "train.multitask.epochs": 77,
    "train.vae_kl.epochs": 77,
    "train.cevae.epochs": 77,
    "score.lambda": 0.7,
    "score.transforms": "all",
    "score.head.combine": "product",
    "score.head.anomaly": "p",
    "score.voxel_fpr": 0.05,
    "score.statistical_atlas.prior_scans": 9,
    "score.statistical_atlas.sd_floor": 0.09,
    "score.calibrated.smooth_mm.axial": 9,
    "score.calibrated.smooth_mm.in_plane": 9,
    "score.calibrated.prior_scans": 9,
    "score.calibrated.band_mm": 9,
    "score.calibrated.use_stop": False,
    "score.calibrated.components": 0,
    "score.calibrated.centre": False,
    "score.calibrated.pool_share": 0.09,
    "score.calibrated.position_mm": 9,
    "score.calibrated.slice_smooth_mm": 9,
    "score.calibrated.volume_share": 0.9,
    "score.cross_fit": 5,
    "score.fusion": ["statistical_atlas", "denoising"],
    "evaluate.slices": "all",
    "evaluate.bootstrap": 99,
    "evaluate.specificities": [0.8],
}


# keys of a method's section that no reader of a paper asks for
UNSAID = {"train.vae_dropout.passes": "stands with the uncertainty"}
VERSIONS = {"python": "3.11.7", "normct": "0.1.0", "torch": "2.13.0+cpu", "antspyx": "0.6.3", "numpy": "2.3.5",
            "fsl": "6.0.7", "dcm2niix": "not installed"}  # fmt: skip


def counted(
    group: str, pathology: str, role: str, scans: int, patients: int, aside: int = 0
) -> dict[str, Any]:
    """A row of ``cohort.csv``."""
    own = {"group": group, "pathology": pathology, "role": role, "scans": scans, "patients": patients}
    return own | {"with_lesion_mask": scans, "set_aside": aside}


COUNTS = [
    counted("healthy", "n/a", "train", 48, 45),
    counted("healthy", "n/a", "stop", 16, 16),
    counted("healthy", "n/a", "calibrate", 24, 24),
    counted("healthy", "n/a", "test", 40, 38, 2),
    counted("abnormal", "icb", "test", 12, 12),
    counted("abnormal", "SAH", "test", 5, 4),
    counted("unlabelled", "n/a", "unlabelled", 99, 99, 9),
]


def settings(*configs: str, synthetic: bool = False) -> dict[str, Any]:
    config = yaml.safe_load((REPOSITORY / "config.yaml").read_text("utf-8"))
    for name in configs:
        update_config(config, yaml.safe_load((REPOSITORY / "configs" / name).read_text("utf-8")))
    return {"synthetic": synthetic, **{name: config[name] for name in SECTIONS}}


def changed(key: str, value: Any) -> dict[str, Any]:
    result = copy.deepcopy(settings())
    *path, last = key.split(".")
    section = result
    for name in path:
        section = section[name]
    assert section[last] != value
    section[last] = value
    return result


def said(chosen: dict[str, Any]) -> str:
    return "\n".join(methods_text(chosen)[0])


@pytest.mark.parametrize("key", OTHER)
def test_another_value_is_another_text(key):
    assert said(changed(key, OTHER[key])) != said(settings())


def test_every_key_of_calibration_registration_and_epochs_is_read():
    keys = {key for name in SECTIONS for key in flatten(settings()[name], f"{name}.")}
    read = ("score.calibrated.", "score.head.", "score.statistical_atlas.")
    wanted = {key for key in keys if key.startswith(read)}
    assert len(wanted) > 12
    assert wanted <= set(OTHER)


SECTIONS_OF_METHODS = [key for key in flatten(settings()["train"], "train.") if key.count(".") == 2]


@pytest.mark.parametrize(
    "key", [key for key in SECTIONS_OF_METHODS if key.split(".")[1] != "network" and key not in UNSAID]
)
def test_every_key_of_a_method_is_in_the_text_where_the_method_is_trained(key):
    chosen = changed("train.methods", list(METHODS))
    before = said(chosen)
    _, section, last = key.split(".")
    value = chosen["train"][section][last]
    chosen["train"][section][last] = (
        77 if value in (None, "auto") else value * 0.75 if value < 1 else value + 1
    )
    assert said(chosen) != before
    # and nowhere else
    chosen["train"]["methods"] = ["denoising" if section != "denoising" else "aae"]
    chosen["train"][section]["epochs"] = settings()["train"][section]["epochs"]
    alone = changed("train.methods", chosen["train"]["methods"])
    if last != "epochs" and section != "vae":
        assert said(chosen) == said(alone)


def test_cohort_is_counted_by_use():
    text = said(settings() | {"counts": COUNTS})
    assert "trained on 48 (45 patients) healthy scans. Another 16 decided when" in text
    assert "Another 24 were held out for scales" in text
    # without those set aside, whose patients are not known
    assert "held 38 healthy and 17 (16 patients) abnormal scans: 12 intracranial" in text
    assert "and 5 SAH. 2 further scans were set aside" in text
    assert "99" not in text
    without_stop = [row for row in COUNTS if row["role"] != "stop"]
    assert "decided when" not in said(settings() | {"counts": without_stop})
    for nothing in ([], [row for row in COUNTS if row["group"] == "unlabelled"]):
        assert said(settings() | {"counts": nothing}) == said(settings())


def test_software_is_what_it_is_given_and_the_engine_only_where_it_ran():
    chosen = settings() | {"versions": VERSIONS}
    last = methods_text(chosen)[0][-1]
    assert last == "The software was NormCT 0.1.0, Python 3.11.7, PyTorch 2.13.0 and ANTs (antspyx 0.6.3)."
    chosen["preprocess"]["skullstrip"]["engine"] = "fsl"
    assert "(antspyx 0.6.3) and FSL 6.0.7." in methods_text(chosen)[0][-1]
    # a pure function: another computer's report differs only by what it is given
    assert methods_text(chosen) == methods_text(copy.deepcopy(chosen))
    assert "software" not in said(settings())


@pytest.mark.parametrize(
    ("key", "value", "gained", "lost"),
    [
        ("preprocess.register.second_pass", True, "second rigid pass, to the mean of the registered training", ""),
        ("preprocess.skullstrip.engine", "fsl", "FSL's BET", "CT morphology"),
        ("preprocess.slices.normalisation", "slice", "maximum of each slice", "window of 0 to 80 HU was mapped"),
        ("score.calibrated.use_stop", False, "", "early-stopping scans added to the variance, never to the mean"),
        ("score.calibrated.position_mm", 9, "neighbourhood, SD 9 mm", "neighbourhood, SD 6 mm"),
        ("score.calibrated.components", 0, "", "principal components"),
        ("score.cross_fit", 5, "cross-fitted in 5 folds", "on whom no network was trained."),
        ("score.fusion", ["statistical_atlas", "denoising", "vae_kl"], "atlas, Denoising U-Net and VAE-KL.", ""),
        ("train.vae_kl.kl_weight", 0.5, "β = 0.5 (VAE-KL) and 0.0001 (ceVAE,", "β = 0.0001."),
        ("train.cevae.mixing", 0.25, "mixed this (weight 0.75) with", "(weight 0.5)"),
        ("train.multitask.epsilon", 50, "against these with ε = 50.", "over the first epoch"),
        ("train.methods", ["denoising"], "SD of 0.2 of the scaled intensities' range on a grid of 16 × 16", "Variational"),
        ("train.seeds", [0, 1, 2], "its SD over the networks of the different seeds", "one random seed"),
        ("train.methods", ["vae_dropout"], "of the VAE with dropout, the SD over 8 decodings", "KL-gradient"),
        ("train.methods", ["vae_variance"], "Of the VAE with variance", "multi-task head"),
        ("train.methods", ["vae_pretrained"], "scans only: Context restoration [", "Multi-task"),
        ("train.plateau_patience", 0, "after every epoch without improvement", "after more than"),
        ("train.multitask.epochs", 9, "9 epochs after those of context restoration", "an equal budget of gradient"),
        ("evaluate.specificities", [0.8, 0.9], "at the thresholds that 80 and 90 % of the healthy", "95 % of the"),
    ],
)  # fmt: skip
def test_a_clause_comes_and_goes_with_its_setting(key, value, gained, lost):
    before, after = said(settings()), said(changed(key, value))
    assert gained in after
    assert not gained or gained not in before
    assert not lost or lost in before
    assert not lost or lost not in after


def test_every_run_says_how_its_lesions_confounds_and_defaults_came_about():
    text = said(settings())
    assert "intersection over union was 0.1 or more and one lesion at most" in text
    assert "regions of at least 0.1 mL" in text
    assert "at 0.5, 1, 2 and 4 false regions a healthy test scan" in text
    assert "cubic spline with 6 knots" in text
    assert "fitted on all patients but one" in text
    assert EXPOSED in text
    assert "outlier-exposed" in EXPOSED
    assert "were synthetic" not in text
    assert "uncertainty" not in text  # one seed and no dropout
    assert "the ranking of methods may differ on patients" in said(settings(synthetic=True))


def test_detection_study_claims_no_method_that_it_did_not_train():
    text = said(settings("detection.yaml", synthetic=True))
    assert "ulti-task" not in text
    assert "ontext restoration" not in text
    assert "16 epochs (VAE-KL), 10 epochs (ceVAE) and 2 epochs (Denoising U-Net)" in text
    assert "second rigid pass" in text
    assert "(denoising U-Net: 8, no latent)" in text
    assert "equal budget" not in text
    assert "its SD over the networks" in text


@pytest.mark.parametrize("configs", [(), ("detection.yaml",), ("extended.yaml",)], ids="+".join)
@pytest.mark.parametrize("synthetic", [True, False])
def test_every_citation_has_its_reference(configs, synthetic):
    text, references = methods_text(
        settings(*configs, synthetic=synthetic) | {"counts": COUNTS, "versions": VERSIONS}
    )
    joined = "\n".join(text)
    cited = [int(n) for n in re.findall(r"\[(\d+)\]", joined)]
    assert list(dict.fromkeys(cited)) == list(range(1, len(references) + 1))  # in order of appearance
    assert [line.split("] ")[0] for line in references] == [f"[{i}" for i in range(1, len(references) + 1)]
    assert not re.search(r"\([^()]*(et al|(19|20)\d\d)", joined), "a source that is not numbered"
    assert not re.search(r"[{}]| [.,;]|\.\.|\n\n", joined)
    assert all(part.endswith(".") for part in text)


def test_every_method_and_every_reference_is_used():
    assert set(CITED) == set(METHODS)
    assert STAGE1 in CITED
    used = {line.split("] ", 1)[1] for line in methods_text(settings("extended.yaml", synthetic=True))[1]}
    used |= {
        line.split("] ", 1)[1] for line in methods_text(changed("preprocess.skullstrip.engine", "fsl"))[1]
    }
    assert used == set(REFERENCES.values())


def test_a_method_of_the_registry_alone_is_cited_as_it_stands_there(monkeypatch):
    monkeypatch.delitem(CITED, "cevae")
    text, references = methods_text(settings())
    number = re.search(r"ceVAE (\[\d+\])", "\n".join(text)).group(1)
    assert f"{number} {METHODS['cevae'].citation}." in references


def test_the_gradient_score_is_of_the_methods_that_have_it():
    assert KL_GRADIENT == KL_GRADIENT_METHODS
