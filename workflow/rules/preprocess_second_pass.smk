"""preprocess: the second rigid pass, to the mean of the training brains."""

if BUNDLE is None:
    LEARNT = [p.participant_id for p in PARTICIPANTS if p.role == "train" and p.quality != "fail"]

    rule preprocess_mean_brain:
        """The mean of the training brains after the first pass; what a second pass registers every brain to."""
        input:
            records=of_each(FIRST_JSON, LEARNT),
            transforms=of_each(FIRST_MAT, LEARNT),
            brains=of_each(f"{PREPROCESS}/brain.nii.gz", LEARNT),
            masks=of_each(f"{PREPROCESS}/brain_mask.nii.gz", LEARNT),
            atlas_mask=ATLAS_MASK,
        output:
            image=MEAN_BRAIN,
            mask=MEAN_MASK,
        log:
            f"{ROOT}/logs/preprocess/mean_brain.log",
        threads: 1
        resources:
            mem_mb=growing(1000),
            runtime=growing(60),
        params:
            code=code("normct.preprocess.mean_brain"),
        run:
            named = Path(str(log)).with_suffix(".inputs")
            named.write_text("\n".join(input.records) + "\n", "utf-8")
            shell(
                "python -m normct.preprocess.mean_brain {output.image} {output.mask} {input.atlas_mask}"
                " --inputs-file {named:q} > {log} 2>&1"
            )


rule preprocess_refine:
    """Register a brain once more, to the mean of the training brains, from where the first pass left it."""
    input:
        brain=f"{PREPROCESS}/brain.nii.gz",
        mask=f"{PREPROCESS}/brain_mask.nii.gz",
        mean=MEAN_BRAIN,
        mean_mask=MEAN_MASK,
        atlas=ATLAS,
        atlas_mask=ATLAS_MASK,
        transform=FIRST_MAT,
        record=FIRST_JSON,
    output:
        transform=f"{PREPROCESS}/native_to_atlas.mat",
        record=f"{PREPROCESS}/register.json",
    log:
        f"{PREPROCESS_LOGS}/refine.log",
    priority: learnt_first
    group:
        LATER_GROUP
    threads: 1
    resources:
        scans=1,
        mem_mb=growing(1500),
        runtime=growing(20),
    params:
        code=code("normct.preprocess.refine"),
    shell:
        "python -m normct.preprocess.refine {input.brain} {input.mask} {input.mean} {input.mean_mask}"
        " {input.atlas} {input.atlas_mask} {input.transform} {input.record} {output.transform} {output.record}"
        " > {log} 2>&1"
