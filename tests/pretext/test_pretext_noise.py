"""Coarse noise: inside the brain, of the right scale, the same again."""

import torch

from normct.pretext.noise import coarse_noise
from normct.train.data import generator


def test_noise_is_coarse_and_stays_in_the_brain():
    masks = torch.zeros(32, 128, 128, dtype=torch.bool)
    masks[:, 20:110, 30:100] = True
    noise = coarse_noise(masks, 1, 16, 0.2, generator("cpu", 1))
    assert noise.shape == (32, 1, 128, 128)
    assert (noise[~masks[:, None]] == 0).all()
    inside = noise[:, 0, 20:110, 30:100]
    # bilinear interpolation of independent cells leaves two thirds of the deviation
    assert 0.1 < float(inside.std()) < 0.2
    # neighbours are alike, pixels two cells apart are not
    near = torch.corrcoef(torch.stack([inside[..., 1:].flatten(), inside[..., :-1].flatten()]))[0, 1]
    far = torch.corrcoef(torch.stack([inside[..., 16:].flatten(), inside[..., :-16].flatten()]))[0, 1]
    assert near > 0.95
    assert abs(far) < 0.1


def test_same_generator_same_noise_and_channels_of_their_own():
    masks = torch.ones(2, 128, 128, dtype=torch.bool)
    drawn = [coarse_noise(masks, 3, 16, 0.2, generator("cpu", s)) for s in (1, 1, 2)]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    assert not torch.equal(drawn[0][:, 0], drawn[0][:, 1])
