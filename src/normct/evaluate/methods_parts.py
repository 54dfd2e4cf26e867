"""Counts, losses and versions as the methods text words them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from normct.common.registry import METHODS, PATHOLOGIES, label

SOFTWARE = {
    "normct": "NormCT {}",
    "python": "Python {}",
    "torch": "PyTorch {}",
    "antspyx": "ANTs (antspyx {})",
    "fsl": "FSL {}",
    "brainextractor": "brainextractor {}",
}
"""What the text names, of all versions; an engine of skull stripping only where it was the one."""
_ENGINES = ("fsl", "brainextractor")


def listed(names: Iterable[str]) -> str:
    """Return names in a row, the last behind an "and"."""
    *first, last = list(names) or [""]
    return " and ".join(filter(None, [", ".join(first), last]))


def labels(methods: Iterable[str]) -> str:
    """Return methods as a reader knows them, in a row."""
    return listed(METHODS[m].label for m in methods)


def _scans(rows: list[dict[str, Any]]) -> str:
    """Return how many scans were accepted, and of how many patients where several are of one.

    Patients of scans that were set aside are not known, so none are counted beside these.
    """
    aside, patients = (sum(int(row[name]) for row in rows) for name in ("set_aside", "patients"))
    scans = sum(int(row["scans"]) for row in rows) - aside
    return f"{scans} ({patients} patients)" if scans != patients and not aside else str(scans)


def cohort_parts(counts: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Return how many scans served which use, None where nothing is known.

    Parameters
    ----------
    counts : list of dict
        Rows of ``cohort.csv``; unlabelled scans took no part.
    """
    known = [row for row in counts if row["group"] != "unlabelled"]
    if not known:
        return None
    healthy, abnormal = ([row for row in known if row["group"] == group] for group in ("healthy", "abnormal"))
    parts: dict[str, Any] = {
        role: _scans([row for row in healthy if row["role"] == role])
        for role in ("train", "stop", "calibrate", "test")
    }
    names = [(PATHOLOGIES.get(row["pathology"], ""), row) for row in abnormal if row["role"] == "test"]
    found = [
        # a label of the user's own may be an abbreviation
        f"{int(row['scans']) - int(row['set_aside'])} {name.lower() or label(row['pathology'])}"
        for name, row in names
        if int(row["scans"]) > int(row["set_aside"])
    ]
    parts["abnormal"] = _scans([row for _, row in names])
    parts["pathologies"] = listed(found)
    parts["set_aside"] = sum(int(row["set_aside"]) for row in known)
    return parts


def kl_weights(train: dict[str, Any], methods: list[str]) -> str:
    """Return the weight of the KL divergence, methods of one weight together; empty where none has one."""
    groups: dict[str, list[str]] = {}
    for method in methods:
        weight = train[METHODS[method].section].get("kl_weight")
        if weight is not None:
            groups.setdefault(f"{weight:g}", []).append(method)
    if len(groups) == 1:
        return next(iter(groups))
    return listed(f"{weight} ({labels(members)})" for weight, members in groups.items())


def software(versions: dict[str, str], engine: str) -> str:
    """Return versions of what computed the results.

    Parameters
    ----------
    versions : dict of str
        Of :func:`normct.common.provenance.versions`.
    engine : str
        Of skull stripping.
    """
    wanted = [name for name in SOFTWARE if name not in _ENGINES or name == engine]
    # how a wheel was built is of the computer, not of the method
    found = {n: versions[n].split("+")[0] for n in wanted if versions.get(n) not in (None, "not installed")}
    return listed(SOFTWARE[name].format(version) for name, version in found.items())
