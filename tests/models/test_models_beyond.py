"""The networks beyond the thesis's."""

import pytest
import torch

from normct.models import build_model, fold_batch_norm, load_model, save_model
from normct.models.files import ARCHITECTURES
from normct.models.variance import gaussian_nll

MASKS = torch.zeros(3, 128, 128, dtype=torch.bool)
MASKS[:2, 30:90, 40:80] = True


def build(architecture, **more):
    torch.manual_seed(0)
    return build_model({"architecture": architecture, "width": 2} | more).eval()


@pytest.mark.parametrize("architecture", [a for a in ARCHITECTURES if a != "autoencoder"])
@pytest.mark.parametrize("channels", [1, 3])
def test_each_network_reconstructs_and_comes_back_from_its_file(architecture, channels, tmp_path):
    own = {"in_channels": channels} | ({} if architecture == "unet" else {"latent": 4})
    network = {"architecture": architecture, "width": 2} | own
    model = build(architecture, **own)
    save_model(tmp_path / "m", model, {"method": "x", "seed": 0, "network": network})
    again, _ = load_model(tmp_path / "m")
    x = torch.rand(2, channels, 128, 128)
    with torch.inference_mode():
        assert again.reconstruct(x).shape == x.shape
        assert torch.equal(again.reconstruct(x), model.reconstruct(x))


def test_the_u_net_has_half_a_million_parameters():
    assert (
        4.5e5
        < sum(p.numel() for p in build_model({"architecture": "unet", "width": 16}).parameters())
        < 5.5e5
    )


def test_likelihood_is_the_gaussian_s():
    generator = torch.Generator().manual_seed(0)
    target, mean, sigma = (torch.rand(4, 1, 8, 8, generator=generator) + 0.1 for _ in range(3))
    expected = -torch.distributions.Normal(mean, sigma).log_prob(target).mean() - 0.5 * torch.log(
        torch.tensor(2 * torch.pi)
    )
    assert float(gaussian_nll(target, mean, sigma.square())) == pytest.approx(float(expected), rel=1e-4)


@torch.inference_mode()
def test_residual_over_variance_is_averaged_over_the_brain_and_floored():
    model = build("variance_autoencoder", latent=4, sigma_floor=0.5)
    x = torch.rand(3, 1, 128, 128)
    mean, variance = model.decode_gaussian(model.encode(x)[0])
    assert (variance >= 0.25).all()
    measured = model.measures(x, MASKS)["residual_over_variance"]
    expected = ((x - mean).square() / variance)[0, 0][MASKS[0]].mean()
    assert float(measured[0]) == pytest.approx(float(expected), rel=1e-4)
    assert measured[2] == 0  # no brain


@torch.inference_mode()
def test_dropout_spreads_in_scoring_repeats_and_is_off_in_reconstruction():
    model = build("dropout_autoencoder", latent=4, dropout=0.5, passes=6)
    x = torch.rand(3, 1, 128, 128)
    first, second = (model.measures(x, MASKS)["uncertainty"] for _ in range(2))
    assert torch.equal(first, second)
    assert (first[:2] > 0).all()
    assert first[2] == 0
    assert torch.equal(model.reconstruct(x), model.reconstruct(x))
    none = build("dropout_autoencoder", latent=4, dropout=0.0)
    draws = torch.Generator().manual_seed(0)
    z = none.encode(x)[0]
    assert torch.allclose(none.decode_dropped(z, draws), none.decode(z))


def test_a_fixed_discriminator_gives_gradient_to_the_latent_alone():
    model = build("adversarial_autoencoder", latent=4, hidden=8)
    z = torch.randn(2, 4, 2, 2, requires_grad=True)
    model.discriminate(z, fixed=True).sum().backward()
    assert z.grad.abs().sum() > 0
    assert all(p.grad is None for p in model.discriminator.parameters())
    assert torch.equal(model.discriminate(z), model.discriminate(z, fixed=True))


@torch.inference_mode()
def test_the_flow_s_density_is_one_of_the_latent():
    model = build("flow_autoencoder", latent=4, hidden=8)
    z = torch.randn(5, 4, 2, 2)
    assert torch.allclose(model.log_prior(z) * 16, model.prior().log_prob(z.flatten(1)))
    surprise = model.measures(torch.rand(3, 1, 128, 128), MASKS)["latent_surprise"]
    assert surprise.shape == (3,)
    assert surprise.isfinite().all()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_folding_batch_normalisation_changes_nothing_but_rounding(architecture):
    model = build(architecture, **({} if architecture == "unet" else {"latent": 4}))
    x = torch.rand(4, 1, 128, 128)
    model.train()
    for _ in range(20):
        model.reconstruct(x + torch.rand_like(x))  # means and variances of its own
    model.eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    folded = fold_batch_norm(model)
    assert any(isinstance(m, torch.nn.BatchNorm2d) for m in model.modules())
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in folded.modules())
    with torch.inference_mode():
        plain, other = model.reconstruct(x), folded.reconstruct(x)
    assert float((plain - plain.mean()).abs().max()) > 0.01
    torch.testing.assert_close(other, plain, rtol=1e-4, atol=1e-5)
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in before.items())


def test_a_network_in_training_is_not_folded():
    with pytest.raises(ValueError, match="eval"):
        fold_batch_norm(build("unet").train())
