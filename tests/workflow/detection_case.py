"""Tables of an evaluation in which every bar of the detection study is just kept."""

from __future__ import annotations

from pathlib import Path

import pandas as pd


def tables(folder: Path, **changes: float) -> Path:
    """Write evaluation tables in which every bar is just kept; ``changes`` replaces values by name."""
    v = {
        "gain": 0.13,
        "low": 0.01,
        "aupr": 0.25,
        "vae_kl_gain": 0.3,
        "atlas": 0.03,
        "volume": 0.9,
        "r2": 0.04,
        "scanner": 0.69,
    } | changes
    key = {"members": "single", "note": ""}
    fused = {"method": "fused", "score": "fused", **key}
    paired = [
        {**fused, "protocol": p, "against": a, "auroc_difference": d, "auroc_low": v["low"], "auroc_high": d + 0.1,
         "aupr_gain_difference": v["aupr"], "aupr_gain_low": 0.1, "aupr_gain_high": 0.3, "rival": "cevae"}
        for p, a, d in (("slice_healthy", "published", v["gain"]), ("slice_healthy", "atlas_calibrated", v["atlas"]),
                        ("volume", "published", 0.1), ("slice", "published", 0.5))
    ]  # fmt: skip
    paired += [
        paired[0] | {"method": m, "score": "calibrated", "against": "published_calibrated"}
        for m in ("denoising", "vae_kl")
    ]
    summary = [
        {**fused, "protocol": "slice_healthy", "auroc_mean": 0.9, "auroc_low": 0.8, "auroc_high": 0.95, "prevalence": 0.2},
        {**fused, "protocol": "volume", "auroc_mean": v["volume"], "auroc_low": 0.8, "auroc_high": 0.95, "prevalence": 0.6},
    ]  # fmt: skip
    summary += [
        summary[0] | {"method": m, "score": "calibrated", "auroc_mean": a}
        for m, a in (("denoising", 0.8), ("vae_kl", 0.9), ("vae_variance", 0.7))
    ]
    summary[0]["aupr_gain_mean"] = 0.4 + v["aupr"]
    summary += [
        {
            "method": m,
            "score": "thesis",
            "members": "single",
            "protocol": "slice_healthy",
            "aupr_gain_mean": g,
        }
        for m, g in (("vae_kl", v["vae_kl_gain"]), ("cevae", 0.4))
    ]
    auroc = {"auroc_mean": 0.86, "auroc_low": 0.8, "auroc_high": 0.9, **fused}
    confound = [
        {
            "check": c,
            "method": m,
            "score": s,
            "value": v["r2"],
            "value_low": -0.1,
            "value_high": 0.4,
            "detail": "",
        }
        for c in ("position_r2", "area_r2")
        for m, s in (("fused", "fused"), ("vae_kl", "thesis"))
    ]
    confound += [
        {"check": c, "method": m, "score": k, "value": x, "value_low": 0.5, "value_high": 0.8, "detail": "A"}
        for c in ("scanner", "slice_thickness")
        for m, k, x in (
            ("fused", "fused", v["scanner"]),
            ("vae_kl", "thesis", 0.9),
            ("denoising", "calibrated", 0.4),
            ("acquisition", "trivial", 1.0),
        )
    ]
    strata = [
        auroc | {"kind": "subtype", "stratum": "bleed: subdural", "protocol": p}
        for p in ("slice_healthy", "volume")
    ]
    strata += [
        auroc | {"kind": "pathology", "stratum": p, "protocol": "volume"} for p in ("ischemia", "cavernoma")
    ]
    content = {
        "detection_paired": paired,
        "detection_summary": summary,
        "pathology": [auroc | {"pathology": p} for p in ("ischemia", "cavernoma")],
        "strata": strata,
        "confound": confound,
    }
    for name, rows in content.items():
        pd.DataFrame(rows).to_csv(folder / f"{name}.csv", index=False)
    return folder
