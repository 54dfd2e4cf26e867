"""score: the statistical atlas, which competes with the networks and is the healthy reference of the baselines."""

import json

# whose mean and spread the statistical atlas is
ATLAS_SCANS = [p for p in PARTICIPANTS if p.role == "train"]


def atlas_inputs(scans) -> list[str]:
    """Return what an atlas of these scans reads."""
    ids = [p.participant_id for p in scans]
    files = expand(
        f"{ROOT}/preprocess/{{subject}}/{{file}}", subject=ids, file=["slices.npz", "quality.json"]
    )
    return files + expand(f"{ROOT}/cohort/{{subject}}/import.json", subject=ids)


def atlas_people(scans) -> str:
    """Return what new scans are compared with to tell a stranger to the model."""
    return json.dumps(
        {
            "ages": sorted({p.age for p in scans if p.age is not None}),
            "scanners": sorted({p.scanner for p in scans if p.scanner}),
        }
    )


rule score_atlas:
    """Voxelwise mean and spread over the healthy training scans, and the healthy reference of the baselines."""
    input:
        lambda wc: atlas_inputs(ATLAS_SCANS),
    output:
        f"{ROOT}/score/statistical_atlas.npz",
    log:
        f"{ROOT}/logs/score/atlas.log",
    threads: 1
    resources:
        mem_mb=growing(1000),
        runtime=growing(60),
    params:
        folder=f"{ROOT}/preprocess",
        subjects=listed([p.participant_id for p in ATLAS_SCANS]),
        cohort=f"{ROOT}/cohort",
        people=atlas_people(ATLAS_SCANS),
        settings=json.dumps(SCORE_CONFIG["score"]["statistical_atlas"] | SCORE_INTENSITY),
        code=code("normct.score.statistical_atlas"),
    shell:
        "python -m normct.score.statistical_atlas {params.folder:q} {output:q} --subjects {params.subjects}"
        " --cohort {params.cohort:q} --people {params.people:q} --settings {params.settings:q} > {log:q} 2>&1"
