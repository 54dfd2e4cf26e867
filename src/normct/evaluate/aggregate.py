"""From slice and scan scores to metrics: per seed, over seeds with intervals, and as paired differences."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from normct.common.registry import TRIVIAL
from normct.evaluate import protocols as pr
from normct.evaluate.data import Scores
from normct.evaluate.metrics import Counts, interval, mean_sd, point, prevalences, resampled

Key = tuple[str, str, str]
"""Method, score, and ``single`` (one row a seed, averaged) or ``ensemble`` (the seeds' own mean score)."""

CALIBRATED = ("calibrated", "fused")
REFERENCES = (
    ("published", ("vae_kl", "cevae"), "thesis"),
    ("trivial", tuple(TRIVIAL), "trivial"),
    ("published_calibrated", ("vae_kl", "cevae"), "calibrated"),
    ("atlas_calibrated", ("statistical_atlas",), "calibrated"),
)
"""Rivals of the paired differences, by name, methods and score: the better of the published baselines and
the best trivial one; for calibrated scores also the better published one and the atlas scored alike."""
TWINS = {"vae_pretrained": "vae_kl", "multitask_pretrained": "multitask"}
"""Pretrained method to the same without context restoration, at equal steps; the rival ``no_pretraining``."""


@dataclass(frozen=True)
class Draws:
    """Bootstrap samples of one method and score, averaged over seeds; each of shape (draws,)."""

    auroc: NDArray[np.float64]
    aupr: NDArray[np.float64]
    aupr_gain: NDArray[np.float64]


METRICS = ("auroc", "aupr", "aupr_gain")
"""``aupr_gain`` is (AUPR - π) / (1 - π) with the prevalence π: 0 for a guess, 1 at best, whatever π is."""


def aupr_gain(aupr: NDArray[np.float64] | float, prevalence: NDArray[np.float64] | float) -> Any:
    """Return the normalised gain in AUPR over a guess."""
    return (aupr - prevalence) / (1 - prevalence)


def membership(seed: str) -> str:
    """Return ``ensemble`` for scores averaged over seeds before the metric was taken, else ``single``."""
    return "ensemble" if seed == "all" else "single"


def score_column(
    values: NDArray[np.float64], classes: NDArray[np.int8], reason: str
) -> tuple[dict[str, Any], NDArray[np.bool_]]:
    """Return the metrics of one column's values, and which units they rest on."""
    known = ~np.isnan(values)
    keep = (classes != pr.LEFT_OUT) & known
    positive = classes == pr.POSITIVE
    n_pos, n_neg = int((keep & positive).sum()), int((keep & ~positive).sum())
    row: dict[str, Any] = {
        "auroc": np.nan,
        "aupr": np.nan,
        "aupr_gain": np.nan,
        "prevalence": np.nan,
        "n_pos": n_pos,
        "n_neg": n_neg,
    }
    lost = int(((classes != pr.LEFT_OUT) & ~known).sum())
    notes = [reason] if reason else []
    if n_pos and n_neg:
        row["auroc"], row["aupr"] = point(values[keep], positive[keep])
        row["prevalence"] = n_pos / (n_pos + n_neg)
        row["aupr_gain"] = aupr_gain(row["aupr"], row["prevalence"])
    elif not reason:
        notes.append("no scored unit in one of the classes")
    if lost:
        notes.append(f"{lost} without a score left out")
    row["reason"] = "; ".join(notes)
    return row, keep


def evaluate_protocol(
    scores: Scores, classes: NDArray[np.int8], name: str, strata: pr.Strata, counts: Counts
) -> tuple[list[dict[str, Any]], dict[Key, Draws]]:
    """Score every column under one protocol.

    Returns
    -------
    rows : list of dict
        One a method, score and seed.
    samples : dict
        Bootstrap samples of each method, score and membership; only where a metric exists.
    """
    reason = pr.one_class_reason(
        name, int((classes == pr.POSITIVE).sum()), int((classes == pr.NEGATIVE).sum())
    )
    rows: list[dict[str, Any]] = []
    seeds: dict[Key, list[tuple[NDArray[np.float64], ...]]] = {}
    patient = strata.code(scores.units) if len(scores.units) else np.zeros(0, np.intp)
    for index, (method, score, seed) in enumerate(scores.columns):
        values = scores.values(index)
        row, keep = score_column(values, classes, reason)
        rows.append({"method": method, "score": score, "seed": seed, **row})
        if not np.isnan(row["auroc"]) and len(counts):
            positive = classes[keep] == pr.POSITIVE
            auroc, aupr = resampled(values[keep], positive, patient[keep], counts)
            drawn = (auroc, aupr, aupr_gain(aupr, prevalences(positive, patient[keep], counts)))
            seeds.setdefault((method, score, membership(seed)), []).append(drawn)
    samples = {
        key: Draws(*(np.mean(values, axis=0) for values in zip(*found, strict=True)))
        for key, found in seeds.items()
    }
    return rows, samples


def summarise(
    rows: list[dict[str, Any]], samples: dict[Key, Draws], intervals: pr.Intervals
) -> list[dict[str, Any]]:
    """Return mean and SD over seeds and the 95 % interval over patients, a row a method and score."""
    table = pd.DataFrame(rows)
    result = []
    table["members"] = table["seed"].map(membership)
    for key, group in table.groupby(["method", "score", "members"], sort=False):
        row: dict[str, Any] = dict(zip(("method", "score", "members"), key, strict=True))
        row["n_seeds"] = len(group)
        for metric in METRICS:
            row[f"{metric}_mean"], row[f"{metric}_sd"] = mean_sd(group[metric].tolist())
            low, high = float("nan"), float("nan")
            if key in samples and intervals.allowed:
                low, high = interval(getattr(samples[key], metric))
            row[f"{metric}_low"], row[f"{metric}_high"] = low, high
        row |= {name: group[name].iloc[0] for name in ("prevalence", "n_pos", "n_neg")}
        notes = dict.fromkeys([*group["reason"], intervals.note if not np.isnan(row["auroc_mean"]) else ""])
        row["note"] = "; ".join(note for note in notes if note)
        result.append(row)
    return result


def paired(
    summary: list[dict[str, Any]], samples: dict[Key, Draws], intervals: pr.Intervals
) -> list[dict[str, Any]]:
    """Return differences to the rivals of ``REFERENCES`` and to the twin without pretraining, on the same draws.

    The rival is chosen by its AUROC on the very test scans, which favours it: a difference is not flattered. Where
    nothing has an AUROC (one class only), differences are empty and say why; scores that alone have none are left out.
    """
    every: dict[Key, dict[str, Any]] = {(row["method"], row["score"], row["members"]): row for row in summary}
    means = {key: row for key, row in every.items() if not np.isnan(row["auroc_mean"])} or every
    pairs: list[tuple[str, Key, Key]] = []
    for kind, names, scored in REFERENCES:
        rivals = [key for key in means if key[0] in names and key[1:] == (scored, "single")]
        if not rivals:
            continue
        best = max(rivals, key=lambda key: means[key]["auroc_mean"])
        for key in means:
            if key == best or key[1] == "trivial" or (scored == "calibrated" and key[1] not in CALIBRATED):
                continue
            pairs.append((kind, key, best))
    twins = ((key, (TWINS.get(key[0], ""), *key[1:])) for key in means)
    pairs += [("no_pretraining", key, twin) for key, twin in twins if twin in means]
    result = []
    for kind, key, rival in pairs:
        entry: dict[str, Any] = dict(zip(("method", "score", "members"), key, strict=True))
        # the better of several is not known where none has a figure
        name = "" if means is every and kind != "no_pretraining" else rival[0]
        entry |= {"against": kind, "rival": name, "rival_score": rival[1]}
        for metric in METRICS:
            entry[f"{metric}_difference"] = means[key][f"{metric}_mean"] - means[rival][f"{metric}_mean"]
            low, high = float("nan"), float("nan")
            known = not np.isnan(entry[f"{metric}_difference"])
            if known and intervals.allowed and key in samples and rival in samples:
                low, high = interval(getattr(samples[key], metric) - getattr(samples[rival], metric))
            entry[f"{metric}_low"], entry[f"{metric}_high"] = low, high
        entry["note"] = intervals.note if means is not every else means[key]["note"]
        result.append(entry)
    return result
