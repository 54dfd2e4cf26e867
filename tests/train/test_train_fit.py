"""Whole trainings on tiny data: they learn, repeat, resume and refuse."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from factories import METHOD_SETTINGS, make_store
from normct.common.errors import NormctError
from normct.common.files import read_json
from normct.common.registry import METHODS
from normct.common.slices import write_slices
from normct.models import build_model, load_model, save_model
from normct.train.fit import fit
from normct.train.objectives import OBJECTIVES
from normct.train.pack import pack
from normct.train.setup import Settings, choose_device, choose_precision, start_network

NETWORK = {"width": 4, "latent": 8, "in_channels": 1}


def settings(method, **changes):
    basic = Settings(
        method_settings=METHOD_SETTINGS[method] | changes.pop("own", {}), network=NETWORK, epochs=2,
        learning_rate=0.003, batch_size=16, plateau_factor=0.5, plateau_patience=5, stop_patience=10,
        gradient_clip=1.0, accelerator="cpu", precision="32-true",
    )  # fmt: skip
    return dataclasses.replace(basic, **changes)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("packed")
    plan = []
    for seed, role in enumerate(["train", "stop"]):
        name = f"sub-{role}"
        store = make_store(name, seed)
        every_other = store.usable & (np.arange(len(store.usable)) % 2 == 0)
        write_slices(folder / f"{name}.npz", dataclasses.replace(store, usable=every_other))
        path = str(folder / f"{name}.npz")
        plan.append({"participant_id": name, "patient": name, "role": role, "slices": path})
    pack(folder / "data", plan)
    return folder / "data"


@pytest.fixture(scope="module")
def stage1(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("stage1") / "seed-0"
    fit("context_restoration", 0, data, out, settings("context_restoration"))
    return out


def trained(method, data, out, stage1, seed=0, **changes):
    init = stage1 / "model.safetensors" if METHODS[method].pretrained else None
    fit(method, seed, data, out, settings(method, **changes), init=init)
    return out


@pytest.mark.parametrize("method", list(METHODS))
def test_each_method_learns_and_writes_everything(method, data, stage1, tmp_path, capsys):
    out = trained(method, data, tmp_path / "seed-0", stage1)
    history = pd.read_csv(out / "history.csv")
    assert history["epoch"].tolist() == [1, 2]
    # the multi-task loss moves with ε, the adversarial one with its other player
    measure = "train_rec" if method in ("multitask", "multitask_pretrained", "aae") else "train_loss"
    assert history[measure].iloc[1] < history[measure].iloc[0]
    report = read_json(out / "training.json")
    assert report["trained_on"] == {"train": ["sub-train"], "stop": ["sub-stop"]}
    assert report["epochs_run"] == 2
    assert history["val_loss"].idxmin() + 1 == report["best_epoch"]
    model, metadata = load_model(out / "model.safetensors")
    assert (metadata["method"], metadata["seed"]) == (method, 0)
    assert model(torch.rand(1, 1, 128, 128)).shape == (1, 1, 128, 128)
    assert (model.head is not None) == METHODS[method].head
    assert (out / "losses.png").stat().st_size > 5000
    assert (out / "reconstructions.png").stat().st_size > 5000
    assert list((out / "tensorboard").iterdir())
    assert not list(tmp_path.glob(".resume*"))
    lines = [line for line in capsys.readouterr().out.splitlines() if ": epoch " in line]
    assert len(lines) == 2
    assert "slices/s" in lines[0]
    if method.startswith("multitask"):
        assert report["objective"]["epsilon"] > 1
    if method not in ("context_restoration", "denoising"):
        assert history["val_active_channels"].between(0, 1).all()


def test_same_seed_same_bytes_and_another_seed_others(data, stage1, tmp_path):
    outs = [
        trained("multitask_pretrained", data, tmp_path / n, stage1, s)
        for n, s in (("a", 0), ("b", 0), ("c", 1))
    ]
    files = [(out / "model.safetensors").read_bytes() for out in outs]
    assert files[0] == files[1] != files[2]
    for name in ("history.csv", "training.json", "losses.png", "reconstructions.png"):
        assert (outs[0] / name).read_bytes() == (outs[1] / name).read_bytes()


def test_stage_1_weights_are_the_start_and_the_log_variance_is_near_minus_four(stage1):
    objective = OBJECTIVES["multitask_pretrained"](METHOD_SETTINGS["multitask_pretrained"])
    source, _ = load_model(stage1 / "model.safetensors")
    model = start_network(objective, NETWORK, 0, stage1 / "model.safetensors").eval()
    x = torch.rand(3, 1, 128, 128)
    with torch.no_grad():
        mean, logvar = model.encode(x)
        assert torch.allclose(mean, source.latent(x), atol=1e-5)
        assert torch.allclose(model.reconstruct(x), source.reconstruct(x), atol=1e-5)
    assert torch.allclose(logvar, torch.full_like(logvar, -4.0))


def test_weights_of_another_network_are_refused(tmp_path):
    other = {"width": 2, "latent": 8}
    save_model(
        tmp_path / "m", build_model(other), {"method": "context_restoration", "seed": 0, "network": other}
    )
    objective = OBJECTIVES["vae_pretrained"](METHOD_SETTINGS["vae_pretrained"])
    with pytest.raises(NormctError, match="stage 1"):
        start_network(objective, NETWORK, 0, tmp_path / "m")


@pytest.mark.parametrize(("method", "init"), [("vae_kl", True), ("vae_pretrained", False)])
def test_start_weights_only_where_they_belong(method, init, data, stage1, tmp_path):
    with pytest.raises(NormctError, match="stage-1 weights"):
        fit(
            method,
            0,
            data,
            tmp_path / "o",
            settings(method),
            init=stage1 / "model.safetensors" if init else None,
        )


def test_divergence_is_said(data, tmp_path):
    with pytest.raises(NormctError, match="diverged"):
        fit("vae_kl", 0, data, tmp_path / "o", settings("vae_kl", own={"kl_weight": float("inf")}))
    assert not (tmp_path / "o" / "model.safetensors").exists()


def test_training_stops_early(data, tmp_path):
    out = tmp_path / "o"
    fit(
        "vae_kl",
        0,
        data,
        out,
        settings("vae_kl", epochs=12, learning_rate=0.03, stop_patience=1, plateau_patience=0),
    )
    report, history = read_json(out / "training.json"), pd.read_csv(out / "history.csv")
    assert report["epochs_run"] < 12
    assert report["epochs_run"] == len(history)


def test_cuda_is_not_silently_replaced(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(NormctError, match="no GPU"):
        choose_device("cuda")
    assert choose_device("auto") == "cpu"
    assert choose_precision("32-true", "cpu") == "32-true"


@pytest.mark.parametrize(
    ("avx512", "amx", "expected"),
    [(False, False, "32-true"), (True, False, "bf16-mixed"), (False, True, "bf16-mixed")],
)
def test_bf16_on_a_cpu_only_where_it_is_native(monkeypatch, avx512, amx, expected):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    assert choose_precision("auto", "cpu") == expected
    assert choose_precision("bf16-mixed", "cpu") == "bf16-mixed"


@pytest.mark.skipif(not Path("/proc/cpuinfo").is_file(), reason="no /proc/cpuinfo to compare with")
def test_this_processor_is_judged_by_its_flags():
    flags = Path("/proc/cpuinfo").read_text().split()
    native = "avx512_bf16" in flags or ("amx_bf16" in flags and "amx_tile" in flags)
    assert choose_precision("auto", "cpu") == ("bf16-mixed" if native else "32-true")


def command(method, data, out, chosen, init, seconds):
    return [
        sys.executable, "-m", "normct.train.fit", method, "0", str(data), str(out),
        "--settings", json.dumps(dataclasses.asdict(chosen)),
        "--checkpoint-seconds", str(seconds), "--init", str(init),
    ]  # fmt: skip


def test_killed_in_mid_epoch_it_ends_in_the_same_weights(data, stage1, tmp_path):
    method, init = "multitask_pretrained", stage1 / "model.safetensors"
    chosen = settings(method, epochs=4, plateau_patience=0, stop_patience=3)
    fit(method, 0, data, tmp_path / "whole" / "seed-0", chosen, init=init)
    out = tmp_path / "killed" / "seed-0"
    checkpoint = out.parent / ".resume-seed-0.ckpt"
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        command(method, data, out, chosen, init, 0), env=env, stdout=subprocess.PIPE, text=True
    )
    epochs = 0
    for line in process.stdout:
        epochs += "epoch" in line
        if epochs == 2:
            break
    seen = checkpoint.stat().st_mtime_ns
    while checkpoint.stat().st_mtime_ns == seen:  # until the third epoch has a checkpoint of its own
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.wait()
    state = torch.load(checkpoint, weights_only=True)
    done = state["loops"]["fit_loop"]["state_dict"]["combined_loader"][0]
    assert state["epoch"] == 2
    assert 0 < done["done"] < 8
    again = subprocess.run(
        command(method, data, out, chosen, init, 60), env=env, capture_output=True, text=True, check=True
    )
    assert "resuming" in again.stdout
    for name in ("model.safetensors", "history.csv", "training.json"):
        assert (out / name).read_bytes() == (tmp_path / "whole" / "seed-0" / name).read_bytes()
    assert not checkpoint.exists()


def test_a_foreign_checkpoint_is_ignored(data, tmp_path, capsys):
    (tmp_path / ".resume-seed-0.ckpt").write_bytes(b"not a checkpoint")
    fit("vae_kl", 0, data, tmp_path / "seed-0", settings("vae_kl", epochs=1))
    assert "resuming" not in capsys.readouterr().out
    assert not (tmp_path / ".resume-seed-0.ckpt").exists()


def test_a_collapsed_latent_is_warned_of(data, tmp_path, capsys):
    out = tmp_path / "seed-0"
    fit("vae_kl", 0, data, out, settings("vae_kl", epochs=1, own={"kl_weight": 100.0}))
    assert pd.read_csv(out / "history.csv")["val_active_channels"].iloc[0] < 0.05
    assert "collapsed" in capsys.readouterr().out
