"""What the model card reads: the evaluation's tables, of the one score that the card shows.

Every table may be missing, and every cell empty: the card then says less, never something wrong.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from normct.common.registry import FUSED, PATHOLOGIES, label

TABLES = ("detection_summary", "pathology", "strata", "operating_points", "froc", "subgroups", "confound")
"""Tables of the evaluation that the card quotes: the rule that makes the bundle waits for these."""
CALIBRATED = "calibrated"
"""The map's threshold that the bundle keeps, among the rates of ``froc.csv``."""

OTHERS = " against the others"
"""How ``confound.csv`` ends what it compares."""

Row = dict[str, str]


def number(row: Row | None, name: str) -> float | None:
    """Return a cell as a number, None where it is missing or empty."""
    text = (row or {}).get(name) or ""
    return float(text) if text not in ("", "nan") else None


def count(row: Row | None, name: str) -> str:
    """Return a whole number's cell, an en dash where there is none."""
    value = number(row, name)
    return "–" if value is None else f"{value:.0f}"


def percent(value: float | None) -> str:
    """Return a share as per cent, an en dash where there is none."""
    return "–" if value is None else f"{100 * value:.0f} %"


def auroc(row: Row | None) -> str:
    """Return an AUROC with its interval, the reason why there is none, or an en dash without a row."""
    if row is None:
        return "–"
    if (value := number(row, "auroc_mean")) is None:
        return row.get("note") or "not computed"
    low, high = number(row, "auroc_low"), number(row, "auroc_high")
    return f"{value:.2f}" if low is None or high is None else f"{value:.2f} ({low:.2f} to {high:.2f})"


def markdown(header: Iterable[str], rows: Iterable[Iterable[str]]) -> list[str]:
    """Return a table in Markdown; a bar in a cell would cut it in two."""
    header = list(header)
    lines = [header, *rows]
    text = ["| " + " | ".join(cell.replace("|", "/") for cell in line) + " |" for line in lines]
    return [text[0], "|---" * len(header) + "|", *text[1:]]


@dataclass(frozen=True)
class Group:
    """What was to be found: a pathology, a subtype, a size of lesion, or a part of the brain.

    Attributes
    ----------
    kind : str
        ``pathology``, or the kind of ``strata.csv``.
    name : str
        As a reader knows it.
    slices, scans : dict or None
        Rows with its AUROC: slices with the lesion, and whole scans.
    lesions : dict or None
        Its row of ``froc.csv`` at the calibrated threshold.
    """

    kind: str
    name: str
    slices: Row | None = None
    scans: Row | None = None
    lesions: Row | None = None

    @property
    def patients(self) -> list[str]:
        """Numbers of patients, of slices and of scans; one where they agree or one is unknown."""
        found = [count(row, "n_patients") for row in (self.slices, self.scans) if row]
        return list(dict.fromkeys(n for n in found if n != "–"))


@dataclass(frozen=True)
class Shown:
    """The rows of one method and score.

    Attributes
    ----------
    method, score : str
    tables : dict of list of dict
        By name of the table; single networks, no ensembles.
    """

    method: str
    score: str
    tables: dict[str, list[Row]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """As a sentence calls it."""
        if self.method == FUSED:
            return "the fused score"
        return f"the {'calibrated' if self.score == 'calibrated' else 'plain'} score of {label(self.method)}"

    def rows(self, table: str, **cells: str) -> list[Row]:
        """Return a table's rows that have these cells."""
        found = self.tables.get(table, [])
        return [row for row in found if all(row.get(name) == cell for name, cell in cells.items())]

    def first(self, table: str, **cells: str) -> Row | None:
        """Return the first row that has these cells."""
        return next(iter(self.rows(table, **cells)), None)


def _read(path: Path) -> list[Row]:
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle))


def _of(rows: list[Row], method: str, score: str, table: str) -> list[Row]:
    # froc.csv is of maps: a method's calibrated map is what its calibrated, and the fused, score is made of
    name, wanted = "score", score
    if table == "froc":
        name, wanted = "map", "residual" if score == "thesis" else "calibrated"
    mine = [row for row in rows if row.get("method") == method and row.get(name) == wanted]
    return [row for row in mine if row.get("members", "single") == "single" and row.get("seed") != "all"]


def shown(evaluation: Path | None, methods: list[str]) -> Shown | None:
    """Return the rows of the score that the card shows, None where nothing abnormal was tested.

    It is the fused one, else a network's calibrated one, else a network in the thesis's scoring.

    Parameters
    ----------
    evaluation : Path or None
        Folder of the evaluation's tables.
    methods : list of str
        Of the bundle.
    """
    tables = {name: _read(evaluation / f"{name}.csv") for name in TABLES} if evaluation else {}
    judged = ("pathology", "strata", "detection_summary")
    scored = {
        (row["method"], row["score"])
        for name in judged
        for row in tables.get(name, [])
        if number(row, "auroc_mean") is not None
    }
    wanted = [(FUSED, "fused"), *((m, "calibrated") for m in methods), *((m, "thesis") for m in methods)]
    key = next((key for key in wanted if key in scored), None)
    if key is None:
        return None
    mine = {name: _of(rows, *key, name) for name, rows in tables.items()}
    # a baseline's, of the scans and of no method of ours
    acquired = [row for row in tables["confound"] if row.get("check") == "acquisition"]
    return Shown(*key, mine | {"acquisition": acquired})


def kind_label(name: str) -> str:
    """Return a pathology, or a pathology and subtype, as a reader knows it."""
    pathology, _, subtype = name.partition(": ")
    return f"{label(pathology)}: {subtype}" if subtype and pathology in PATHOLOGIES else label(name)


_NAMED = {"lesion_volume": "Lesions {}", "third": "Third of the brain: {}"}


def groups(found: Shown) -> list[Group]:
    """Return what was to be found: each pathology with its subtypes, sizes of lesion, thirds of the brain."""
    marked = {row["pathology"]: row for row in found.rows("pathology")}
    whole = {row["stratum"]: row for row in found.rows("strata", kind="pathology", protocol="volume")}
    lesions = {row["subset"]: row for row in found.rows("froc", false_per_scan=CALIBRATED)}
    result = [
        Group("pathology", kind_label(name), marked.get(name), whole.get(name), lesions.get(name))
        for name in dict.fromkeys([*marked, *whole])
    ]
    for kind in ("subtype", *_NAMED):
        rows = found.rows("strata", kind=kind)
        for name in dict.fromkeys(row["stratum"] for row in rows):
            slices, scans = (
                next((row for row in rows if (row["stratum"], row["protocol"]) == (name, protocol)), None)
                for protocol in ("slice_healthy", "volume")
            )
            text = _NAMED[kind].format(name) if kind in _NAMED else kind_label(name)
            result.append(Group(kind, text, slices, scans, lesions.get(name)))
    kept = [group for group in result if group.patients != ["0"]]
    order = {group.name: i for i, group in enumerate(kept) if group.kind == "pathology"}
    # a subtype stands below its pathology; the sort keeps the order of all else
    return sorted(kept, key=lambda group: order.get(group.name.partition(": ")[0], len(order)))


def scanners(found: Shown) -> list[str]:
    """Return scanners in the order in which the card numbers them: names may name a hospital."""
    names = [row["stratum"] for row in found.rows("subgroups", kind="scanner", protocol="volume")]
    names += [row["detail"].removesuffix(OTHERS) for row in found.rows("confound", check="scanner")]
    return list(dict.fromkeys(names))
