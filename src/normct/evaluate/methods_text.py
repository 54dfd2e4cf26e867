"""The methods paragraph of a paper, generated from the settings that were run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from normct.common.registry import METHODS, STAGE1

REFERENCES = {
    "thesis": "Venkatakrishnan AR. Self Supervised Out of Distribution Detection for Medical Applications. "
    "Master's "
    "thesis, TU München, 2020; Venkatakrishnan AR et al. arXiv:2011.05428, 2020.",
    "chen": "Chen L et al. Self-supervised learning for medical image analysis using image context "
    "restoration. "
    "Med Image Anal 58:101539, 2019.",
    "hendrycks": "Hendrycks D et al. Using self-supervised learning can improve model robustness and "
    "uncertainty. "
    "NeurIPS, 2019.",
    "zimmerer_kl": "Zimmerer D et al. Unsupervised anomaly localization using variational auto-encoders. "
    "MICCAI, 2019.",
    "zimmerer_ce": "Zimmerer D et al. Context-encoding variational autoencoder for unsupervised anomaly "
    "detection. "
    "MIDL, 2019.",
    "muschelli": "Muschelli J et al. Validated automatic brain extraction of head CT images. NeuroImage "
    "114:379-385, 2015.",
    "ants": "Avants BB et al. A reproducible evaluation of ANTs similarity metric performance in brain image "
    "registration. NeuroImage 54:2033-2044, 2011.",
    "fonov": "Fonov V et al. Unbiased average age-appropriate atlases for pediatric studies. NeuroImage "
    "54:313-327, 2011.",
    "efron": "Efron B, Tibshirani RJ. An Introduction to the Bootstrap. Chapman & Hall, 1993.",
    "baur": "Baur C et al. Autoencoders for unsupervised anomaly segmentation in brain MR images: a "
    "comparative study. "
    "Med Image Anal 69:101952, 2021.",
}

_ENGINES = {
    "fsl": "FSL's BET with the CT recipe of Muschelli et al. {muschelli}",
    "brainextractor": "BET (in Python) with the CT recipe of Muschelli et al. {muschelli}",
    "morphology": "CT morphology (thresholds inside the skull, opening, largest component, closing)",
}
_SCALES = {
    "window": "a fixed window of {low} to {high} HU was mapped to [0, 1]",
    "volume": "intensities were scaled to [0, 1] by the minimum and maximum of each volume",
    "slice": "intensities were scaled to [0, 1] by the minimum and maximum of each slice",
}
_FUSED = {"statistical_atlas": "the statistical atlas", "networks": "all networks (their mean)"}
_CITED = {
    STAGE1: "{chen}",
    "vae_kl": "{zimmerer_kl}",
    "cevae": "{zimmerer_ce}",
    "vae_pretrained": "{thesis}",
    "multitask_pretrained": "{thesis}{hendrycks}",
}


class _Citations(dict[str, str]):
    """Numbers references in the order in which the text first names them."""

    def __init__(self) -> None:
        super().__init__()
        self.order: list[str] = []

    def __missing__(self, key: str) -> str:
        if key not in self.order:
            self.order.append(key)
        return f"[{self.order.index(key) + 1}]"

    def nested(self) -> _Kept:
        """Return the values alone; citations stay as they are for the second pass."""
        return _Kept(self)


class _Kept(dict[str, str]):
    """Leaves a name it does not know in its braces."""

    def __missing__(self, key: str) -> str:
        return "{" + key + "}"


def methods_text(settings: dict[str, Any]) -> tuple[list[str], list[str]]:
    """Return paragraphs and the numbered references they cite.

    Parameters
    ----------
    settings : dict
        ``synthetic`` and the config's sections ``preprocess``, ``train``, ``score``, ``evaluate``.
    """
    cite = _Citations()
    pre, train, score, ev = (settings[name] for name in ("preprocess", "train", "score", "evaluate"))
    low, high = pre["slices"]["window"]
    atlas = (
        "the MNI152 template in CT contrast {fonov}"
        if pre["register"]["atlas"] is None
        else "the study's own atlas"
    )
    nearest = pre["register"]["interpolation"] == "nearestNeighbor"
    methods = [
        m for m in METHODS if m in train["methods"] or (m == STAGE1 and _needs_stage1(train["methods"]))
    ]
    named = ", ".join(f"{METHODS[m].label} {_CITED.get(m, f'({METHODS[m].citation})')}" for m in methods)
    seeds = train["seeds"]
    runs = f"with {len(seeds)} random seeds" if len(seeds) > 1 else "with one random seed"
    head = "one minus the probability" if score["head"]["anomaly"] == "1-p" else "the probability"
    given = {
        "dozen": "twelve balanced transforms",
        "all": "all 36 transforms",
        "identity": "the untransformed slice",
    }[score["transforms"]]
    counted = (
        "Blank slices were left out"
        if ev["slices"] == "usable"
        else "All 155 slices of a volume were counted"
    )
    folds = score.get("cross_fit", 0)
    crossed = "on whom no network was trained"
    if folds:
        crossed += (
            f" and from the training patients, cross-fitted in {folds} folds (each scored by networks and an atlas"
            " that had not learnt from that patient)"
        )
    calibrated = score["calibrated"]
    maps = ["the scan's median was subtracted"] if calibrated["centre"] else []
    if calibrated["components"]:
        maps.append(
            f"the first {calibrated['components']} principal components of the early-stopping scans' maps (no more than"
            " one for three of these scans) were removed"
        )
    equal = all(train[name]["epochs"] is None for name in ("vae_kl", "cevae"))
    cite.update(
        low=f"{low:g}",
        high=f"{high:g}",
        spacing=f"{pre['resample']['spacing']:g}",
        engine=_ENGINES[pre["skullstrip"]["engine"]],
        atlas=atlas,
        interpolation="nearest-neighbour" if nearest else "linear",
        min_pixels=str(pre["slices"]["min_brain_pixels"]),
        scaled=_SCALES[pre["slices"]["normalisation"]],
        networks=named,
        runs=runs,
        rate=f"{train['learning_rate']:g}",
        batch=str(train["batch_size"]),
        steps=", an equal number of gradient steps for every method" if equal else "",
        factor=f"{train['plateau_factor']:g}",
        plateau=str(train["plateau_patience"]),
        stop=str(train["stop_patience"]),
        head=head,
        given=given,
        weight=f"{score['lambda']:g}",
        crossed=crossed,
        counted=counted,
        draws=str(ev["bootstrap"]),
        fpr=f"{score['voxel_fpr']:g}",
        axial=f"{calibrated['smooth_mm']['axial']:g}",
        in_plane=f"{calibrated['smooth_mm']['in_plane']:g}",
        prior=f"{calibrated['prior_scans']:g}",
        maps="".join(f"; {step}" for step in maps),
        pooled=f"{100 * calibrated['pool_share']:g}",
        slices=f"{calibrated['slice_smooth_mm']:g}",
        highest=f"{100 * calibrated['volume_share']:g}",
        fused=_listed([_FUSED.get(name) or METHODS[name].label for name in score["fusion"]]),
    )
    template = (Path(__file__).parent / "templates" / "methods.txt").read_text("utf-8")
    paragraphs = [line for line in template.split("\n") if line]
    if not settings["synthetic"]:
        paragraphs = paragraphs[1:]
    # values may themselves cite, so a second pass fills what the first one brought in
    text = [paragraph.format_map(cite.nested()).format_map(cite) for paragraph in paragraphs]
    return text, [f"[{i}] {REFERENCES[key]}" for i, key in enumerate(cite.order, start=1)]


def _listed(names: list[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def _needs_stage1(methods: list[str]) -> bool:
    return any(METHODS[m].pretrained for m in methods if m in METHODS)
