"""Names that every rule file uses: paths, participants, and where frozen or freshly trained parts lie."""

import sys
from pathlib import Path

from normct.cohort.table import Participant, load_participants, participants_from_rows
from normct.common.bundle import read_bundle_config
from normct.common.codehash import code_hash as code
from normct.common.config import validate_config
from normct.common.errors import ConfigError, NormctError
from normct.common.registry import METHODS, STAGE1
from normct.phantom.plan import plan_rows

try:
    validate_config(config, Path(workflow.basedir) / "workflow" / "schemas")
    BUNDLE = config.get("bundle")
    SYNTHETIC = BUNDLE is None and config["cohort"]["participants"] is None
    if (BUNDLE is None) != (config.get("new") is None):
        raise ConfigError("Scoring new scans takes both:", ["--config new=TABLE bundle=FOLDER"])
    if BUNDLE:
        read_bundle_config(BUNDLE, config)  # refuses a bundle that differs from config.yaml or is not whole
        ROOT = f"{config['results_dir']}/new/{Path(config['new']).stem}"
        PARTICIPANTS = load_participants(config["new"], config["cohort"], new=True)
    elif SYNTHETIC:
        ROOT = config["results_dir"]
        PARTICIPANTS = participants_from_rows(plan_rows(config["phantom"], ROOT), config["cohort"])
    else:
        ROOT = config["results_dir"]
        PARTICIPANTS = load_participants(config["cohort"]["participants"], config["cohort"])
except NormctError as error:
    # the message is the user's; a traceback through Snakemake would bury it
    print(f"\n{error}\n", file=sys.stderr)
    raise SystemExit(1)
