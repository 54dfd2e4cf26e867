"""The network's shapes, its head and its latent, against METHOD 3."""

import pytest
import torch

from normct.models import build_model

THESIS = {"width": 16, "latent": 256}


def test_channels_and_shapes_are_the_thesis_s():
    model = build_model(THESIS)
    down = [
        m.out_channels for m in [*model.encoder.modules(), model.to_latent] if isinstance(m, torch.nn.Conv2d)
    ]
    up = [m.in_channels for m in model.decoder.modules() if isinstance(m, torch.nn.ConvTranspose2d)]
    assert down == [16, 32, 64, 128, 256, 512]
    assert up == [256, 256, 128, 64, 32, 16]
    mean, logvar = model.encode(torch.rand(2, 1, 128, 128))
    assert mean.shape == logvar.shape == (2, 256, 2, 2)
    assert model.reconstruct(torch.rand(2, 1, 128, 128)).shape == (2, 1, 128, 128)


def test_output_is_linear():
    model = build_model({"width": 2, "latent": 4}).eval()
    with torch.no_grad():
        model.decoder[-1].bias.fill_(-7.0)
        assert (model.reconstruct(torch.rand(1, 1, 128, 128)) < -3).all()


@pytest.mark.parametrize("channels", [1, 3])
def test_input_channels(channels):
    model = build_model({"width": 2, "latent": 4, "in_channels": channels})
    assert model(torch.rand(2, channels, 128, 128)).shape == (2, channels, 128, 128)


def test_head_sees_the_encoder_output_before_reparametrisation():
    model = build_model({"width": 2, "latent": 4, "head": True}).eval()
    x = torch.rand(3, 1, 128, 128)
    with torch.no_grad():
        direct = model.head(model.to_latent(model.encoder(x)).flatten(1))
        assert model.head_logits(x).shape == (3, 10)
        assert torch.equal(model.head_logits(x), direct)
    assert build_model({**THESIS, "head": True}).head.in_features == 2048


def test_no_head_is_said():
    with pytest.raises(ValueError, match="no geometry head"):
        build_model({"width": 2, "latent": 4}).head_logits(torch.rand(1, 1, 128, 128))


def test_set_log_variance_leaves_the_mean_alone():
    model = build_model({"width": 2, "latent": 4}).eval()
    x = torch.rand(2, 1, 128, 128)
    with torch.no_grad():
        before = model.latent(x)
        model.set_log_variance(-4.0)
        mean, logvar = model.encode(x)
    assert torch.allclose(mean, before)
    assert torch.allclose(logvar, torch.full_like(logvar, -4.0))


@pytest.mark.parametrize("channels_last", [False, True])
def test_the_deep_layer_as_a_matrix_product_is_the_convolution(channels_last):
    draws = torch.Generator().manual_seed(0)
    layer = build_model({"width": 2, "latent": 4}).to_latent
    with torch.no_grad():
        layer.bias.copy_(torch.randn(8, generator=draws))
    results = []
    for convolve in (layer, lambda x: torch.nn.functional.conv2d(x, layer.weight, layer.bias, 2, 1)):
        x = torch.randn(3, 32, 4, 4, generator=torch.Generator().manual_seed(1))
        if channels_last:
            x = x.contiguous(memory_format=torch.channels_last)
        x.requires_grad_()
        y = convolve(x)
        found = torch.autograd.grad(y.square().sum(), [x, layer.weight, layer.bias])
        results.append((y, *found))
    for mine, theirs in zip(*results, strict=True):
        assert torch.allclose(mine, theirs, rtol=1e-4, atol=1e-4)


def test_the_mean_alone_is_the_mean():
    model = build_model({"width": 2, "latent": 4})
    x = torch.rand(3, 1, 128, 128)
    assert torch.allclose(model.latent(x), model.encode(x)[0], atol=1e-6)
