"""The tables of ``choose_scoring``: a row a setting and method, AUROC of slices and scans with artificial anomalies."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from normct.common.registry import FUSED
from normct.pretext.anomalies import KINDS
from normct.score.calibrated import CalibratedSettings, Healthy, calibrated_scores, left_out
from normct.score.files_calibrated import Key

POSITION_MM, SLICE_SMOOTH_MM, POOL_SHARES = (6.0, 12.0), (4.0, 8.0), (0.001, 0.005, 0.02)
BEFORE, NOW = (12.0, 4.0, 0, 0.005), (6.0, 8.0, 5, 0.005)
"""Position, slice smoothing, components, pooled share: before settings were chosen on lesions, and the defaults."""
WEIGHTS = {FUSED: (1, 1), "fused 2:1": (2, 1), "fused 1:2": (1, 2), "fused 1:4": (1, 4)}
"""How often statistical atlas and network count in the fusion; equally as default."""
VOLUME_SHARE = 0.1
DRAWS = 2000

Setting = tuple[float, float, int, float]
Pooled = dict[int, dict[Key, NDArray[np.float32]]]
"""Number of components to each map's pooled values, shape (shares, 2, 155)."""


@dataclass(frozen=True)
class Version:
    """A calibration scan as it is or with an anomaly: pooled values, and which slices count."""

    patient: str
    kind: str
    pooled: Pooled
    counted: NDArray[np.bool_]
    usable: NDArray[np.bool_]


def scores(versions: Sequence[Version], setting: Setting) -> dict[str, list[tuple[NDArray, float]]]:
    """Return each version's slice scores (155,) and scan score under a setting, by method."""
    position, smooth, number, share = setting
    chosen, at = CalibratedSettings(share, position, smooth, VOLUME_SHARE), POOL_SHARES.index(share)

    def taken(version: Version) -> dict[Key, NDArray[np.float32]]:
        return {key: values[at] for key, values in version.pooled[number].items()}

    healthy: dict[str, Healthy] = {
        str(n): (v.patient, taken(v), v.usable) for n, v in enumerate(versions) if v.kind == "healthy"
    }
    # a patient's scans all have the statistics of the other patients
    others = {healthy[n][0]: positions for n, positions in left_out(healthy, chosen).items()}
    result: dict[str, list[tuple[NDArray, float]]] = {}
    for version in versions:
        slices, volumes = calibrated_scores(taken(version), version.usable, others[version.patient], chosen)
        for per_slice, volume in zip(slices, volumes, strict=True):
            result.setdefault(per_slice.method, []).append((per_slice.per_slice, volume.value))
    return result


def wins(positive: Sequence[NDArray], negative: Sequence[NDArray]) -> NDArray[np.float64]:
    """Return how often patient i's positive values lie above patient j's negative ones, a tie as half."""
    result = np.zeros((len(positive), len(negative)))
    for j, values in enumerate(np.sort(v) for v in negative):
        for i, above in enumerate(positive):
            below = np.searchsorted(values, above, "left") + np.searchsorted(values, above, "right")
            result[i, j] = below.sum() / 2
    return result


def aurocs(positive: Sequence[NDArray], negative: Sequence[NDArray], weights: NDArray) -> NDArray[np.float64]:
    """Return the AUROC for each row of patient weights, shape (draws, patients); ones give the AUROC itself."""
    n_positive, n_negative = (np.array([len(v) for v in values]) for values in (positive, negative))
    won = np.einsum("di,ij,dj->d", weights, wins(positive, negative), weights)
    return np.asarray(won / ((weights @ n_positive) * (weights @ n_negative)))


def table(versions: Sequence[Version], draws: int = DRAWS) -> list[dict[str, Any]]:
    """Return a row a setting and method: AUROC of slices (all, and by kind) and scans, and what it gains on `BEFORE`."""
    patients = list(dict.fromkeys(v.patient for v in versions))
    rng = np.random.default_rng(0)
    weights = np.ones((draws + 1, len(patients)))
    weights[1:] = rng.multinomial(len(patients), np.full(len(patients), 1 / len(patients)), size=draws)

    def by_patient(values: Sequence[NDArray], kinds: Sequence[str]) -> list[NDArray]:
        return [
            np.concatenate(
                [x for x, v in zip(values, versions, strict=True) if v.patient == p and v.kind in kinds]
                or [np.zeros(0)]
            )
            for p in patients
        ]

    drawn: dict[tuple[str, Setting], dict[str, NDArray]] = {}
    for setting in itertools.product(POSITION_MM, SLICE_SMOOTH_MM, versions[0].pooled, POOL_SHARES):
        for method, found in scores(versions, setting).items():
            slices = [s[v.counted] for (s, _), v in zip(found, versions, strict=True)]
            scans = [np.array([value]) for _, value in found]
            healthy = by_patient(slices, ["healthy"])
            entry = {"slices": aurocs(by_patient(slices, KINDS), healthy, weights)}
            for kind in dict.fromkeys(v.kind for v in versions if v.kind != "healthy"):
                entry[kind] = aurocs(by_patient(slices, [kind]), healthy, weights[:1])
            entry["scans"] = aurocs(by_patient(scans, KINDS), by_patient(scans, ["healthy"]), weights)
            drawn[method, setting] = entry
    rows = []
    for (method, setting), entry in drawn.items():
        row: dict[str, Any] = dict(
            zip(("position_mm", "slice_smooth_mm", "components", "pool_share"), setting, strict=True)
        )
        row |= {"method": method} | {name: float(values[0]) for name, values in entry.items()}
        for name in ("slices", "scans"):
            gain = entry[name] - drawn[method, BEFORE][name]
            row[f"{name}_gain"] = float(gain[0])
            row[f"{name}_gain_interval"] = np.quantile(gain[1:], [0.025, 0.975]).tolist()
            over = entry[name] - drawn[FUSED, setting][name]
            row[f"{name}_over_fused"] = float(over[0])
            row[f"{name}_over_fused_interval"] = np.quantile(over[1:], [0.025, 0.975]).tolist()
        rows.append(row)
    return rows


def markdown(rows: Sequence[Mapping[str, Any]], method: str) -> str:
    """Return one method's rows as a table, best first."""
    kinds = [kind for kind in KINDS if kind in rows[0]]
    names = ["position_mm", "slice_smooth_mm", "components", "pool_share", "slices", "gain (95 %)", *kinds]
    names += ["scans", "gain (95 %)"]
    lines = [f"{method}:", f"| {' | '.join(names)} |", "|" + "---|" * len(names)]
    for row in sorted((r for r in rows if r["method"] == method), key=lambda r: -r["slices"]):
        gains = {}
        for name in ("slices", "scans"):
            low, high = row[f"{name}_gain_interval"]
            gains[name] = f"{row[f'{name}_gain']:+.3f} ({low:+.3f} to {high:+.3f})"
        cells = [f"{row[k]:g}" for k in names[:4]] + [f"{row['slices']:.3f}", gains["slices"]]
        cells += [f"{row[kind]:.3f}" for kind in kinds] + [f"{row['scans']:.3f}", gains["scans"]]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def weighed(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return what each method and weighting is worth against equal weights, with the settings of today.

    Components as the run has them: ``NOW`` has five, a small cohort none.
    """
    place, smooth, _, share = NOW
    now = (place, smooth, max(row["components"] for row in rows), share)
    lines = ["| method | slices | less equal weights | scans | less equal weights |", "|" + "---|" * 5]
    for row in rows:
        if tuple(list(row.values())[:4]) != now:
            continue
        cells = [str(row["method"])]
        for name in ("slices", "scans"):
            low, high = row[f"{name}_over_fused_interval"]
            cells += [f"{row[name]:.3f}", f"{row[f'{name}_over_fused']:+.3f} ({low:+.3f} to {high:+.3f})"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
