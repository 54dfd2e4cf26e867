"""The model bundle: frozen after training, checked before it scores, recalibrated at another site, compared with a batch."""

import json
import shlex

from normct.common.bundle import SECTIONS, read_manifest
from normct.score.card_tables import TABLES as CARD_TABLES

if BUNDLE:

    rule score_verify_bundle:
        """Checksums of the frozen bundle, once, before any scan is scored with it."""
        input:
            manifest=str(FROZEN.manifest),
            files=[str(FROZEN.folder / name) for name in read_manifest(BUNDLE)["files"]],
        output:
            f"{ROOT}/score/bundle_verified.json",
        log:
            f"{ROOT}/logs/score/verify_bundle.log",
        threads: 1
        resources:
            mem_mb=growing(500),
            runtime=growing(10),
        params:
            folder=str(FROZEN.folder),
            code=code("normct.score.verify_bundle"),
        shell:
            "python -m normct.score.verify_bundle {params.folder:q} {output:q} > {log:q} 2>&1"


if CALIBRATED_ELSEWHERE:

    rule score_drift:
        """Whether quality measures and scores of these scans are those of the calibration set; a page and a table."""
        input:
            calibration=CALIBRATION,
            verified=f"{ROOT}/score/bundle_verified.json",
            quality=of_each(f"{ROOT}/preprocess/{{subject}}/quality.json", BY_ID),
            volumes=of_each(f"{ROOT}/score/subjects/{{subject}}.json", EXPORTED),
        output:
            page=f"{ROOT}/score/drift.html",
            table=f"{ROOT}/score/drift.csv",
        log:
            f"{ROOT}/logs/score/drift.log",
        threads: 1
        resources:
            mem_mb=growing(800),
            runtime=growing(20),
        params:
            root=ROOT,
            subjects=listed(EXPORTED),
            title=Path(TABLE).stem,
            code=code("normct.score.drift"),
        shell:
            "python -m normct.score.drift {output.page:q} {output.table:q} --calibration {input.calibration:q}"
            " --root {params.root:q} --subjects {params.subjects} --title {params.title:q} > {log:q} 2>&1"


if RECALIBRATE:

    rule score_recalibrate:
        """The frozen networks with this site's reference and calibration: a bundle of its own."""
        input:
            parent=str(FROZEN.manifest),
            verified=f"{ROOT}/score/bundle_verified.json",
            calibration=CALIBRATION,
            reference=REFERENCE,
            healthy_slices=HEALTHY_SLICES,
        output:
            f"{ROOT}/score/bundle/bundle.json",
        log:
            f"{ROOT}/logs/score/recalibrate.log",
        threads: 1
        resources:
            mem_mb=growing(500),
            runtime=growing(10),
        params:
            parent=str(FROZEN.folder),
            folder=f"{ROOT}/score/bundle",
            site=Path(TABLE).stem,
            code=code("normct.score.recalibrate"),
        shell:
            "python -m normct.score.recalibrate {params.parent:q} {params.folder:q} --calibration {input.calibration:q}"
            " --reference {input.reference:q} --healthy-slices {input.healthy_slices:q} --site {params.site:q} > {log:q} 2>&1"


if not BUNDLE:

    rule score_bundle:
        """The model bundle: all that inference needs, with checksums, versions and a model card."""
        input:
            weights=[path for _, _, path in NETWORKS],
            atlas=f"{ROOT}/preprocess/atlas/atlas.nii.gz",
            atlas_mask=f"{ROOT}/preprocess/atlas/atlas_mask.nii.gz",
            mean_brain=BUNDLED_MEAN,
            statistical_atlas=STATISTICAL_ATLAS,
            calibration=CALIBRATION,
            reference=REFERENCE,
            healthy_slices=HEALTHY_SLICES,
            # the card says what the model reached
            evaluation=[f"{ROOT}/evaluate/{name}.csv" for name in CARD_TABLES],
        output:
            f"{ROOT}/score/bundle/bundle.json",
        log:
            f"{ROOT}/logs/score/bundle.log",
        threads: 1
        resources:
            mem_mb=growing(500),
            runtime=growing(10),
        params:
            folder=f"{ROOT}/score/bundle",
            evaluation=f"{ROOT}/evaluate",
            networks=NETWORK_ARGUMENTS,
            mean_brain=f"--mean-brain {shlex.join(BUNDLED_MEAN)}" if BUNDLED_MEAN else "",
            settings=json.dumps(
                {
                    "config": {name: config[name] for name in SECTIONS},
                    "synthetic": SYNTHETIC,
                    "stop": sum(p.role == "stop" for p in PARTICIPANTS),
                }
            ),
            code=code("normct.score.bundle"),
        shell:
            "python -m normct.score.bundle {params.folder:q} {params.networks} --atlas {input.atlas:q}"
            " --atlas-mask {input.atlas_mask:q} {params.mean_brain} --statistical-atlas {input.statistical_atlas:q}"
            " --calibration {input.calibration:q} --reference {input.reference:q}"
            " --healthy-slices {input.healthy_slices:q} --evaluation {params.evaluation:q} --settings {params.settings:q} > {log:q} 2>&1"
