"""A VAE with dropout in the decoder, for Monte Carlo uncertainty; the thesis's own network has none."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from normct.models.autoencoder import Autoencoder


class DropoutAutoencoder(Autoencoder):
    """Drops whole channels between the decoder's blocks (Gal and Ghahramani, ICML 2016).

    Which ones is drawn from a generator handed over, so that a training can be resumed and a score repeated.

    Parameters
    ----------
    dropout : float
        Probability that a channel is dropped.
    passes : int
        Decodings that :meth:`measures` takes the standard deviation of.
    **shared : Any
        ``width``, ``latent``, ``in_channels`` of :class:`Autoencoder`.
    """

    def __init__(self, dropout: float = 0.2, passes: int = 8, **shared: Any) -> None:
        super().__init__(**shared)
        self._dropout, self._passes = dropout, passes

    def decode_dropped(self, z: Tensor, generator: torch.Generator) -> Tensor:
        """Decode a latent (B, latent, 2, 2) with channels dropped at random."""
        keep = 1.0 - self._dropout
        for i, block in enumerate(self.decoder):
            z = block(z)
            if i + 1 < len(self.decoder):
                drawn = torch.rand(z.shape[:2], generator=generator, device=generator.device).to(z.device)
                z = z * ((drawn < keep).to(z.dtype) / keep)[:, :, None, None]
        return z

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
            ``uncertainty`` (B,): standard deviation over passes, mean over the brain; 0 without brain.
        """
        generator = torch.Generator(device=images.device).manual_seed(0)
        mean = self.latent(images)
        first, second = torch.zeros_like(images), torch.zeros_like(images)
        for _ in range(self._passes):
            output = self.decode_dropped(mean, generator)
            first, second = first + output, second + output.square()
        variance = (second - first.square() / self._passes) / (self._passes - 1)
        deviation = variance.clamp(min=0).sqrt().mean(1) * masks
        return {"uncertainty": deviation.sum((1, 2)) / masks.sum((1, 2)).clamp(min=1)}
