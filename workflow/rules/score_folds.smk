"""score: K-fold cross-fitting, so that training scans calibrate too.

Each fold's networks and statistical atlas are made of the other folds' patients by the very rules that make the
model's own, and score the fold's scans. Nothing of them goes into the bundle.
"""

import shlex

FOLD_SCANS = {}
for scan in FOLD_OF:
    FOLD_SCANS.setdefault(patient_of(scan), []).append(scan)
# stage 1 learnt from somebody too: what it records is read wherever a network starts from it
FOLD_RECORDED = list(SCORE_METHODS)
if STAGE1 not in FOLD_RECORDED and any(METHODS[m].pretrained for m in FOLD_RECORDED):
    FOLD_RECORDED.append(STAGE1)


def outside(scans, fold) -> list[Participant]:
    """Return the scans that are not of a fold's patients."""
    return [p for p in scans if FOLD_OF.get(p.participant_id) != int(fold)]


def fold_network(subject, method, seed, name="model.safetensors") -> str:
    """Return where a file of one network of the scan's own fold lies."""
    return f"{ROOT}/train/folds/{FOLD_OF[subject]}/{method}/seed-{seed}/{name}"


def fold_atlas(subject) -> str:
    """Return where the statistical atlas of the scan's own fold lies."""
    return f"{ROOT}/score/folds/{FOLD_OF[subject]}/statistical_atlas.npz"


def fold_reports(subject) -> list[str]:
    """Return what the networks of the scan's own fold record of whom they learnt from."""
    return [fold_network(subject, m, s, "training.json") for m in FOLD_RECORDED for s in SCORE_SEEDS]


def fold_files(subject) -> list[str]:
    """Return the weights of the scan's own fold, and what is read to make sure that they may score it."""
    weights = [fold_network(subject, m, s) for m in FOLD_RECORDED for s in SCORE_SEEDS]
    return weights + fold_reports(subject)


def fold_arguments(subject) -> str:
    """Return the command-line words that name the networks of the scan's own fold, and its patient's scans."""
    words = []
    for method, seed, _ in NETWORKS:
        words += ["--network", method, str(seed), fold_network(subject, method, seed)]
    words += ["--fold", str(FOLD_OF[subject]), "--same-patient", *FOLD_SCANS[patient_of(subject)]]
    return shlex.join(words + ["--training", *fold_reports(subject)])


use rule train_pack as train_fold_pack with:
    input:
        lambda wc: [f"{ROOT}/preprocess/{p.participant_id}/slices.npz" for p in outside(TRAINED_ON, wc.fold)],
    output:
        images=f"{ROOT}/train/folds/{{fold}}/data/images.npy",
        masks=f"{ROOT}/train/folds/{{fold}}/data/masks.npy",
        index=f"{ROOT}/train/folds/{{fold}}/data/index.tsv",
        content=f"{ROOT}/train/folds/{{fold}}/data/content.json",
    log:
        f"{ROOT}/logs/train/folds/{{fold}}/pack.log",
    params:
        plan=lambda wc: pack_plan(outside(TRAINED_ON, wc.fold)),
        folder=f"{ROOT}/train/folds/{{fold}}/data",


use rule train_stage1 as train_fold_stage1 with:
    input:
        rules.train_fold_pack.output,
    output:
        **{k: f"{ROOT}/train/folds/{{fold}}/{STAGE1}/seed-{{seed}}/{v}" for k, v in TRAIN_OUTPUTS.items()},
    log:
        f"{ROOT}/logs/train/folds/{{fold}}/{STAGE1}-seed-{{seed}}.log",
    params:
        data=f"{ROOT}/train/folds/{{fold}}/data",
        folder=f"{ROOT}/train/folds/{{fold}}/{STAGE1}/seed-{{seed}}",


use rule train_method as train_fold_method with:
    input:
        data=rules.train_fold_pack.output,
        init=lambda wc: (
            f"{ROOT}/train/folds/{wc.fold}/{STAGE1}/seed-{wc.seed}/model.safetensors"
            if METHODS[wc.method].pretrained
            else []
        ),
    output:
        **{k: f"{ROOT}/train/folds/{{fold}}/{{method}}/seed-{{seed}}/{v}" for k, v in TRAIN_OUTPUTS.items()},
    log:
        f"{ROOT}/logs/train/folds/{{fold}}/{{method}}-seed-{{seed}}.log",
    params:
        data=f"{ROOT}/train/folds/{{fold}}/data",
        folder=f"{ROOT}/train/folds/{{fold}}/{{method}}/seed-{{seed}}",


use rule score_atlas as score_fold_atlas with:
    input:
        lambda wc: atlas_inputs(outside(ATLAS_SCANS, wc.fold)),
    output:
        f"{ROOT}/score/folds/{{fold}}/statistical_atlas.npz",
    log:
        f"{ROOT}/logs/score/folds/{{fold}}/atlas.log",
    params:
        subjects=lambda wc: listed([p.participant_id for p in outside(ATLAS_SCANS, wc.fold)]),
        people=lambda wc: atlas_people(outside(ATLAS_SCANS, wc.fold)),
        # it stays here and says whose scans it was made of, so that inference can refuse them
        settings=json.dumps(
            SCORE_CONFIG["score"]["statistical_atlas"] | SCORE_INTENSITY | {"name_subjects": True}
        ),
