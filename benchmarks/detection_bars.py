"""The bars of the detection study, from the evaluation's tables: value, interval, bar, and whether it holds.

Nothing is scored here. A bar whose table or row is missing does not hold, and says what is missing.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from normct.common.registry import FUSED

LEADING = "slice_healthy"
"""Protocol of the slice bars: slices with lesion pixels against slices of healthy scans (METHOD section 7)."""
RIVALS = ("vae_kl", "cevae")
TABLES = ("detection_summary", "detection_paired", "pathology", "strata", "confound")


@dataclass(frozen=True)
class Bar:
    """A figure and what it should reach.

    Attributes
    ----------
    name, what : str
        Short name; a sentence on what was compared.
    value, low, high : float or None
        The figure and its 95 % interval by bootstrap over patients, where the table gives one.
    at_least, at_most : float or None
        Limits of the value, reached limits included.
    low_above : float or None
        What the interval's lower bound must lie above.
    missing : str
        Why there is no value.
    """

    name: str
    what: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    at_least: float | None = None
    at_most: float | None = None
    low_above: float | None = None
    missing: str = ""

    @property
    def holds(self) -> bool | None:
        """Whether every limit is kept; None for a figure that has none, False without a value."""
        if self.at_least is None and self.at_most is None and self.low_above is None:
            return None
        if self.value is None or (self.low_above is not None and self.low is None):
            return False
        return (
            (self.at_least is None or self.value >= self.at_least)
            and (self.at_most is None or self.value <= self.at_most)
            and (self.low_above is None or (self.low is not None and self.low > self.low_above))
        )

    @property
    def bar(self) -> str:
        """The limits in words."""
        parts = [f">= {self.at_least:g}"] if self.at_least is not None else []
        parts += [f"<= {self.at_most:g}"] if self.at_most is not None else []
        parts += [f"lower bound > {self.low_above:g}"] if self.low_above is not None else []
        return ", ".join(parts)

    def record(self) -> dict[str, Any]:
        """Return the bar as it stands in ``results/detection.json``."""

        def short(value: float | None) -> float | None:
            return None if value is None else float(f"{value:.4g}")

        return {
            "name": self.name,
            "what": self.what,
            "value": short(self.value),
            "low": short(self.low),
            "high": short(self.high),
            "bar": self.bar or None,
            "holds": self.holds,
            "missing": self.missing or None,
        }


def read_tables(folder: Path) -> dict[str, pd.DataFrame]:
    """Read the tables that the bars need, as far as they are there."""
    found = {name: folder / f"{name}.csv" for name in TABLES}
    return {
        name: pd.read_csv(path, keep_default_na=False, na_values=[""])
        for name, path in found.items()
        if path.is_file()
    }


def _number(value: Any) -> float | None:
    return None if value is None or pd.isna(value) else float(value)


def _row(tables: dict[str, pd.DataFrame], table: str, **wanted: str) -> tuple[dict[str, Any], str]:
    """Return the only row with these values, or an empty one and what is missing."""
    if table not in tables:
        return {}, f"{table}.csv was not made"
    found = tables[table]
    for column, value in wanted.items():
        if column not in found:
            return {}, f"{table}.csv has no column {column}"
        found = found[found[column].astype(str) == value]
    if len(found) != 1:
        return {}, f"{table}.csv has {len(found)} rows of {', '.join(wanted.values())}"
    return {str(k): v for k, v in found.iloc[0].items()}, ""


def _table_bar(
    tables: dict[str, pd.DataFrame],
    name: str,
    what: str,
    *,
    table: str,
    row: dict[str, str],
    column: str,
    **limits: float,
) -> Bar:
    """Make a bar of one cell and its interval."""
    found, missing = _row(tables, table, **row)
    stem = column.removesuffix("_mean").removesuffix("_difference")
    value, low, high = (_number(found.get(key)) for key in (column, f"{stem}_low", f"{stem}_high"))
    if value is None:
        missing = missing or str(found.get("note") or found.get("reason") or "empty cell")
    return Bar(name, what, value, low, high, missing=missing, **limits)


def _aupr_bar(tables: dict[str, pd.DataFrame], fused: dict[str, str], **limits: float) -> Bar:
    """Make the bar of the gain in AUPR over the better of the published baselines *in AUPR*.

    The table's rival is the better in AUROC. Where that is another one the value is that of the means, and there is no
    interval: draws of that pair are in no table.
    """
    name, column = "fused_aupr_gain", "aupr_gain"
    what = (
        "(AUPR - prevalence) / (1 - prevalence), fused less the better of VAE-KL and ceVAE in thesis scoring"
    )
    gains = {}
    for method in RIVALS:
        row = {"method": method, "score": "thesis", "members": "single", "protocol": LEADING}
        gain = _number(_row(tables, "detection_summary", **row)[0].get(f"{column}_mean"))
        if gain is not None:
            gains[method] = gain
    if not gains:
        return Bar(name, what, missing="detection_summary.csv has no gain of VAE-KL or ceVAE", **limits)
    rival = max(gains, key=lambda method: gains[method])
    row = fused | {"protocol": LEADING, "against": "published"}
    pair = {"table": "detection_paired", "row": row, "column": f"{column}_difference"}
    found = _row(tables, "detection_paired", **row)[0]
    if not found or str(found.get("rival")) == rival:
        return _table_bar(tables, name, f"{what} ({rival})", **pair, **limits)
    own, missing = _row(tables, "detection_summary", **fused, protocol=LEADING)
    gain = _number(own.get(f"{column}_mean"))
    value = None if gain is None else gain - gains[rival]
    missing = "" if value is not None else missing or "empty cell"
    return Bar(name, f"{what} ({rival})", value, missing=missing, **limits)


def _best_network(tables: dict[str, pd.DataFrame]) -> str:
    """Return the network, not of the rivals, of highest calibrated AUROC (mean over seeds)."""
    if "detection_summary" not in tables:
        return "no network"
    t = tables["detection_summary"]
    t = t[(t["protocol"] == LEADING) & (t["score"] == "calibrated") & (t["members"] == "single")]
    t = t[~t["method"].isin([*RIVALS, "statistical_atlas", FUSED])].dropna(subset=["auroc_mean"])
    return "no network" if t.empty else str(t.loc[t["auroc_mean"].idxmax(), "method"])


def _confound_bars(tables: dict[str, pd.DataFrame]) -> list[Bar]:
    """R² of position and area, and the farthest of the AUROCs that tell scanners or thickness apart."""
    bars = []
    for check, label in (("position_r2", "slice position"), ("area_r2", "brain area")):
        for method, score, limits in (
            (FUSED, "fused", {"at_most": 0.05}),
            ("vae_kl", "thesis", {}),
        ):
            found, missing = _row(tables, "confound", check=check, method=method, score=score)
            value = _number(found.get("value"))
            if value is None:
                missing = missing or str(found.get("reason") or "empty cell")
            what = f"share of the {score} score of {method} on healthy test slices that {label} explains"
            ends = (_number(found.get(name)) for name in ("value_low", "value_high"))
            bars.append(Bar(f"{check}_{method}", what, value, *ends, missing=missing, **limits))
    t = tables.get("confound")
    # baselines without a network are left out: one of them *is* the acquisition
    kinds = (("", "calibrated or fused", ("calibrated", "fused")), ("_thesis", "thesis", ("thesis",)))
    for check in ("scanner", "slice_thickness"):
        for suffix, words, scores in kinds:
            what = f"farthest AUROC of any {words} score for {check} among healthy test scans"
            limits = {"at_least": 0.3, "at_most": 0.7} if not suffix else {}
            rows = None
            if t is not None:
                rows = t[(t["check"] == check) & t["score"].isin(scores)].dropna(subset=["value"])
            if rows is None or rows.empty:
                why = "confound.csv was not made" if t is None else "no group large enough"
                bars.append(Bar(f"no_{check}{suffix}", what, missing=why, **limits))
                continue
            worst = rows.loc[(rows["value"] - 0.5).abs().idxmax()]
            what += f" ({worst['method']}, {worst['detail']})"
            cells = [_number(worst[k]) for k in ("value", "value_low", "value_high")]
            bars.append(Bar(f"no_{check}{suffix}", what, *cells, **limits))
    return bars


def measure(tables: dict[str, pd.DataFrame]) -> list[Bar]:
    """Return every bar of the study, in the order of docs/detection.md."""
    fused = {"method": FUSED, "score": "fused", "members": "single"}
    slices = {"protocol": LEADING}
    best = _best_network(tables)
    network = {"method": best, "score": "calibrated", "members": "single"}
    paired = {"table": "detection_paired", "column": "auroc_difference"}
    bars = [
        _table_bar(
            tables, "fused_over_published", "slice AUROC, fused less the better of VAE-KL and ceVAE in thesis scoring",
            row=fused | slices | {"against": "published"}, **paired, at_least=0.12, low_above=0.0,
        ),
        _table_bar(
            tables, "network_over_published", f"slice AUROC, {best} calibrated less the same two calibrated",
            row=network | slices | {"against": "published_calibrated"}, **paired, low_above=0.0,
        ),
        _aupr_bar(tables, fused, at_least=0.25),
        _table_bar(
            tables, "fused_over_atlas", "slice AUROC, fused less the statistical atlas with the same calibration",
            row=fused | slices | {"against": "atlas_calibrated"}, **paired, at_least=0.03, low_above=0.0,
        ),
        _table_bar(
            tables, "fused_volume", "AUROC of whole scans, fused", table="detection_summary",
            row=fused | {"protocol": "volume"}, column="auroc_mean", at_least=0.90,
        ),
        _table_bar(
            tables, "fused_volume_over_thesis", "the same less the better of VAE-KL and ceVAE in thesis scoring",
            row=fused | {"protocol": "volume", "against": "published"}, **paired, at_least=0.0,
        ),
    ]  # fmt: skip
    for pathology in ("ischemia", "cavernoma"):
        bars += [
            _table_bar(
                tables, f"fused_{pathology}", f"slice AUROC, {pathology} against slices of healthy scans, fused",
                table="pathology", row=fused | {"pathology": pathology}, column="auroc_mean", at_least=0.85,
            ),
            _table_bar(
                tables, f"fused_{pathology}_volume", f"AUROC of whole scans, {pathology} against healthy ones, fused",
                table="strata", column="auroc_mean", at_least=0.85,
                row={"kind": "pathology", "stratum": pathology, "protocol": "volume", "method": FUSED, "score": "fused"},
            ),
        ]  # fmt: skip
    bars += [
        _table_bar(
            tables, f"fused_subdural{suffix}", f"AUROC of {unit}, subdurals against healthy ones, fused",
            table="strata", column="auroc_mean", at_least=0.80,
            row={"kind": "subtype", "stratum": "bleed: subdural", "protocol": protocol, "method": FUSED, "score": "fused"},
        )
        for protocol, suffix, unit in ((LEADING, "", "slices"), ("volume", "_volume", "whole scans"))
    ]  # fmt: skip
    return bars + _confound_bars(tables)
