"""Objectives beyond the thesis's five, against closed forms and each other."""

import pytest
import torch

from factories import METHOD_SETTINGS as SETTINGS
from normct.models import build_model
from normct.train.data import generator
from normct.train.objectives import OBJECTIVES, kl_loss
from normct.train.objectives.tcvae import decompose_kl


@pytest.fixture
def batch():
    masks = torch.zeros(6, 128, 128, dtype=torch.bool)
    masks[:, 20:110, 30:100] = True
    return torch.rand(6, 1, 128, 128, generator=torch.Generator().manual_seed(0)) * masks[:, None], masks


def run(method, batch, **own):
    objective = OBJECTIVES[method](SETTINGS[method] | own)
    torch.manual_seed(1)
    model = build_model(objective.network({"width": 2, "latent": 4, "in_channels": 1}))
    return objective(model, *batch, generator("cpu", 0)), model


def test_denoising_shows_noise_in_the_brain_and_targets_the_clean_slice(batch):
    result, _ = run("denoising", batch)
    noisy, target, output = result.shown
    assert torch.equal(target, batch[0])
    moved = (noisy != target)[:, 0]
    assert moved[batch[1]].float().mean() > 0.99
    assert not moved[~batch[1]].any()
    assert float(result.loss.detach()) == pytest.approx(float((output - target).square().mean()), rel=1e-5)
    left = float((noisy - target).square().mean())
    assert float(result.parts["noise_identity"]) == pytest.approx(left, rel=1e-5)


def test_variance_adds_its_parts(batch):
    result, _ = run("vae_variance", batch)
    parts = result.parts
    assert float(result.loss.detach()) == pytest.approx(float(parts["nll"] + 0.1 * parts["kl"]), rel=1e-4)


def test_without_dropout_it_is_the_plain_vae(batch):
    dropped, plain = run("vae_dropout", batch, dropout=1e-9)[0], run("vae_kl", batch)[0]
    assert torch.allclose(dropped.loss, plain.loss)
    assert not torch.allclose(run("vae_dropout", batch, dropout=0.5)[0].loss, plain.loss)


def test_each_adversary_learns_from_its_own_term_and_validation_watches_the_reconstruction(batch):
    result, model = run("aae", batch, adversarial_weight=0.0)
    result.loss.backward()
    alone = model.to_latent.weight.grad.clone()
    model.zero_grad()
    run_result, other = run("aae", batch, adversarial_weight=5.0)
    run_result.loss.backward()
    assert not torch.allclose(alone, other.to_latent.weight.grad)
    assert float(run_result.monitor) == float(run_result.parts["rec"])
    result, model = run("aae", batch, adversarial_weight=5.0)
    discriminator = list(model.discriminator.parameters())
    expected = torch.autograd.grad(result.loss, discriminator)
    weightless = run("aae", batch, adversarial_weight=0.0)
    found = torch.autograd.grad(weightless[0].loss, list(weightless[1].discriminator.parameters()))
    assert all(torch.allclose(a, b) for a, b in zip(expected, found, strict=True))


def test_the_parts_of_the_kl_add_up_to_it():
    draws = torch.Generator().manual_seed(0)
    mean = torch.randn(400, 3, generator=draws)
    logvar = torch.full((400, 3), -1.0)
    latent = mean + (0.5 * logvar).exp() * torch.randn(400, 3, generator=draws)
    parts = decompose_kl(latent, mean, logvar)
    assert float(sum(parts)) == pytest.approx(float(kl_loss(mean, logvar)), rel=0.1)
    # independent coordinates have no total correlation, copies of one have much
    assert abs(float(parts[1])) < 0.05
    copies = latent[:, :1].expand(-1, 3) + 0.01 * latent
    assert float(decompose_kl(copies, copies, torch.full_like(copies, -4.0))[1]) > 0.3


def test_total_correlation_weighs_as_it_is_told(batch):
    light, heavy = (run("beta_tcvae", batch, tc_weight=w)[0] for w in (1.0, 3.0))
    parts = light.parts
    assert float(light.loss.detach()) == pytest.approx(float(parts["rec"] + 0.1 * parts["kl"]), rel=1e-4)
    extra = 0.1 * 2.0 * float(parts["total_correlation"])
    assert float((heavy.loss - light.loss).detach()) == pytest.approx(extra, abs=1e-5)


def test_the_flow_s_kl_is_estimated_with_the_latent_that_is_decoded(batch):
    result, model = run("vae_flow", batch)
    mean, logvar = model.encode(batch[0])
    noise = torch.randn(mean.shape, generator=generator("cpu", 0))
    latent = mean + (0.5 * logvar).exp() * noise
    posterior = torch.distributions.Normal(mean, (0.5 * logvar).exp()).log_prob(latent).mean()
    # batch normalisation in training: the same batch gives the same latent
    expected = posterior - model.log_prior(latent).mean()
    assert float(result.parts["kl"]) == pytest.approx(float(expected.detach()), rel=1e-3, abs=1e-4)
