"""The report's sections, made from the tables of this stage."""

from __future__ import annotations

import re
from typing import Any

import pandas as pd

from normct.common.cautions import EXPOSED_SHORT, RANKING
from normct.common.registry import label
from normct.evaluate.display import (
    detection_table,
    operating_table,
    pathology_table,
    published_tables,
    segmentation_table,
)
from normct.evaluate.display_beyond import (
    froc_kinds,
    froc_table,
    pretraining_table,
    risk_table,
    strata_table,
)
from normct.evaluate.display_compare import gain_table, paired_table, parts_table
from normct.evaluate.display_confound import r2_table, scanner_table, transfer_table
from normct.evaluate.document import Section, Table
from normct.evaluate.methods_text import methods_text
from normct.evaluate.sentences import CALIBRATED, findings
from normct.evaluate.sentences_beyond import (
    confound,
    on_froc,
    on_lambda,
    on_leaks,
    on_position,
    on_pretraining,
    on_scanners,
    on_size,
    on_transfer,
    on_uncertainty,
)

SYNTHETIC_NOTE = (
    "Synthetic cohort. A program generated these scans, no patient was scanned: the figures say how the methods do on "
    "them, not how well any of them finds disease in patients, where their ranking may differ too."
)
SYNTHETIC_BESIDE = "All other tables are of a synthetic cohort: the ranking may differ on patients."
"""For the thesis's own figures, which are of patients."""
_CALIBRATED = re.compile("calibrated|fused", re.IGNORECASE)
RESEARCH_NOTE = "Research use only. Not a medical device; nothing here may guide the care of a patient."
READING = (
    "Mean ± SD over seeds (no SD with one seed), in brackets the 95 % interval by bootstrap over patients, "
    "where one exists; one of no width means few scans, not certainty. AUPR is average precision; without its "
    "prevalence it means nothing."
)
LEADING = [
    ("Slice AUROC, healthy negatives", "slice_healthy", "auroc"),
    ("Slice AUPR, healthy negatives", "slice_healthy", "aupr"),
    ("Scan AUROC", "volume", "auroc"),
    ("Scan AUPR", "volume", "aupr"),
]
THESIS_LAYOUT = [
    ("Slice AUROC", "slice", "auroc"),
    ("Clinical AUROC", "clinical", "auroc"),
    ("Slice AUPR", "slice", "aupr"),
    ("Clinical AUPR", "clinical", "aupr"),
]


def _cohort_section(tables: dict[str, pd.DataFrame]) -> Section:
    counts, aside = tables["cohort"], tables["set_aside"]
    roles = {"train": "Training", "stop": "Early stopping", "calibrate": "Calibration", "test": "Test"}
    rows = []
    for (group, pathology), part in counts[counts["group"] != "unlabelled"].groupby(
        ["group", "pathology"], sort=False
    ):
        scans = part.groupby("role")["scans"].sum()
        name = "Healthy" if group == "healthy" else label(str(pathology))
        masks = "" if group == "healthy" else str(int(part["with_lesion_mask"].sum()))
        rows.append(
            [
                name,
                *(str(int(scans.get(role, 0))) for role in roles),
                masks,
                str(int(part["set_aside"].sum())),
            ]
        )
    section = Section("Cohort", ["Scans, split by patient. Only test scans enter the tables of this report."])
    header = ["Group", *roles.values(), "With lesion mask", "Set aside"]
    section.tables.append(Table("Scans by group and use.", header, rows))
    if len(aside):
        listed = [
            [
                row["participant_id"],
                label(row["pathology"]) if row["group"] == "abnormal" else row["group"],
                row["role"],
                row["reasons"],
            ]
            for row in aside.to_dict("records")
        ]
        section.tables.append(
            Table("Set aside by quality control, in no table.", ["Scan", "Group", "Use", "Reason"], listed)
        )
    section.figures.append("figure_4_1_cohort")
    return section


def _samples(segmentation: pd.DataFrame) -> list[str]:
    """Return the sample figures that show something: four pathologies each."""
    shown = set(segmentation["subset"]) - {"all", "focal"}
    return ["figure_6_3_samples", "figure_6_4_samples"][: -(-min(len(shown), 8) // 4)]


def _said(tables: dict[str, pd.DataFrame], settings: dict[str, Any]) -> list[Section]:
    """Return the warnings, if any, and what the numbers say."""
    result = []
    if settings["synthetic"]:
        result.append(Section("Synthetic cohort", [SYNTHETIC_NOTE], alarm=True))
    text, alarm = confound(tables["confound"])
    if alarm:
        result.append(Section("Confound alarm", [text], alarm=True))
    leak = on_leaks(tables["leaks"])
    leaking = bool((tables["leaks"]["n_found"] > 0).any())
    if leaking:
        result.append(Section("Leak", [leak], alarm=True))
    said = [*findings(tables), *_found_confounds(tables["confound"]), on_froc(tables["froc"])]
    said += [*([] if alarm else [text]), *([] if leaking else [leak])]
    said = [sentence for sentence in said if sentence]
    aside = len(tables["set_aside"])
    if aside:
        scans = "1 scan was" if aside == 1 else f"{aside} scans were"
        said.append(f"{scans} set aside by quality control; the cohort section says why.")
    result.append(Section("What the numbers say", said))
    return result


def _detection(tables: dict[str, pd.DataFrame], slices: str) -> Section:
    summary = tables["detection_summary"]
    counted = (
        "Usable slices only."
        if slices == "usable"
        else "All 155 slices of a volume, blank ones too, as the thesis counted."
    )
    section = Section("Detection", [counted, READING], figures=["figure_6_1_roc", "figure_6_2_pr"])
    found = [
        detection_table(
            summary, LEADING, "Slices with a lesion against slices of healthy scans, and whole scans."
        ),
        gain_table(summary),
        detection_table(
            summary,
            THESIS_LAYOUT,
            "Tables 6.1 to 6.3, in the thesis's layout: lesion slices against all others, and every slice of "
            "an abnormal scan against healthy scans. DSC per lesion-bearing slice of all pathologies, atrophy too.",
            tables["segmentation_summary"],
        ),
        paired_table(tables["detection_paired"]),
        paired_table(tables["detection_paired"], CALIBRATED),
        parts_table(summary),
    ]
    section.tables += [table for table in found if table]
    return section


HEALTHY_AGAINST = (
    "Positives of the stratum against slices of all healthy scans (a third of the brain: of the same third)."
)


def _strata(tables: dict[str, pd.DataFrame]) -> Section:
    strata, groups = tables["strata"], tables["subgroups"]
    kinds, rest = ("lesion_volume", "third", "subtype"), ("lesion_volume", "pathology", "subtype")
    found = [
        strata_table(
            strata, "slice_healthy", f"Slice AUROC by what is to be found. {HEALTHY_AGAINST}", kinds
        ),
        strata_table(
            strata, "volume", "Whole scans by what is to be found, against all healthy scans: AUROC.", rest
        ),
    ]
    names = tuple(dict.fromkeys(groups["kind"]))
    for protocol, what in (("slice_healthy", "Slice AUROC"), ("volume", "Whole scans: AUROC")):
        words = "healthy and abnormal of the same subgroup. The networks named are the best of these rows."
        found.append(
            strata_table(groups, protocol, f"{what} by scanner, slice thickness and age; {words}", names)
        )
    section = Section("Strata and subgroups", [s for s in [on_size(strata)] if s], figures=["figure_forest"])
    section.tables += [table for table in found if table]
    return section


def _found_confounds(table: pd.DataFrame) -> list[str]:
    said = (on_position(table), on_position(table, "area_r2"), on_scanners(table), on_transfer(table))
    return [sentence for sentence in said if sentence]


def _confounds(tables: dict[str, pd.DataFrame]) -> Section:
    table = tables["confound"]
    tables_of = (r2_table(table), scanner_table(table), transfer_table(table))
    return Section("Confounds", _found_confounds(table), [t for t in tables_of if t], ["figure_position"])


def _ablations(tables: dict[str, pd.DataFrame]) -> Section:
    said = [on_lambda(tables["lambda"]), *on_pretraining(tables["detection_paired"])]
    table = pretraining_table(tables["detection_paired"])
    section = Section("Ablations", [sentence for sentence in said if sentence], [table] if table else [])
    if not tables["lambda"].empty:
        section.figures.append("figure_lambda")
    if not said or not (section.sentences or section.tables):
        section.sentences.append(
            "No method with a head, and no pair with and without pretraining, was trained."
        )
    return section


def _uncertainty(tables: dict[str, pd.DataFrame]) -> Section:
    summary = tables["risk_coverage_summary"]
    table = risk_table(summary)
    figures = ["figure_risk_coverage"] if table else []
    return Section("Uncertainty", [on_uncertainty(summary)], [table] if table else [], figures)


FROC_NOTE = (
    "A lesion counts as found when one connected region of the map overlaps it with at least 0.1 of their union; each "
    "region finds one lesion; regions under 0.1 mL are dropped. Atrophy, which has no focus, is left out of FROC and "
    "of Dice, where no column says otherwise: its mask marks widened CSF spaces."
)


def _optional(
    title: str, tables: list[Table | None], otherwise: str, figures: list[str], note: str = ""
) -> Section:
    """A section that says why it is empty when it is."""
    found = [table for table in tables if table]
    said = [note] if note else []
    return Section(title, said if found else [otherwise], found, figures)


def sections(tables: dict[str, pd.DataFrame], settings: dict[str, Any]) -> list[Section]:
    """Return the whole report.

    Parameters
    ----------
    tables : dict of DataFrame
        Every CSV of this stage by name.
    settings : dict
        ``synthetic`` and the sections of the config.
    """
    segmentation, fpr = tables["segmentation_summary"], settings["score"]["voxel_fpr"]
    no_mask = "Not computed: no abnormal test scan with a lesion mask."
    paragraphs, references = methods_text(settings)
    published = published_tables()
    parts = [
        *_said(tables, settings),
        _detection(tables, settings["evaluate"]["slices"]),
        _optional(
            "By pathology",
            [pathology_table(tables["pathology"]), pathology_table(tables["pathology"], CALIBRATED)],
            no_mask,
            _samples(segmentation),
        ),
        _optional(
            "Localisation",
            [
                froc_table(tables["froc"]),
                froc_kinds(tables["froc"]),
                froc_table(tables["froc"], "residual"),
                segmentation_table(segmentation, fpr),
                segmentation_table(segmentation, fpr, "calibrated"),
            ],
            no_mask,
            [] if tables["froc"].empty else ["figure_froc"],
            FROC_NOTE,
        ),
        _strata(tables),
        _confounds(tables),
        _ablations(tables),
        _uncertainty(tables),
        _optional(
            "Operating points",
            [
                operating_table(tables["operating_points"]),
                operating_table(tables["operating_points"], CALIBRATED),
            ],
            "Not computed: no scored test scan.",
            ["figure_calibration"] if tables["operating_points"]["specificity"].notna().any() else [],
        ),
        _cohort_section(tables),
        Section("Training", figures=["figure_a_1_losses", "figure_a_2_validation"]),
        Section(
            "What the thesis published",
            ["In-house data of the thesis, for orientation: other scans, so no target for this cohort."],
            published,
        ),
        Section("Methods text", paragraphs),
        Section("References", references),
    ]
    shown = [table for part in parts for table in part.tables]
    for table in shown:
        if table not in published and _CALIBRATED.search(table.caption):
            table.caption += f" {EXPOSED_SHORT}"
    if settings["synthetic"]:
        for table in shown:
            table.caption += f" {SYNTHETIC_BESIDE if table in published else RANKING}"
    return parts
