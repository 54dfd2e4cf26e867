"""Names that every rule file uses: paths, participants, and where frozen or freshly trained parts lie."""

import gc
import json
import re
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError

from normct.cohort.check import check_files, with_file_faults
from normct.cohort.folds import training_folds
from normct.cohort.table import Participant, TableError, load_participants, participants_from_rows
from normct.common.bundle import read_bundle_config
from normct.common.codehash import code_hash as code
from normct.common.config import validate_config
from normct.common.errors import ConfigError, NormctError
from normct.common.planning import plan_lightly
from normct.common.registry import FUSED, METHODS, STAGE1
from normct.common.rules import growing, inspected, listed, of_each
from normct.common.scheduling import quieten
from normct.common.slurm_queue import no_accounts, watch
from normct.phantom.plan import plan_rows
from normct.preprocess.skullstrip_engines import engine_faults

# a large cohort's graph is millions of objects that live to the end: looking through them for cycles again and again
# took a quarter of the time to plan it; `onstart` sets them apart and looks again
gc.disable()
plan_lightly()

try:
    validate_config(config, Path(workflow.basedir) / "workflow" / "schemas")
    BUNDLE = config.get("bundle")
    # a table of a site's own healthy scans, that a frozen model is recalibrated with
    RECALIBRATE = config.get("healthy")
    SYNTHETIC = BUNDLE is None and config["cohort"]["participants"] is None
    given = [key for key in ("new", "healthy") if config.get(key) is not None]
    if len(given) != (0 if BUNDLE is None else 1):
        raise ConfigError(
            "Frozen models take a bundle and one table:",
            [
                "to score new scans: --config new=TABLE bundle=FOLDER",
                "to recalibrate: --config healthy=TABLE bundle=FOLDER",
            ],
        )
    if BUNDLE:
        read_bundle_config(
            BUNDLE, config
        )  # refuses a bundle that is not whole or differs from the configuration
        TABLE = config[given[0]]
        kind = "recalibrated" if RECALIBRATE else "new"
        # a blank in a table's name must not reach a shell
        ROOT = f"{config['results_dir']}/{kind}/{re.sub('[^A-Za-z0-9_.-]+', '_', Path(TABLE).stem)}"
        PARTICIPANTS = load_participants(TABLE, config["cohort"], new=True, calibrate=RECALIBRATE is not None)
    elif SYNTHETIC:
        ROOT = config["results_dir"]
        PARTICIPANTS = participants_from_rows(plan_rows(config["phantom"], ROOT), config["cohort"])
    else:
        ROOT = config["results_dir"]
        PARTICIPANTS = load_participants(config["cohort"]["participants"], config["cohort"])
    # score.cross_fit: training scan to its fold; a frozen model brings its calibration or makes it of new scans
    FOLD_OF = (
        {} if BUNDLE else training_folds(PARTICIPANTS, config["score"]["cross_fit"], config["cohort"]["seed"])
    )
except NormctError as error:
    # the message is the user's; a traceback through Snakemake would bury it
    if isinstance(error, TableError) and not BUNDLE and not workflow.output_settings.dryrun:
        error = with_file_faults(error, config["cohort"], Path(ROOT) / "cohort" / "checked.json", 4)
    print(f"\n{error}\n", file=sys.stderr)
    raise SystemExit(1)

# the demo's name of config.yaml would call real scans synthetic
TITLE = config["handoff"]["title"]
if TITLE == "NormCT demo (synthetic)" and not SYNTHETIC:
    TITLE = f"New scans: {Path(TABLE).stem}" if BUNDLE else "NormCT"

BY_ID: dict[str, Participant] = {p.participant_id: p for p in PARTICIPANTS}

# `python` in a rule is the one that runs Snakemake, unless conda or a container brings its own, which lacks our code
DEPLOYED = {method.name for method in workflow.deployment_settings.deployment_method}
OWN_PYTHON = f"PATH={str(Path(sys.executable).parent)!r}:$PATH"
OUR_CODE = f"PYTHONPATH={str(Path(workflow.basedir) / 'src')!r}${{{{PYTHONPATH:+:$PYTHONPATH}}}}"
shell.prefix(f"export {OUR_CODE if DEPLOYED else OWN_PYTHON}; set -euo pipefail; ")


# how many scans of one cluster job are at work at once; the profile says one, for its executor starts one after another
resource_scopes:
    scans="local",


wildcard_constraints:
    subject="sub-[A-Za-z0-9]+",
    method="[a-z][a-z0-9_]*",
    seed="[0-9]+",
    fold="[0-9]+",


# what networks learn from, early stopping included; no other role ever reaches a network's training
LEARNT_FROM = ("train", "stop")


@inspected
def learnt_first(wildcards) -> int:
    """Return the priority of a scan's jobs: training, the longest chain, waits for the scans it learns from."""
    return int(BY_ID[wildcards.subject].role in LEARNT_FROM)


def final_outputs() -> list[str]:
    """Return what `snakemake` makes when no target is named."""
    if RECALIBRATE:
        return [f"{ROOT}/{name}" for name in ("preprocess/quality.html", "score/bundle/bundle.json")]
    wanted = [
        "cohort/participants.tsv",
        "preprocess/quality.html",
        "score/slices.csv.gz",
        "handoff/index.html",
    ]
    wanted += ["score/bundle/bundle.json", "evaluate/report.html"] if BUNDLE is None else ["score/drift.html"]
    if SYNTHETIC:
        wanted += ["phantom/participants.tsv"]
    return [f"{ROOT}/{name}" for name in wanted] + nifti_slice_folders()


def needs_bundle(wildcards):
    """Refuse `score_new` and `recalibrate` without a bundle, in words."""
    raise WorkflowError(
        "score_new needs a frozen bundle: --config new=TABLE bundle=FOLDER (make bundle writes one);"
        " recalibrate: --config healthy=TABLE bundle=FOLDER"
    )


def preflight() -> None:
    """Read every new file once, and look for the programs the config names; raise with every fault found."""
    # Slurm's executor asks sacct unless it is told otherwise
    if getattr(workflow.executor_settings, "status_command", None) == "sacct" and (fault := no_accounts()):
        raise ConfigError("The cluster cannot be used as slurm/config.yaml has it:", [fault])
    faults = engine_faults(config["preprocess"]["skullstrip"]["engine"])
    if faults and not DEPLOYED:  # an environment or an image brings the programs
        raise ConfigError("A program that the configuration names is missing:", faults)
    if not SYNTHETIC:
        print(f"Reading {len(PARTICIPANTS)} scans once (files already read are skipped) ...", file=sys.stderr)
        checked = Path(ROOT) / "cohort" / "checked.json"
        check_files(PARTICIPANTS, config["cohort"], checked, workflow.cores or 4, new=BUNDLE is not None)


def closing_words() -> int:
    """Say where the results are and what was set aside; return the exit status (3: something could not be made)."""
    lines, status = [], Path(ROOT) / "handoff" / "status.json"
    aside = []
    for subject in BY_ID:
        quality = Path(ROOT) / "preprocess" / subject / "quality.json"
        if quality.is_file():
            record = json.loads(quality.read_text("utf-8"))
            if record["verdict"] == "fail":
                aside.append(f"  {subject}: {'; '.join(record['reasons'])}")
    if (Path(ROOT) / "handoff" / "index.html").is_file():
        lines += [f"Worklist:   {ROOT}/handoff/index.html"]
    if BUNDLE is None and (Path(ROOT) / "evaluate" / "report.html").is_file():
        lines += [f"Evaluation: {ROOT}/evaluate/report.html"]
    for name, words in (("drift.html", "Drift:     "), ("bundle", "New bundle:")):
        if BUNDLE and (Path(ROOT) / "score" / name).exists():
            lines += [f"{words} {Path(ROOT) / 'score' / name}"]
    if RECALIBRATE and len(BY_ID) - len(aside) < 20:
        lines += [
            f"Only {len(BY_ID) - len(aside)} healthy scans: thresholds and percentiles are coarse; 20 or more wanted."
        ]
    if (Path(ROOT) / "preprocess" / "quality.html").is_file():
        lines += [f"Quality:    {ROOT}/preprocess/quality.html"]
    if SYNTHETIC:
        lines += [
            "This cohort is synthetic: its figures show that the pipeline works; the ranking may differ on patients."
        ]
    if aside:
        lines += [f"Set aside by quality control ({len(aside)} of {len(BY_ID)}):", *aside]
    failed = json.loads(status.read_text("utf-8")).get("failed", []) if status.is_file() else []
    if failed:
        lines += [
            "Pages that could not be made:",
            *(f"  {item['participant_id']}: {item['reason']}" for item in failed),
        ]
    print("\n" + "\n".join(lines), file=sys.stderr)
    return 3 if failed else 0
