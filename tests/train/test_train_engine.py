"""The engine: ends in a checkpoint on SIGTERM, streams what memory cannot hold, shows what it does."""

import json
import os
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch

from normct.common.errors import NormctError
from normct.train.data import IndexBatches, MappedRows, PackedSlices, generator
from normct.train.fit import fit
from normct.train.objectives import OBJECTIVES
from normct.train.preview import Preview
from normct.train.setup import make_trainer, prepare
from train.train_case import settings, write_packed


def test_sigterm_ends_in_a_checkpoint_and_the_rest_is_as_if_uninterrupted(tmp_path, capsys):
    data, chosen = write_packed(tmp_path / "data", slices=400), settings(epochs=4)
    out = tmp_path / "told" / "seed-0"
    arguments = ["vae_kl", "0", str(data), str(out), "--settings", json.dumps(vars(chosen))]
    process = subprocess.Popen(
        [sys.executable, "-m", "normct.train.fit", *arguments],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert "epoch 1/4" in process.stdout.readline()  # so the second one is running
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 1
    assert "told to stop" in errors
    assert "Traceback" not in errors
    # a minute has not passed: only the signal can have written it
    state = torch.load(out.parent / ".resume-seed-0.ckpt", weights_only=True)
    assert state["epoch"] >= 1
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    fit("vae_kl", 0, data, out, chosen)
    fit("vae_kl", 0, data, tmp_path / "whole" / "seed-0", chosen)
    torch.set_num_threads(threads)
    assert "resuming" in capsys.readouterr().out
    whole = (tmp_path / "whole" / "seed-0" / "model.safetensors").read_bytes()
    assert (out / "model.safetensors").read_bytes() == whole


STREAM = """
import resource, sys
from pathlib import Path
import torch
from normct.train.data import IndexBatches, PackedSlices
data = PackedSlices(Path(sys.argv[1]))
rows = data.rows("train")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
read = 0
for step, part, ready in IndexBatches(rows, 512, 0, data):
    images, masks = data.batch(part, ready)
    read += images.numel() * 2
    if step == 60:
        break
print(len(rows), read / 2**20, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


def test_millions_of_slices_stream_without_being_held(tmp_path):
    folder, number = tmp_path / "data", 2_600_000
    folder.mkdir()
    for name, kind, shape in (("images", np.float16, (128, 128)), ("masks", np.uint8, (128, 16))):
        with (folder / f"{name}.npy").open("wb") as file:
            header = {"descr": np.dtype(kind).str, "fortran_order": False, "shape": (number, *shape)}
            np.lib.format.write_array_header_1_0(file, header)
            # a hole: the file has its length and takes no room
            file.truncate(file.tell() + number * int(np.prod(shape)) * np.dtype(kind).itemsize)
    scan = "".join(f"sub-1\t{z}\ttrain\n" for z in range(130))
    with (folder / "index.tsv").open("w") as file:
        file.write("participant_id\tz\trole\n")
        file.writelines(scan.replace("sub-1", f"sub-{i}") for i in range(number // 130 - 1))
        file.write(scan.replace("sub-1", "sub-stop").replace("train", "stop"))
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", textwrap.dedent(STREAM), str(folder)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    slices, read, grown = map(float, done.stdout.split())
    assert slices == number - 130
    assert read > 900  # MB that went through
    assert grown < 500


def test_mapped_rows_give_their_pages_back(tmp_path, monkeypatch):
    np.save(tmp_path / "a.npy", np.arange(4000.0).reshape(1000, 4))
    rows = MappedRows(tmp_path / "a.npy")
    monkeypatch.setattr("normct.train.data.MAPPED_BYTES", 100)
    for _ in range(5):  # read again after the pages are gone
        assert rows.read(np.array([3, 999])).tolist() == [[12, 13, 14, 15], [3996, 3997, 3998, 3999]]


def test_reading_ahead_gives_each_batch_its_own_slices(tmp_path):
    data = PackedSlices(write_packed(tmp_path / "data"))
    for _, rows, ready in IndexBatches(data.rows("train"), 7, 0, data):
        ahead, again = data.batch(rows, ready), data.batch(rows)
        assert torch.equal(ahead[0], again[0])
        assert torch.equal(ahead[1], again[1])
        assert ahead[1][0].sum() == 90 * 70


def test_three_channels_reach_every_network(tmp_path):
    data = write_packed(tmp_path / "data", channels=3)
    network = {"width": 2, "latent": 4, "in_channels": 3}
    training = prepare("vae_kl", 0, data, settings(network=network))
    images, masks = training.data.batch(training.data.rows("train")[:4])
    result = training.objective(training.model, images, masks, generator("cpu", 0))
    assert result.shown[2].shape == (4, 3, 128, 128)
    with pytest.raises(NormctError, match="in_channels is 1, but the slices have 3"):
        prepare("vae_kl", 0, data, settings())
    own = {"width": 2, "noise_sigma": 0.2, "noise_grid": 16}
    assert OBJECTIVES["denoising"](own).network(network)["in_channels"] == 3


def test_a_preview_is_drawn_while_it_trains_and_changes_nothing(tmp_path):
    folder, weights = write_packed(tmp_path / "data"), []
    for seconds in (0.0, 1e9):
        chosen = settings(epochs=2)
        training = prepare("vae_kl", 0, folder, chosen)
        preview = Preview(tmp_path / f"{seconds}.png", "VAE", training.data, 0, seconds)
        make_trainer(chosen, "cpu", "32-true", [preview]).fit(
            training.module, training.loader, training.checks
        )
        weights.append(training.model.state_dict())
    assert (tmp_path / "0.0.png").stat().st_size > 5000
    assert not (tmp_path / "1000000000.0.png").exists()
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    preview.remove()
