"""Scans as they come, NIfTI or DICOM, to int16 HU on their own grid."""

import shlex

from normct.cohort.dicom_folder import folder_stamp
from normct.cohort.faults import readable
from normct.cohort.participants import digest, write_participants


def raw_files(wildcards):
    """Return one subject's own files; a missing, empty or odd one is left to the import."""
    person = BY_ID[wildcards.subject]
    return [f for f in (person.ct, person.lesion_mask) if f and (SYNTHETIC or readable(f))]


rule cohort_participants:
    """Write the resolved table: groups, splits and roles of all scans, no paths."""
    output:
        f"{ROOT}/cohort/participants.tsv",
    log:
        f"{ROOT}/logs/cohort/participants.log",
    localrule: True
    threads: 1
    resources:
        mem_mb=growing(500),
        runtime=growing(10),
    params:
        rows=digest(PARTICIPANTS),
        code=code("normct.cohort.participants"),
    run:
        write_participants(PARTICIPANTS, output[0])
        Path(log[0]).write_text(f"{len(PARTICIPANTS)} rows\n")


rule cohort_import:
    """Import one scan and its lesion mask; what cannot be used is set aside, with the reason in import.json."""
    input:
        raw_files,
    output:
        ct=f"{ROOT}/cohort/{{subject}}/ct.nii.gz",
        lesion=f"{ROOT}/cohort/{{subject}}/lesion.nii.gz",
        record=f"{ROOT}/cohort/{{subject}}/import.json",
        private=f"{ROOT}/cohort/{{subject}}/dicom_private.json",
    log:
        f"{ROOT}/logs/cohort/{{subject}}.log",
    priority: learnt_first
    group:
        "preprocess"
    threads: 1
    resources:
        scans=1,
        mem_mb=growing(2500),
        runtime=growing(15),
    params:
        ct=lambda wc: BY_ID[wc.subject].ct,
        lesion=lambda wc: (
            f"--lesion {shlex.quote(BY_ID[wc.subject].lesion_mask)}" if BY_ID[wc.subject].lesion_mask else ""
        ),
        folder=lambda wc: folder_stamp(BY_ID[wc.subject].ct),
        out=lambda wc, output: str(Path(output.ct).parent),
        code=code("normct.cohort.importer"),
    shell:
        "python -m normct.cohort.importer --subject {wildcards.subject} --ct {params.ct:q} {params.lesion} "
        "--out {params.out:q} > {log:q} 2>&1"
