"""torch.compile: the same training, weights by their own names, resumed exactly; chosen by measuring."""

import contextlib
import copy
import shutil

import pytest
import torch
from safetensors import safe_open
from torch._subclasses.fake_tensor import FakeTensorMode

from factories import METHOD_SETTINGS
from normct.common.errors import NormctError
from normct.common.files import read_json
from normct.models import build_model
from normct.pretext.geometry import identity, transform
from normct.train import compiled
from normct.train import fit as fit_module
from normct.train.compiled import Stance, choose_mode, fastest
from normct.train.fit import fit
from normct.train.objectives import OBJECTIVES
from train.train_case import OWN, settings, write_packed

NETWORK = {"width": 2, "latent": 4, "in_channels": 1}


class Small(torch.nn.Module):
    """One block of the network, with its names."""

    def __init__(self):
        super().__init__()
        self.encoder = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 4, 2, 1), torch.nn.BatchNorm2d(2))

    def encode(self, x):
        return torch.nn.functional.leaky_relu(self.encoder(x), 0.1)


@pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile needs a C++ compiler")
def test_compiled_code_computes_the_same_under_the_same_names():
    torch.manual_seed(0)
    model, x = Small(), torch.rand(4, 1, 16, 16)
    twin = copy.deepcopy(model)
    compiled.compile_parts(twin, "default")
    assert list(twin.state_dict()) == list(model.state_dict())
    for network in (model, twin):
        network.encode(x).square().sum().backward()
    for (name, mine), theirs in zip(model.named_parameters(), twin.parameters(), strict=True):
        assert torch.allclose(mine.grad, theirs.grad, rtol=1e-3, atol=1e-3), name
    assert torch.allclose(model.encoder[1].running_mean, twin.encoder[1].running_mean)


@pytest.fixture
def traced(monkeypatch):
    """Graphs as for real, run by PyTorch's own kernels: generating code for a whole network takes a minute."""
    compile_ = torch.compile
    monkeypatch.setattr(
        torch, "compile", lambda f, mode, dynamic: compile_(f, backend="aot_eager", dynamic=dynamic)
    )
    monkeypatch.setattr(compiled.shutil, "which", lambda name: name)


def test_compiled_it_trains_the_same_and_resumes_exactly(tmp_path, monkeypatch, capsys, traced):
    data, chosen = write_packed(tmp_path / "data", slices=44), settings(epochs=2, compile=True)
    fit("vae_kl", 0, data, tmp_path / "eager" / "s", settings(epochs=2))
    fit("vae_kl", 0, data, tmp_path / "whole" / "s", chosen)

    def dies(self, trainer, module):
        raise KeyError("killed after the first epoch")

    with monkeypatch.context() as context:
        context.setattr(fit_module.EpochLines, "on_train_epoch_end", dies)
        with pytest.raises(KeyError):
            fit("vae_kl", 0, data, tmp_path / "killed" / "s", chosen, checkpoint_seconds=0)
    fit("vae_kl", 0, data, tmp_path / "killed" / "s", chosen)
    assert "resuming" in capsys.readouterr().out
    files = {n: tmp_path / n / "s" / "model.safetensors" for n in ("eager", "whole", "killed")}
    assert files["whole"].read_bytes() == files["killed"].read_bytes()
    with safe_open(files["eager"], "pt") as eager, safe_open(files["whole"], "pt") as whole:
        assert set(eager.keys()) == set(whole.keys())
        for name in eager.keys():  # noqa: SIM118
            assert torch.allclose(eager.get_tensor(name), whole.get_tensor(name), rtol=0.02, atol=0.02), name
    reports = [read_json(tmp_path / n / "s" / "training.json") for n in ("eager", "whole")]
    assert [r["compiled"] for r in reports] == [None, "default"]
    assert reports[0]["best_val_loss"] == pytest.approx(reports[1]["best_val_loss"], rel=0.01)


def parts():
    model, objective = build_model(NETWORK), OBJECTIVES["vae_kl"](OWN)
    masks = torch.ones(4, 128, 128, dtype=torch.bool)
    return model, objective, lambda: (torch.rand(4, 1, 128, 128), masks), contextlib.nullcontext


def test_only_a_gpu_is_measured_and_a_missing_compiler_is_said(monkeypatch):
    assert choose_mode("auto", "cpu", *parts()) is None
    assert choose_mode(False, "cuda", *parts()) is None
    monkeypatch.setattr(compiled.shutil, "which", lambda name: None)
    with pytest.raises(NormctError, match="no C\\+\\+ compiler"):
        choose_mode(True, "cpu", *parts())


@pytest.mark.parametrize(
    ("seconds", "loss", "must", "expected"),
    [
        ({None: 3.0, "default": 2.0, "reduce-overhead": 1.0}, 1.0, False, "reduce-overhead"),
        (
            {None: 3.0, "default": 2.9, "reduce-overhead": 2.95},
            1.0,
            False,
            None,
        ),  # hardly faster: not worth it
        ({None: 3.0, "default": 2.9, "reduce-overhead": 2.95}, 1.0, True, "default"),
        ({None: 3.0, "default": 1.0}, 1.0, False, "default"),  # CUDA graphs fail here
        ({None: 3.0, "default": 1.0, "reduce-overhead": 1.0}, 9.0, True, None),  # another loss: wrong code
    ],
)
def test_the_fastest_that_works_is_taken(monkeypatch, caplog, seconds, loss, must, expected):
    def measured(device, model, objective, images, masks, autocast, mode):
        if mode not in seconds:
            raise RuntimeError("graph capture failed\nat length")
        return seconds[mode], 1.0 if mode is None else loss

    monkeypatch.setattr(compiled, "_time", measured)
    assert fastest("cpu", *parts(), compiled.GPU_MODES, must=must) == expected
    assert ("graph capture failed" in caplog.text) == (len(seconds) == 2)


def test_measuring_leaves_network_and_objective_alone(monkeypatch):
    monkeypatch.setattr(compiled, "TIMED", 1)
    model, objective, batch, autocast = parts()
    objective = OBJECTIVES["multitask_pretrained"](METHOD_SETTINGS["multitask_pretrained"])
    model = build_model(objective.network(NETWORK))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert fastest("cpu", model, objective, batch, autocast, (), must=False) is None
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert objective.state()["sum_cross_entropy"] == 0


def test_whole_training_batches_alone_run_compiled_code(monkeypatch):
    ran, compile_ = [], torch.compile

    def backend(graph, inputs):
        def run(*arguments):
            ran.append(len(arguments))
            return graph.forward(*arguments)

        return run

    monkeypatch.setattr(torch, "compile", lambda f, **more: compile_(f, backend=backend, dynamic=False))
    model, stance = build_model(NETWORK), Stance("default", 4)
    compiled.compile_parts(model, "default")
    for slices, training in ((4, True), (4, False), (3, True), (4, True)):
        before = len(ran)
        with stance(slices, training=training):
            model.decode(model.encode(torch.rand(slices, 1, 128, 128))[0])
        assert len(ran) - before == (2 if slices == 4 and training else 0)
    assert "decoder.0.0.weight" in model.state_dict()


@pytest.mark.parametrize("method", list(OBJECTIVES))
def test_no_objective_asks_for_a_value_in_the_loop(method):
    """On a GPU every .item(), .tolist() or nonzero() would wait for all that is queued."""
    objective = OBJECTIVES[method](METHOD_SETTINGS[method])
    model = build_model(objective.network(NETWORK))
    transform(torch.zeros(1, 1, 128, 128), identity())  # its tables are made once, before the loop
    with FakeTensorMode(allow_non_fake_inputs=True):  # tensors without values: asking for one raises
        images, masks = torch.rand(4, 1, 128, 128), torch.ones(4, 128, 128, dtype=torch.bool)
        result = objective(model, images, masks, torch.Generator().manual_seed(0), False)
        assert result.loss.shape == ()
