"""One source of truth for names: methods, trivial baselines, protocols, pathologies, colours.

Tables, figures and the hand-off take names, order, labels and colours from here. A new method is one entry
here (what it is called), one network or objective (what it does) and a config section (how it is trained).
"""

from __future__ import annotations

from dataclasses import dataclass

THESIS = "Venkatakrishnan 2020, arXiv 2011.05428"


@dataclass(frozen=True)
class Method:
    """A trained method.

    Attributes
    ----------
    name : str
        Name in tables, paths and config (``train.methods``).
    section : str
        Its section of ``train:`` in the config.
    label : str
        Name in figures and pages.
    pretrained : bool
        Whether it starts from context restoration's weights of the same seed (stage 1).
    head : bool
        Whether it has the rotation and translation head, and so the score s_c.
    colour : str
        Okabe-Ito colour, told apart by the colour-blind.
    citation : str
        Source of the method.
    """

    name: str
    section: str
    label: str
    pretrained: bool
    head: bool
    colour: str
    citation: str


STAGE1 = "context_restoration"

METHODS: dict[str, Method] = {
    m.name: m
    for m in (
        Method("vae_kl", "vae_kl", "VAE-KL", False, False, "#E69F00", "Zimmerer et al., MICCAI 2019"),
        Method("cevae", "cevae", "ceVAE", False, False, "#56B4E9", "Zimmerer et al., MIDL 2019"),
        Method(STAGE1, STAGE1, "Context restoration", False, False, "#009E73", f"{THESIS}; Chen et al. 2019"),
        Method("vae_pretrained", "vae", "VAE with pretraining", True, False, "#0072B2", THESIS),
        Method(
            "multitask_pretrained", "multitask", "Multi-task with pretraining", True, True, "#D55E00", THESIS
        ),
        # beyond the thesis; colours the farthest from these for three kinds of sight
        Method(
            "denoising", "denoising", "Denoising U-Net", False, False, "#661100", "Kascenas et al., MIDL 2022"
        ),
        Method(
            "vae_variance",
            "vae_variance",
            "VAE with variance",
            False,
            False,
            "#9B30FF",
            "Kendall and Gal, NeurIPS 2017",
        ),
        Method(
            "vae_dropout",
            "vae_dropout",
            "VAE with dropout",
            False,
            False,
            "#DDCC77",
            "Gal and Ghahramani, ICML 2016",
        ),
        Method(
            "aae",
            "aae",
            "Adversarial autoencoder",
            False,
            False,
            "#332288",
            "Makhzani et al. 2015, arXiv 1511.05644",
        ),
        Method(
            "vae_flow",
            "vae_flow",
            "VAE with flow prior",
            False,
            False,
            "#882255",
            "Papamakarios et al., NeurIPS 2017; Chen et al., ICLR 2017",
        ),
        Method("beta_tcvae", "beta_tcvae", "β-TCVAE", False, False, "#117733", "Chen et al., NeurIPS 2018"),
        # the twin of the pretrained one: what pretraining is worth at equal steps
        Method("multitask", "multitask", "Multi-task without pretraining", False, True, "#AA4499", THESIS),
        # ablation of ε, the weight of the reconstruction beside the head's loss (appendix A.1)
        Method("multitask_epsilon_low", "multitask", "Multi-task, ε / 10", True, True, "#FDB863", THESIS),
        Method("multitask_epsilon_high", "multitask", "Multi-task, ε × 10", True, True, "#7F3B08", THESIS),
    )
}


@dataclass(frozen=True)
class Trivial:
    """A baseline that needs no network; its direction is fixed beforehand."""

    name: str
    label: str
    direction: str
    slice_score: bool = True
    volume_score: bool = True
    colour: str = "#7F7F7F"


TRIVIAL: dict[str, Trivial] = {
    t.name: t
    for t in (
        Trivial("brain_area", "Brain area", "larger = abnormal", colour="#999999"),
        Trivial(
            "slice_position",
            "Slice position",
            "nearer the slice of largest mean area = abnormal",
            volume_score=False,
            colour="#BBBBBB",
        ),
        Trivial(
            "mean_hu",
            "Mean HU",
            "farther from the healthy mean at that position = abnormal",
            colour="#666666",
        ),
        Trivial(
            "statistical_atlas",
            "Statistical atlas",
            "larger mean |x - mu| / sigma = abnormal",
            colour="#CC79A7",
        ),
        Trivial(
            "acquisition",
            "Acquisition",
            "farther from healthy training scans = abnormal",
            slice_score=False,
            colour="#444444",
        ),
    )
}

GROUPS = ("healthy", "abnormal", "unlabelled")
SPLITS = ("train", "val", "test")
# what a scan is used for: `val` is cut into early stopping and calibration, so that neither tunes the other
ROLES = ("train", "stop", "calibrate", "test", "unlabelled")

PROTOCOLS: dict[str, str] = {
    "slice_healthy": "Slices with lesion pixels against slices of healthy scans",
    "slice": "Slices with lesion pixels against all other slices",
    "clinical": "Every slice of an abnormal scan against slices of healthy scans",
    "volume": "Abnormal scans against healthy scans",
}

SCORES: dict[str, str] = {
    "thesis": "(1 - lambda) s_c + lambda s_r with a head, s_r without (thesis eq. 6.2)",
    "residual": "s_r alone",
    "head": "s_c alone",
    "kl_gradient": "sum of |residual| times |gradient of the KL| (Zimmerer et al., MICCAI 2019)",
    "variance": "mean of residual squared over variance in the brain, of a network that says its variance",
    "trivial": "baseline without a network",
    "calibrated": "residual as z against held-out healthy scans, pooled and standardised by position",
    "fused": "the same of statistical atlas and networks together",
}

FUSED = "fused"
"""Name in tables and files of statistical atlas and networks scored together (``score.fusion``)."""
FUSED_LABEL, FUSED_COLOUR = "Fused", "#000000"

POOL_SHARES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1)
"""Pooled whatever ``score.calibrated.pool_share`` is: going from one to another makes no z map anew."""

PATHOLOGIES: dict[str, str] = {
    "aneurysm": "Aneurysm",
    "atrophy": "Atrophy",
    "bleed": "Bleed (extra-axial)",
    "cavernoma": "Cavernoma",
    "icb": "Intracranial bleeding (intra-axial)",
    "ischemia": "Ischemia",
    "tumor": "Tumor",
}


def label(name: str) -> str:
    """Return the readable name of a method, baseline or pathology (a pathology of the user's own as it is)."""
    if name in METHODS:
        return METHODS[name].label
    if name in TRIVIAL:
        return TRIVIAL[name].label
    if name == FUSED:
        return FUSED_LABEL
    return PATHOLOGIES.get(name, name)


def colour(name: str) -> str:
    """Return the figure colour of a method or baseline."""
    if name == FUSED:
        return FUSED_COLOUR
    return (METHODS.get(name) or TRIVIAL[name]).colour
