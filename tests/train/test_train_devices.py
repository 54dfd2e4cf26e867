"""One training over two devices: two gloo processes on a CPU."""

import json
import os
import subprocess
import sys
from collections import Counter

import numpy as np
import pandas as pd
import pytest
import torch

from factories import METHOD_SETTINGS
from normct.common.errors import NormctError
from normct.common.files import read_json
from normct.models import load_model
from normct.train import data as train_data
from normct.train.callbacks import same_everywhere
from normct.train.data import IndexBatches
from normct.train.setup import choose_device
from train.train_case import settings, write_packed

WATCH = """
import atexit, collections, json, os, sys, torch
from normct.train import callbacks, fit, module
folder, seen = sys.argv.pop(), collections.Counter()
check, draw, step = callbacks.same_everywhere, module.generator, module.TrainingModule.optimizer_step
rank = int(os.environ.get("LOCAL_RANK", 0))
def checked(weights, device):
    torch.save(weights, f"{folder}/weights-{rank}.pt")
    check(weights, device)
def drawn(device, *parts):
    if parts[1] == "train":
        seen[str(parts)] += 1
    return draw(device, *parts)
def stepped(self, *args, **kwargs):
    seen["steps"] += 1
    return step(self, *args, **kwargs)
callbacks.same_everywhere, module.generator, module.TrainingModule.optimizer_step = checked, drawn, stepped
sys.argv.append(folder)  # the other process starts from the same line
fit.main(sys.argv[1:-1])
json.dump(seen, open(f"{folder}/seen-{rank}.json", "w"))
"""


def run(folder, script, data, out, chosen, method="multitask_pretrained", init=None):
    line = [method, "0", str(data), str(out), "--settings", json.dumps(vars(chosen)), "--threads", "2"]
    line += ["--checkpoint-seconds", "0"] + (["--init", str(init)] if init else [])
    # as inside a Slurm job of one task, which must not make Lightning wait for srun
    slurm = {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "1", "SLURM_JOB_NAME": "smk", "SLURM_NNODES": "1"}
    slurm |= {
        "SLURM_PROCID": "0",
        "SLURM_LOCALID": "0",
        "SLURM_NODEID": "0",
        "SLURM_JOB_NODELIST": "far[1-2]",
    }
    return subprocess.run(
        [sys.executable, str(script), *line, str(folder)], check=False,
        env=os.environ | slurm | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=240,
    )  # fmt: skip


@pytest.mark.timeout(300)
def test_two_processes_train_one_network_and_one_of_them_writes(tmp_path):
    data = write_packed(tmp_path / "data", slices=41, checks=9)
    (tmp_path / "watch.py").write_text(WATCH)
    own = METHOD_SETTINGS["vae_kl"]
    chosen = settings(devices=2, method_settings=own, epochs=2)
    out = tmp_path / "train" / "seed-0"
    out.parent.mkdir()
    done = run(tmp_path, tmp_path / "watch.py", data, out, chosen, "vae_kl")
    assert done.returncode == 0, done.stderr
    weights = [torch.load(tmp_path / f"weights-{rank}.pt", weights_only=True) for rank in (0, 1)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    saved, _ = load_model(out / "model.safetensors")
    assert all(torch.equal(value, weights[0][name]) for name, value in saved.state_dict().items())
    assert all(value.isfinite().all() for value in weights[0].values())
    seen = [Counter(read_json(tmp_path / f"seen-{rank}.json")) for rank in (0, 1)]
    # six batches of at most eight slices, two epochs: as many steps as one process takes
    assert seen[0].pop("steps") == seen[1].pop("steps") == 12
    assert set(seen[0]) == {str((0, "train", epoch, step)) for epoch in (0, 1) for step in range(6)}
    assert set(seen[1]) == {key[:-1] + ", 1)" for key in seen[0]}
    history, report = pd.read_csv(out / "history.csv"), read_json(out / "training.json")
    assert len(history) == report["epochs_run"] == 2
    assert np.isfinite(history["val_loss"]).all()
    assert history["train_loss"].iloc[1] < history["train_loss"].iloc[0]
    assert (report["devices"], report["train_slices"]) == (2, 41)
    lines = [line for line in done.stdout.splitlines() if ": epoch " in line]
    assert len(lines) == 2
    assert sorted(p.name for p in out.parent.iterdir()) == ["seed-0"]  # no checkpoint, no part file left


def test_every_slice_of_a_batch_goes_to_one_process(monkeypatch):
    rows, shares = torch.arange(17), []
    for rank in range(2):
        monkeypatch.setattr(train_data, "ranks", lambda rank=rank: (rank, 2))
        shares.append([part.tolist() for _, part, _ in IndexBatches(rows, 8, 3)])
    monkeypatch.setattr(train_data, "ranks", lambda: (0, 1))
    whole = [part.tolist() for _, part, _ in IndexBatches(rows, 8, 3)]
    assert [len(share) for share in shares] == [3, 3]
    for mine, other, both in zip(*shares, whole, strict=True):
        assert mine and other
        assert set(mine) | set(other) == set(both)
        if len(both) > 1:
            assert sorted(mine + other) == sorted(both)


def test_weights_that_differ_or_are_not_finite_are_refused(monkeypatch):
    same_everywhere({"w": torch.ones(3)}, torch.device("cpu"))
    with pytest.raises(NormctError, match="not finite"):
        same_everywhere({"w": torch.tensor([1.0, float("nan")])}, torch.device("cpu"))
    from normct.train import callbacks

    monkeypatch.setattr(callbacks, "ranks", lambda: (0, 2))
    monkeypatch.setattr(callbacks, "over_ranks", lambda values: values * 2 + 0.1)
    with pytest.raises(NormctError, match="differ between processes"):
        same_everywhere({"w": torch.ones(3)}, torch.device("cpu"))


def test_more_devices_than_gpus_are_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert choose_device("auto", 1) == "cuda"
    with pytest.raises(NormctError, match="devices is 2, but PyTorch finds 1"):
        choose_device("auto", 2)
