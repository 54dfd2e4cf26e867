"""phantom: the embedded synthetic cohort, with ground truth."""

import json

from normct.phantom.plan import subject_settings

PHANTOM_ROWS = {row["participant_id"]: row for row in plan_rows(config["phantom"], ROOT)}


rule phantom_template:
    """The part of the anatomy that all synthetic heads share."""
    output:
        f"{ROOT}/phantom/template.npz",
    log:
        f"{ROOT}/logs/phantom/template.log",
    threads: 1
    resources:
        mem_mb=growing(1500),
        runtime=growing(10),
    params:
        code=code("normct.phantom.template"),
    shell:
        "python -m normct.phantom.template {output} > {log} 2>&1"


rule phantom_subject:
    """One synthetic head CT in its own pose, its lesion mask and the truth behind it."""
    input:
        template=f"{ROOT}/phantom/template.npz",
    output:
        ct=f"{ROOT}/phantom/{{subject}}/ct.nii.gz",
        lesion=f"{ROOT}/phantom/{{subject}}/lesion.nii.gz",
        truth=f"{ROOT}/phantom/{{subject}}/truth.json",
    log:
        f"{ROOT}/logs/phantom/{{subject}}.log",
    priority: learnt_first
    group:
        "preprocess"
    threads: 1
    resources:
        scans=1,
        mem_mb=growing(1500),
        runtime=growing(10),
    params:
        settings=lambda wc: json.dumps(
            subject_settings(config["phantom"], PHANTOM_ROWS[wc.subject]["split"]), sort_keys=True
        ),
        pathology=lambda wc: PHANTOM_ROWS[wc.subject]["pathology"],
        subtype=lambda wc: PHANTOM_ROWS[wc.subject]["subtype"],
        code=code("normct.phantom.subject"),
    shell:
        "python -m normct.phantom.subject {wildcards.subject} --pathology {params.pathology}"
        " --subtype {params.subtype} --settings {params.settings:q} --template {input.template}"
        " --ct {output.ct} --lesion {output.lesion} --truth {output.truth} > {log} 2>&1"


rule phantom_participants:
    """The participants table of the synthetic cohort, for reuse as a table of one's own."""
    output:
        table=f"{ROOT}/phantom/participants.tsv",
    log:
        f"{ROOT}/logs/phantom/participants.log",
    localrule: True
    threads: 1
    resources:
        mem_mb=growing(200),
        runtime=growing(5),
    params:
        settings=json.dumps(config["phantom"], sort_keys=True),
        code=code("normct.phantom.participants"),
    shell:
        "python -m normct.phantom.participants {output.table} --settings {params.settings:q} > {log} 2>&1"
