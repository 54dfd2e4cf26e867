"""train: stage 1 (context restoration), the methods that start from it, and the baselines that do not."""

import json

from normct.common.epochs import epochs_of
from normct.common.files import write_json

TRAIN = config["train"]
TRAINED_ON = [p for p in PARTICIPANTS if p.role in LEARNT_FROM]
TRAIN_SHARED = (
    "network learning_rate batch_size plateau_factor plateau_patience stop_patience gradient_clip accelerator precision"
    " compile devices"
).split()
# a cluster gives it; a run without a scheduler counts it only where --resources gpu=N is given
TRAIN_GPU = 0 if TRAIN["accelerator"] == "cpu" else TRAIN["devices"]
# without a GPU each of several devices is a process of its own
TRAIN_THREADS = TRAIN["threads"] * TRAIN["devices"]
TRAIN_OUTPUTS = {
    "model": "model.safetensors",
    "report": "training.json",
    "history": "history.csv",
    "losses": "losses.png",
    "reconstructions": "reconstructions.png",
}


def longest_first(method: str) -> int:
    """Return the priority of a method's training: more than any scan's, and more where more epochs lie ahead."""
    following = [epochs_of(TRAIN, m) for m in TRAIN["methods"] if METHODS[m].pretrained]
    return 2 + epochs_of(TRAIN, method) + (max(following, default=0) if method == STAGE1 else 0)


def train_settings(method: str) -> str:
    """Return what one method's training depends on: its own section and the shared keys, no other method's."""
    own = {k: v for k, v in TRAIN[METHODS[method].section].items() if k != "epochs"}
    shared = {k: TRAIN[k] for k in TRAIN_SHARED}
    return json.dumps(
        {**shared, "method_settings": own, "epochs": epochs_of(TRAIN, method)},
        sort_keys=True,
    )


def pack_plan(scans) -> list[dict[str, str]]:
    """Return what the packing of these scans reads."""
    return [
        {
            "participant_id": p.participant_id,
            "patient": p.patient,
            "role": p.role,
            "slices": f"{ROOT}/preprocess/{p.participant_id}/slices.npz",
        }
        for p in scans
    ]


rule train_pack:
    """The usable slices of training and early-stopping scans, in arrays that can be memory-mapped."""
    input:
        of_each(f"{ROOT}/preprocess/{{subject}}/slices.npz", [p.participant_id for p in TRAINED_ON]),
    output:
        images=f"{ROOT}/train/data/images.npy",
        masks=f"{ROOT}/train/data/masks.npy",
        index=f"{ROOT}/train/data/index.tsv",
        # hash of the pixels: a training resumes on its own ones only
        content=f"{ROOT}/train/data/content.json",
    log:
        f"{ROOT}/logs/train/pack.log",
    priority: 2
    threads: 1
    resources:
        mem_mb=growing(500),
        runtime=growing(60),
    params:
        plan=pack_plan(TRAINED_ON),
        folder=f"{ROOT}/train/data",
        code=code("normct.train.pack"),
    run:
        # thousands of scans do not fit on a command line, so the plan goes by a file
        plan_file = f"{params.folder}/.plan.json"
        write_json(plan_file, params.plan)
        shell("python -m normct.train.pack {params.folder:q} {plan_file:q} > {log:q} 2>&1")


rule train_stage1:
    """Context restoration: a method of its own, and the start of every pretrained one of the same seed."""
    input:
        rules.train_pack.output,
    output:
        **{k: f"{ROOT}/train/{STAGE1}/seed-{{seed}}/{v}" for k, v in TRAIN_OUTPUTS.items()},
    log:
        f"{ROOT}/logs/train/{STAGE1}-seed-{{seed}}.log",
    priority: longest_first(STAGE1)
    threads: TRAIN_THREADS
    resources:
        mem_mb=growing(3000 * TRAIN["devices"]),
        runtime=growing(1440),
        gpu=TRAIN_GPU,
        nodes=1,  # its GPUs are one machine's: Slurm may spread --gpus=2 over two
    params:
        data=f"{ROOT}/train/data",
        folder=f"{ROOT}/train/{STAGE1}/seed-{{seed}}",
        method=STAGE1,
        settings=train_settings(STAGE1),
        code=code("normct.train.fit"),
    shell:
        # the epochs' lines also go to the terminal. At a time limit SIGTERM comes to all at once: Python alone minds it,
        # while the shell waits for its checkpoint and tee for its last word. Both append, or one would overwrite the other
        "trap : TERM; : > {log:q};"
        " python -m normct.train.fit {params.method} {wildcards.seed} {params.data:q} {params.folder:q}"
        " --settings {params.settings:q} --threads {threads} 2>> {log:q} | (trap '' TERM; exec tee -a {log:q})"


rule train_method:
    """A stage-2 method from stage 1's weights of the same seed, or a baseline from scratch."""
    input:
        data=rules.train_pack.output,
        init=lambda wc: (
            f"{ROOT}/train/{STAGE1}/seed-{wc.seed}/model.safetensors"
            if METHODS[wc.method].pretrained
            else []
        ),
    output:
        **{k: f"{ROOT}/train/{{method}}/seed-{{seed}}/{v}" for k, v in TRAIN_OUTPUTS.items()},
    log:
        f"{ROOT}/logs/train/{{method}}-seed-{{seed}}.log",
    wildcard_constraints:
        method="|".join(m for m in METHODS if m != STAGE1),
    priority: lambda wc: longest_first(wc.method)
    threads: TRAIN_THREADS
    resources:
        mem_mb=growing(3000 * TRAIN["devices"]),
        runtime=growing(1440),
        gpu=TRAIN_GPU,
        nodes=1,  # its GPUs are one machine's: Slurm may spread --gpus=2 over two
    params:
        data=f"{ROOT}/train/data",
        folder=f"{ROOT}/train/{{method}}/seed-{{seed}}",
        init=lambda wc, input: f"--init {input.init}" if input.init else "",
        settings=lambda wc: train_settings(wc.method),
        code=code("normct.train.fit"),
    shell:
        "trap : TERM; : > {log:q};"
        " python -m normct.train.fit {wildcards.method} {wildcards.seed} {params.data:q} {params.folder:q} {params.init}"
        " --settings {params.settings:q} --threads {threads} 2>> {log:q} | (trap '' TERM; exec tee -a {log:q})"


rule train_all:
    """Every network the configuration names: snakemake --cores all train_all."""
    input:
        expand(
            f"{ROOT}/train/{{method}}/seed-{{seed}}/model.safetensors",
            method=TRAIN["methods"],
            seed=TRAIN["seeds"],
        ),
        expand(
            f"{ROOT}/train/folds/{{fold}}/{{method}}/seed-{{seed}}/model.safetensors",
            fold=sorted(set(FOLD_OF.values())),
            method=TRAIN["methods"],
            seed=TRAIN["seeds"],
        ),
