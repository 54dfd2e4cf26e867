"""One training over two devices: two gloo processes on a CPU."""

import json
import os
import signal
import subprocess
import sys
import time
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
callbacks.AGREE_EVERY = 2
sys.argv.append(folder)  # the other process starts from the same line
fit.main(sys.argv[1:-1])
json.dump(seen, open(f"{folder}/seen-{rank}.json", "w"))
"""

pytestmark = pytest.mark.xdist_group("devices")  # one worker makes the undisturbed training


def start(folder, data, out, chosen):
    line = ["vae_kl", "0", str(data), str(out), "--settings", json.dumps(vars(chosen)), "--threads", "2"]
    line += ["--checkpoint-seconds", "0"]
    # as inside a Slurm job of one task, which must not make Lightning wait for srun
    slurm = {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "1", "SLURM_JOB_NAME": "smk", "SLURM_NNODES": "1"}
    slurm |= {
        "SLURM_PROCID": "0",
        "SLURM_LOCALID": "0",
        "SLURM_NODEID": "0",
        "SLURM_JOB_NODELIST": "far[1-2]",
    }
    return subprocess.Popen(
        [sys.executable, str(folder / "watch.py"), *line, str(folder)],
        env=os.environ | slurm | {"OMP_NUM_THREADS": "1"}, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, start_new_session=True,
    )  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An undisturbed training over two processes: its folder, settings, and what it said."""
    folder = tmp_path_factory.mktemp("two")
    write_packed(folder / "data", slices=41, checks=9)
    (folder / "watch.py").write_text(WATCH)
    chosen = settings(devices=2, method_settings=METHOD_SETTINGS["vae_kl"], epochs=2)
    out = folder / "train" / "seed-0"
    out.parent.mkdir()
    process = start(folder, folder / "data", out, chosen)
    said, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors
    return folder, chosen, said


@pytest.mark.timeout(300)
def test_two_processes_train_one_network_and_one_of_them_writes(whole):
    folder, _, said = whole
    out = folder / "train" / "seed-0"
    weights = [torch.load(folder / f"weights-{rank}.pt", weights_only=True) for rank in (0, 1)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    saved, _ = load_model(out / "model.safetensors")
    assert all(torch.equal(value, weights[0][name]) for name, value in saved.state_dict().items())
    assert all(value.isfinite().all() for value in weights[0].values())
    seen = [Counter(read_json(folder / f"seen-{rank}.json")) for rank in (0, 1)]
    # six batches of at most eight slices, two epochs: as many steps as one process takes
    assert seen[0].pop("steps") == seen[1].pop("steps") == 12
    assert set(seen[0]) == {str((0, "train", epoch, step)) for epoch in (0, 1) for step in range(6)}
    assert set(seen[1]) == {key[:-1] + ", 1)" for key in seen[0]}
    history, report = pd.read_csv(out / "history.csv"), read_json(out / "training.json")
    assert len(history) == report["epochs_run"] == 2
    assert np.isfinite(history["val_loss"]).all()
    assert history["train_loss"].iloc[1] < history["train_loss"].iloc[0]
    assert (report["devices"], report["train_slices"]) == (2, 41)
    lines = [line for line in said.splitlines() if ": epoch " in line]
    assert len(lines) == 2
    assert sorted(p.name for p in out.parent.iterdir()) == ["seed-0"]  # no checkpoint, no part file left


@pytest.mark.timeout(300)
def test_both_killed_in_mid_epoch_they_end_in_the_same_weights(whole, tmp_path):
    folder, chosen, _ = whole
    out = tmp_path / "seed-0"
    checkpoint = tmp_path / ".resume-seed-0.ckpt"
    process = start(folder, folder / "data", out, chosen)
    next(line for line in process.stdout if ": epoch " in line)
    seen = checkpoint.stat().st_mtime_ns
    while checkpoint.stat().st_mtime_ns == seen:  # until the second epoch has a checkpoint of its own
        time.sleep(0.001)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    state = torch.load(checkpoint, weights_only=True)
    assert state["epoch"] == 1
    assert 0 < state["loops"]["fit_loop"]["state_dict"]["combined_loader"][0]["done"] < 6
    again = start(folder, folder / "data", out, chosen)
    said, errors = again.communicate(timeout=240)
    assert again.returncode == 0, errors
    assert "resuming" in said
    for name in ("model.safetensors", "history.csv", "training.json"):
        assert (out / name).read_bytes() == (folder / "train" / "seed-0" / name).read_bytes()
    assert not checkpoint.exists()


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
