"""What a training goes on from, and that the rule's own shell lets it leave a checkpoint."""

import ast
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from snakemake.utils import QuotedFormatter

from normct.common.files import write_json
from normct.models import build_model, save_model
from normct.train import fit as module
from normct.train.data import content
from train.train_case import settings, write_packed

RULES = Path(__file__).resolve().parents[2] / "workflow" / "rules" / "train.smk"


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """A folder with packed slices, start weights, and the checkpoint of a training that ended before it wrote."""
    folder = tmp_path_factory.mktemp("stopped")
    write_packed(folder / "data", slices=24)
    network = settings().network
    torch.manual_seed(0)
    metadata = {"method": "context_restoration", "seed": 0, "network": network}
    save_model(folder / "init.safetensors", build_model(network), metadata)

    def die(*_):
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(module, "_write", die)
        again(folder, 0.0)
    assert (folder / ".resume-seed-0.ckpt").exists()
    return folder


def again(folder, seconds=60.0, **changes):
    module.fit(
        "vae_pretrained", 0, folder / "data", folder / "seed-0", settings(epochs=1, **changes),
        init=folder / "init.safetensors", checkpoint_seconds=seconds,
    )  # fmt: skip


def other_ids(folder, patch):
    index = folder / "data" / "index.tsv"
    index.write_text(index.read_text().replace("sub-a", "sub-c"))


def other_pixels(folder, patch):
    images = np.load(folder / "data" / "images.npy")
    np.save(folder / "data" / "images.npy", images * np.float16(0.5))


def other_masks(folder, patch):
    masks = np.load(folder / "data" / "masks.npy")
    np.save(folder / "data" / "masks.npy", np.roll(masks, 1, axis=1))


def other_start(folder, patch):
    network = settings().network
    metadata = {"method": "context_restoration", "seed": 0, "network": network}
    save_model(folder / "init.safetensors", build_model(network), metadata)


CHANGES = {
    "nothing": (None, {}),
    "settings": (None, {"learning_rate": 0.002}),
    "code": (lambda _, patch: patch.setattr(module, "code_hash", lambda name: "other"), {}),
    "IDs": (other_ids, {}),
    "pixels": (other_pixels, {}),
    "masks": (other_masks, {}),
    "start weights": (other_start, {}),
}


@pytest.mark.parametrize("change", CHANGES)
def test_only_the_very_same_training_goes_on(change, stopped, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "copy"
    shutil.copytree(stopped, folder)
    alter, changes = CHANGES[change]
    if alter:
        alter(folder, monkeypatch)
    again(folder, **changes)
    assert ("resuming" in capsys.readouterr().out) == (change == "nothing")
    assert not (folder / ".resume-seed-0.ckpt").exists()


def test_the_pixels_are_known_by_the_record_of_their_packing_or_else_read(tmp_path):
    folder = write_packed(tmp_path / "data")
    read = content(folder)  # as packed before there was a record
    assert set(read) == {"images", "masks"}
    write_json(folder / "content.json", {"images": "a", "masks": "b"})
    assert content(folder) == {"images": "a", "masks": "b"} != read


def shell_text(rule, folder, data, out):
    """Return the rule's own shell command, formatted as Snakemake does it."""
    body = RULES.read_text().split(f"\nrule {rule}:\n")[1].split("\n\n\n")[0]
    text = ast.literal_eval("(" + body.split("    shell:\n")[1] + ")")
    chosen = settings(epochs=3, method_settings={"swaps": 1, "patch_fraction": 0.125, "kl_weight": 0.1})
    method = "context_restoration" if rule == "train_stage1" else "vae_kl"
    params = {"method": method, "data": data, "folder": out, "init": "", "settings": json.dumps(vars(chosen))}
    values = {
        "params": SimpleNamespace(**params), "wildcards": SimpleNamespace(method=method, seed="0"),
        "threads": 1, "log": folder / "fit.log",
    }  # fmt: skip
    return f"set -euo pipefail; {QuotedFormatter().format(text, **values)}"


def start(command, **kwargs):
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return subprocess.Popen(
        command, env=os.environ | {"OMP_NUM_THREADS": "1", "PATH": path},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True, **kwargs,
    )  # fmt: skip


@pytest.mark.parametrize("rule", ["train_stage1", "train_method"])
def test_a_signal_to_the_rules_whole_group_leaves_checkpoint_message_and_status(rule, tmp_path):
    data, out = write_packed(tmp_path / "data", slices=400), tmp_path / "train" / "seed-0"
    log = tmp_path / "fit.log"
    log.write_text("of an earlier attempt\n" * 100)
    process = start(["bash", "-c", shell_text(rule, tmp_path, data, out)])
    assert "epoch 1/3" in process.stdout.readline()
    os.killpg(process.pid, signal.SIGTERM)
    process.communicate(timeout=300)
    assert process.returncode == 1  # Python's own, not the signal's
    assert (out.parent / ".resume-seed-0.ckpt").exists()
    lines = log.read_text().splitlines()  # of both writers, neither over the other
    assert sum("epoch 1/3" in line for line in lines) == 1
    assert lines[-1].startswith("error: training was told to stop")
    assert "earlier attempt" not in log.read_text()


def test_a_signal_before_training_ends_the_rule(tmp_path):
    """Python must not inherit that the signal is ignored, or it would train on."""
    command = shell_text("train_method", tmp_path, "x", "y")
    waiting = command.replace("python -m normct.train.fit", "sh -c 'echo ready; exec sleep 60'; true", 1)
    assert waiting != command
    process = start(["bash", "-c", waiting])
    assert process.stdout.readline() == "ready\n"
    os.killpg(process.pid, signal.SIGTERM)
    process.communicate(timeout=30)
    assert process.returncode == 128 + signal.SIGTERM


def test_it_trains_on_where_nobody_reads_its_lines(tmp_path):
    data, out = write_packed(tmp_path / "data"), tmp_path / "train" / "seed-0"
    arguments = ["vae_kl", "0", str(data), str(out), "--settings", json.dumps(vars(settings()))]
    process = start([sys.executable, "-m", "normct.train.fit", *arguments])
    process.stdout.close()
    errors = process.stderr.read()
    assert process.wait(timeout=300) == 0, errors
    assert "BrokenPipe" not in errors
    assert (out / "model.safetensors").exists()
