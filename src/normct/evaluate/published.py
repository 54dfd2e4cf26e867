"""Figures that the thesis published, on in-house data: for orientation, never a target."""

from __future__ import annotations

from normct.common.registry import THESIS

SOURCE = f"{THESIS}; 30 healthy and 44 abnormal test volumes, not public"

DETECTION: dict[str, tuple[str, str, str, str, str]] = {
    "vae_kl": ("0.652", "0.668", "0.369", "0.704", "0.110 ± 0.021"),
    "cevae": ("0.741", "0.766", "0.471", "0.640", "0.112 ± 0.021"),
    "context_restoration": ("0.795", "0.636", "0.663", "0.758", "0.085 ± 0.024"),
    "vae_pretrained": ("0.803", "0.673", "0.638", "0.772", "0.112 ± 0.021"),
    "multitask_pretrained": ("0.783", "0.822", "0.646", "0.868", "0.086 ± 0.025"),
}
"""Slice AUROC, clinical AUROC, slice AUPR, clinical AUPR, Dice (tables 6.1 to 6.3)."""

PREVALENCE = {"slice": "0.301", "clinical": "0.587"}

PATHOLOGY: dict[str, dict[str, str]] = {
    "context_restoration": {
        "aneurysm": "0.841",
        "atrophy": "0.760",
        "bleed": "0.951",
        "cavernoma": "0.783",
        "icb": "0.915",
        "ischemia": "0.775",
        "tumor": "0.848",
    },
    "vae_pretrained": {
        "aneurysm": "0.895",
        "atrophy": "0.774",
        "bleed": "0.944",
        "cavernoma": "0.710",
        "icb": "0.910",
        "ischemia": "0.794",
        "tumor": "0.843",
    },
    "multitask_pretrained": {
        "aneurysm": "0.840",
        "atrophy": "0.760",
        "bleed": "0.956",
        "cavernoma": "0.583",
        "icb": "0.903",
        "ischemia": "0.788",
        "tumor": "0.828",
    },
}
"""Slice-wise AUROC (table 6.4)."""
