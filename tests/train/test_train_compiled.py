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
from normct.train import compiled
from normct.train import fit as fit_module
from normct.train.compiled import Stance, choose_mode, fastest
from normct.train.fit import fit
from normct.train.objectives import OBJECTIVES
from train.train_case import OWN, settings, write_packed

NETWORK = {"width": 2, "latent": 4, "in_channels": 1}


@pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile needs a C++ compiler")
def test_compiled_it_trains_the_same_and_resumes_exactly(tmp_path, monkeypatch, capsys):
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


def test_whole_training_batches_alone_run_compiled_code():
    ran = []

    def backend(graph, inputs):
        ran.append(inputs)
        return graph.forward

    layer = torch.nn.Linear(2, 2)
    layer.compile(backend=backend)
    stance = Stance("default", 8)
    for slices, training in ((8, False), (5, True), (8, True)):
        before = len(ran)
        with stance(slices, training=training):
            layer(torch.ones(slices, 2))
        assert (len(ran) > before) == (slices == 8 and training)


@pytest.mark.parametrize("method", list(OBJECTIVES))
def test_no_objective_asks_for_a_value_in_the_loop(method):
    """On a GPU every .item(), .tolist() or nonzero() would wait for all that is queued."""
    objective = OBJECTIVES[method](METHOD_SETTINGS[method])
    model = build_model(objective.network(NETWORK))
    with FakeTensorMode(allow_non_fake_inputs=True):  # tensors without values: asking for one raises
        model = copy.deepcopy(model)
        images, masks = torch.rand(4, 1, 128, 128), torch.ones(4, 128, 128, dtype=torch.bool)
        result = objective(model, images, masks, torch.Generator().manual_seed(0), False)
        assert result.loss.shape == ()
