"""Losses against closed forms and hand-made values."""

import pytest
import torch

from factories import METHOD_SETTINGS as SETTINGS
from normct.common.registry import METHODS
from normct.models import build_model
from normct.train.data import generator
from normct.train.objectives import OBJECTIVES, kl_loss, reconstruction_loss, sample


@pytest.fixture
def batch():
    masks = torch.zeros(6, 128, 128, dtype=torch.bool)
    masks[:, 20:110, 30:100] = True
    return torch.rand(6, 1, 128, 128, generator=torch.Generator().manual_seed(0)) * masks[:, None], masks


def network(method):
    torch.manual_seed(1)
    objective = OBJECTIVES[method](SETTINGS[method])
    return build_model(objective.network({"width": 2, "latent": 4, "in_channels": 1}))


def test_every_registered_method_has_an_objective_and_the_other_way_round():
    assert set(OBJECTIVES) == set(METHODS)
    assert {name for name, o in OBJECTIVES.items() if o.head} == {n for n, m in METHODS.items() if m.head}


def test_kl_of_a_standard_normal_is_zero():
    assert kl_loss(torch.zeros(3, 4, 2, 2), torch.zeros(3, 4, 2, 2)) == 0


@pytest.mark.parametrize(("mean", "variance"), [(1.0, 1.0), (-2.0, 0.25), (0.5, 4.0)])
def test_kl_is_the_closed_form_averaged_over_elements(mean, variance):
    p = torch.distributions.Normal(mean, variance**0.5)
    expected = torch.distributions.kl_divergence(p, torch.distributions.Normal(0.0, 1.0))
    shape = (5, 8, 2, 2)
    value = kl_loss(torch.full(shape, mean), torch.full(shape, variance).log())
    assert value == pytest.approx(float(expected), rel=1e-5)
    mixed = torch.zeros(2, 1, 1, 1)
    mixed[0] = 3.0
    assert float(kl_loss(mixed, torch.zeros_like(mixed))) == pytest.approx(9 / 2 / 2)


def test_reconstruction_is_the_mean_of_squares():
    target = torch.zeros(2, 1, 2, 2)
    output = torch.tensor([[[[1.0, 2.0], [0.0, 0.0]]], [[[0.0, 0.0], [0.0, 3.0]]]])
    assert float(reconstruction_loss(output, target)) == pytest.approx((1 + 4 + 9) / 8)


def test_samples_have_the_mean_and_the_variance():
    drawn = sample(torch.full((20000,), 2.0), torch.full((20000,), 0.09).log(), generator("cpu", 0))
    assert float(drawn.mean()) == pytest.approx(2.0, abs=0.01)
    assert float(drawn.std()) == pytest.approx(0.3, rel=0.03)


@pytest.mark.parametrize("method", list(OBJECTIVES))
def test_same_generator_same_loss_and_gradients_reach_the_encoder(method, batch):
    objective, model = OBJECTIVES[method](SETTINGS[method]), network(method)
    losses = [objective(model, *batch, generator("cpu", s)).loss for s in (1, 1, 2)]
    assert losses[0] == losses[1] != losses[2]
    losses[0].backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_vae_adds_its_parts(batch):
    result = OBJECTIVES["vae_kl"](SETTINGS["vae_kl"])(network("vae_kl"), *batch, generator("cpu", 0))
    assert float(result.loss) == pytest.approx(
        float(result.parts["rec"] + 0.1 * result.parts["kl"]), rel=1e-5
    )


def test_cevae_mixes_and_restores_the_original(batch):
    result = OBJECTIVES["cevae"](SETTINGS["cevae"])(network("cevae"), *batch, generator("cpu", 0))
    parts = result.parts
    expected = 0.75 * (parts["rec"] + 0.1 * parts["kl"]) + 0.25 * parts["context"]
    assert float(result.loss) == pytest.approx(float(expected), rel=1e-5)
    covered, target, output = result.shown
    assert torch.equal(target, batch[0])
    assert not torch.equal(covered, target)
    assert float(parts["context"]) == pytest.approx(float((output - batch[0]).square().mean()), rel=1e-5)


def test_context_restoration_samples_nothing_and_targets_the_original(batch):
    model = network("context_restoration").eval()
    objective = OBJECTIVES["context_restoration"](SETTINGS["context_restoration"])
    result = objective(model, *batch, generator("cpu", 0))
    swapped, target, output = result.shown
    assert torch.equal(target, batch[0])
    assert torch.allclose(output, model.reconstruct(swapped), atol=1e-6)
    moved = (swapped != target).float()
    assert 6 * 2 * 150 < float(moved.sum()) <= 6 * 2 * 256
    number = 6 * 2 * 256
    identity = float((swapped - target).square().sum()) / number
    assert float(result.parts["patch_identity"]) == pytest.approx(identity, rel=1e-4)


def test_multitask_adds_up_and_reconstructs_the_transformed_image(batch):
    settings = SETTINGS["multitask_pretrained"] | {"epsilon": 50.0}
    result = OBJECTIVES["multitask_pretrained"](settings)(
        network("multitask_pretrained"), *batch, generator("cpu", 3)
    )
    parts = result.parts
    expected = parts["ce"] + 50.0 * (parts["rec"] + 0.1 * parts["kl"])
    assert float(result.loss) == pytest.approx(float(expected), rel=1e-5)
    assert torch.equal(result.shown[0], result.shown[1])
    assert not torch.equal(result.shown[0], batch[0])
    # an untrained head guesses: log 4 + 2 log 3
    assert float(parts["ce"]) == pytest.approx(3.58, abs=0.8)


def test_epsilon_ablation_weighs_the_reconstruction_a_tenth_and_ten_times(batch):
    name = "multitask_pretrained"
    given = SETTINGS[name] | {"epsilon": 50.0}
    parts = OBJECTIVES[name](given)(network(name), *batch, generator("cpu", 3)).parts
    for twin, epsilon in (("multitask_epsilon_low", 5.0), ("multitask_epsilon_high", 500.0)):
        result = OBJECTIVES[twin](given)(network(name), *batch, generator("cpu", 3))
        expected = parts["ce"] + epsilon * (parts["rec"] + 0.1 * parts["kl"])
        assert float(result.loss) == pytest.approx(float(expected), rel=1e-5)
    measured = [OBJECTIVES[n](SETTINGS[n]) for n in (name, "multitask_epsilon_low")]
    for objective in measured:
        objective(network(name), *batch, generator("cpu", 0), True)
    assert float(measured[1].epsilon) == pytest.approx(float(measured[0].epsilon) / 10, rel=1e-5)


def test_epsilon_is_measured_in_the_first_epoch_and_then_fixed(batch):
    objective = OBJECTIVES["multitask_pretrained"](SETTINGS["multitask_pretrained"])
    model = network("multitask_pretrained")
    sums = [0.0, 0.0]
    for step in range(3):
        parts = objective(model, *batch, generator("cpu", step), True).parts
        sums = [sums[0] + float(parts["ce"]), sums[1] + float(parts["rec"])]
        assert float(objective.epsilon) == pytest.approx(sums[0] / sums[1], rel=1e-5)
    measured = float(objective.epsilon)
    objective(model, *batch, generator("cpu", 9))
    assert float(objective.epsilon) == measured
    again = OBJECTIVES["multitask_pretrained"](SETTINGS["multitask_pretrained"])
    again.load_state(objective.state())
    assert float(again.epsilon) == measured
