"""A VAE whose decoder also says how sure it is of each pixel."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from normct.models.autoencoder import Autoencoder


class VarianceAutoencoder(Autoencoder):
    """Decoder with a second output a channel: the variance of a Gaussian (Kendall and Gal, NeurIPS 2017).

    Parameters
    ----------
    sigma_floor : float
        Smallest standard deviation, in units of the stored slices; the background, known exactly, would else
        drive the likelihood to infinity.
    **shared : Any
        ``width``, ``latent``, ``in_channels`` of :class:`Autoencoder`.
    """

    def __init__(self, sigma_floor: float = 0.02, **shared: Any) -> None:
        super().__init__(**shared)
        last = self.decoder[-1]
        assert isinstance(last, nn.ConvTranspose2d)
        self.decoder[-1] = nn.ConvTranspose2d(last.in_channels, 2 * last.out_channels, 4, 2, 1)
        self._floor = sigma_floor**2

    def decode_gaussian(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and variance (B, in_channels, 128, 128) of every pixel, the variance in float32."""
        mean, raw = self.decoder(z).chunk(2, dim=1)
        # at most that of a value anywhere in the window: a larger one would only hide the residual
        return mean, self._floor + raw.float().clamp(-20.0, 0.0).exp()

    def decode(self, z: Tensor) -> Tensor:
        """Decode a latent (B, latent, 2, 2) into the mean image (B, in_channels, 128, 128)."""
        return self.decode_gaussian(z)[0]

    def measures(self, images: Tensor, masks: Tensor) -> dict[str, Tensor]:
        """Return raw measures of each slice beside the residual's norm.

        Parameters
        ----------
        images : Tensor
            Shape (B, C, 128, 128).
        masks : Tensor of bool
            Brain, shape (B, 128, 128).

        Returns
        -------
        dict
            ``residual_over_variance`` (B,): mean over the brain of residual² / σ²; 0 without brain.
        """
        mean, variance = self.decode_gaussian(self.latent(images))
        ratio = ((images - mean).square() / variance).mean(1) * masks
        return {"residual_over_variance": ratio.sum((1, 2)) / masks.sum((1, 2)).clamp(min=1)}


def gaussian_nll(target: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    """Return −log N(target; mean, variance) without its constant, averaged over all elements, in float32."""
    residual = (target.float() - mean.float()).square()
    return 0.5 * (residual / variance + torch.log(variance)).mean()
