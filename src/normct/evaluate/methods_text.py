"""The methods paragraph of a paper, generated from the settings that were run."""

from __future__ import annotations

from typing import Any

from normct.common.registry import METHODS, STAGE1

REFERENCES = {
    "thesis": "Venkatakrishnan AR. Self Supervised Out of Distribution Detection for Medical Applications. Master's "
    "thesis, TU München, 2020; Venkatakrishnan AR et al. arXiv:2011.05428, 2020.",
    "chen": "Chen L et al. Self-supervised learning for medical image analysis using image context restoration. "
    "Med Image Anal 58:101539, 2019.",
    "hendrycks": "Hendrycks D et al. Using self-supervised learning can improve model robustness and uncertainty. "
    "NeurIPS, 2019.",
    "zimmerer_kl": "Zimmerer D et al. Unsupervised anomaly localization using variational auto-encoders. MICCAI, 2019.",
    "zimmerer_ce": "Zimmerer D et al. Context-encoding variational autoencoder for unsupervised anomaly detection. "
    "MIDL, 2019.",
    "muschelli": "Muschelli J et al. Validated automatic brain extraction of head CT images. NeuroImage 114:379-385, 2015.",
    "ants": "Avants BB et al. A reproducible evaluation of ANTs similarity metric performance in brain image "
    "registration. NeuroImage 54:2033-2044, 2011.",
    "fonov": "Fonov V et al. Unbiased average age-appropriate atlases for pediatric studies. NeuroImage 54:313-327, 2011.",
    "efron": "Efron B, Tibshirani RJ. An Introduction to the Bootstrap. Chapman & Hall, 1993.",
    "baur": "Baur C et al. Autoencoders for unsupervised anomaly segmentation in brain MR images: a comparative study. "
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
    named = ", ".join(f"{METHODS[m].label} {_CITED[m]}" for m in methods)
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
    paragraphs = [
        f"Scans were resampled to {pre['resample']['spacing']:g} mm isotropic voxels with ANTs {{ants}}. The brain was "
        f"extracted by {_ENGINES[pre['skullstrip']['engine']]} and registered rigidly to {atlas} on a grid of 240 × 240 "
        f"× 155 voxels ({'nearest-neighbour' if nearest else 'linear'} interpolation). Axial slices with at least "
        f"{pre['slices']['min_brain_pixels']} brain pixels were used; {_SCALES[pre['slices']['normalisation']]}, and "
        "slices were resized to 128 × 128 pixels.",
        f"Following {{thesis}}, networks were trained on healthy scans only: {named}. Each was trained {runs} with Adam "
        f"(learning rate {train['learning_rate']:g}, batch size {train['batch_size']}), an equal number of gradient "
        f"steps, the learning rate multiplied by {train['plateau_factor']:g} after {train['plateau_patience']} epochs "
        f"without improvement and training stopped after {train['stop_patience']}, both judged on validation patients.",
        "A slice's anomaly score was the L2 norm of its reconstruction residual; with the multi-task head it was "
        f"(1 − λ) times {head} that the head gives the true transform, averaged over {given}, plus λ times the scaled "
        f"residual norm, with λ = {score['lambda']:g} {{thesis}}. Scales and thresholds came from healthy calibration "
        "patients used for nothing else. A scan's score was the mean over its usable slices. Baselines without a "
        "network (brain area, slice position, mean density, a voxel-wise statistical atlas, acquisition) were scored "
        "alongside, their directions fixed beforehand.",
        f"Splits were by patient. {counted}. AUROC and average precision are given as mean and SD over seeds, with 95 % "
        f"percentile intervals from {ev['bootstrap']} bootstrap draws of patients {{efron}} within strata (healthy and "
        "each pathology), the same draws for every method. Dice was computed on the 1 mm grid, thresholding the "
        f"residual at a voxel-wise false-positive rate of {score['voxel_fpr']:g} on healthy calibration scans, and at "
        "the best possible single threshold {baur} as a ceiling.",
    ]
    if settings["synthetic"]:
        paragraphs.insert(
            0, "All scans were synthetic, generated from the tissue maps of the MNI152 template {fonov}."
        )
    scale = {"low": f"{low:g}", "high": f"{high:g}"}
    cite.update(scale)
    text = [paragraph.format_map(cite) for paragraph in paragraphs]
    return text, [f"[{i}] {REFERENCES[key]}" for i, key in enumerate(cite.order, start=1)]


def _needs_stage1(methods: list[str]) -> bool:
    return any(METHODS[m].pretrained for m in methods if m in METHODS)
