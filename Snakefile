"""NormCT: from raw head CT to the page a clinician opens. One rule file a stage."""

from snakemake.utils import min_version

min_version("9.27")


configfile: "config.yaml"


# what `snakemake --sdm apptainer` runs the jobs in; envs/normct.def says how to build it
container: "normct.sif"


include: "workflow/rules/common.smk"


if SYNTHETIC:

    include: "workflow/rules/phantom.smk"


include: "workflow/rules/cohort.smk"
include: "workflow/rules/preprocess.smk"


if SECOND_PASS:

    include: "workflow/rules/preprocess_second_pass.smk"


if BUNDLE is None:

    include: "workflow/rules/train.smk"


include: "workflow/rules/score.smk"


if not CALIBRATED_ELSEWHERE:

    include: "workflow/rules/score_calibrate.smk"


include: "workflow/rules/score_bundle.smk"


if BUNDLE is None:

    include: "workflow/rules/score_atlas.smk"

    if FOLD_OF:

        include: "workflow/rules/score_folds.smk"
    include: "workflow/rules/evaluate.smk"
    include: "workflow/rules/evaluate_pages.smk"


include: "workflow/rules/handoff.smk"


rule all:
    default_target: True
    input:
        final_outputs(),


rule score_new:
    """Score new scans with a frozen bundle: --config new=TABLE bundle=FOLDER."""
    input:
        final_outputs() if BUNDLE and not RECALIBRATE else needs_bundle,


rule recalibrate:
    """A new bundle with a site's own scales and thresholds: --config healthy=TABLE bundle=FOLDER."""
    input:
        final_outputs() if RECALIBRATE else needs_bundle,


onstart:
    try:
        preflight()
    except NormctError as error:
        print(f"\n{error}\n", file=sys.stderr)
        raise SystemExit(1)
    quieten(workflow)
    gc.freeze()
    gc.enable()
    if workflow.non_local_exec:
        # Snakemake waits in silence for a job that Slurm will never start
        watch(lambda text: print(f"\n{text}\n", file=sys.stderr))


onsuccess:
    if closing_words():
        raise SystemExit(3)
