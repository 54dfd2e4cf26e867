"""Every scan's verdict, read once and written as ``scans.parquet``, a row a scan of the cohort.

No score is in it: what thresholds maps reads this table, and is not made again when scores change.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from normct.common.cli import run
from normct.common.files import atomic, read_json
from normct.evaluate.arguments import command_line
from normct.evaluate.data import SCANS

log = logging.getLogger(__name__)


def _verdict(quality: dict[str, Any]) -> tuple[str, str, float | None]:
    """Return what the tables keep of ``quality.json``: verdict, reasons in one sentence, slice thickness in mm."""
    thickness = quality.get("measures", {}).get("slice_thickness_mm")
    return quality["verdict"], " ".join(quality.get("reasons", [])), thickness


def read_scans(participants: str | Path, preprocess: str | Path, imports: str | Path) -> pd.DataFrame:
    """Read ``participants.tsv``, each scan's verdict and the hash of its source.

    Parameters
    ----------
    participants : str or Path
        ``R/cohort/participants.tsv``.
    preprocess, imports : str or Path
        Folders ``R/preprocess`` and ``R/cohort``, with ``<sub>/quality.json`` and ``<sub>/import.json``.

    Returns
    -------
    DataFrame
        As :func:`normct.evaluate.data.read_cohort` gives it.
    """
    table = pd.read_csv(participants, sep="\t", dtype=str, keep_default_na=False)
    table["has_lesion_mask"] = table["has_lesion_mask"].str.lower().isin(["true", "1", "yes"])
    for name in ("patient", "subtype", "scanner", "age"):
        if name not in table:
            table[name] = "n/a"
    unnamed = table["patient"].isin(["", "n/a"])
    table.loc[unnamed, "patient"] = table.loc[unnamed, "participant_id"]
    facts = (_verdict(read_json(Path(preprocess) / sub / "quality.json")) for sub in table["participant_id"])
    verdicts = pd.DataFrame(facts, columns=["verdict", "reasons", "slice_thickness_mm"])
    verdicts["slice_thickness_mm"] = verdicts["slice_thickness_mm"].astype(np.float64)  # None becomes NaN
    table = pd.concat([table, verdicts], axis=1)
    table["sha256"] = [
        read_json(Path(imports) / sub / "import.json").get("sha256") or None
        for sub in table["participant_id"]
    ]
    return table


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    p = command_line(__doc__, "normct.evaluate.scans", "participants", "preprocess", "imports")
    args = p.parse_args(argv)
    scans = read_scans(args.participants, args.preprocess, args.imports)
    with atomic(args.out / SCANS) as part:
        scans.to_parquet(part, index=False)
    log.info("%d scans", len(scans))


if __name__ == "__main__":
    run(main)
