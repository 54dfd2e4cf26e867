"""A VAE whose prior is a normalising flow, learnt with it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from normct.models.autoencoder import SIZE, Autoencoder


class FlowAutoencoder(Autoencoder):
    """The thesis's network with a masked autoregressive flow as prior (Papamakarios et al., NeurIPS 2017).

    Parameters
    ----------
    transforms : int
        Autoregressive transforms of the flow.
    hidden : int
        Units of each one's hidden layer.
    **shared : Any
        ``width``, ``latent``, ``in_channels`` of :class:`Autoencoder`.
    """

    def __init__(self, transforms: int = 3, hidden: int = 256, **shared: Any) -> None:
        import zuko  # only this network needs it

        super().__init__(**shared)
        self._elements = self.latent_channels * (SIZE // 64) ** 2
        self.prior = zuko.flows.MAF(features=self._elements, transforms=transforms, hidden_features=(hidden,))

    def log_prior(self, z: Tensor) -> Tensor:
        """Return the prior's log-density of latents (B, latent, 2, 2) an element, float32, shape (B,)."""
        with torch.autocast(z.device.type, enabled=False):  # a sum over a thousand elements needs its digits
            return self.prior().log_prob(z.float().flatten(1)) / self._elements

    def measures(self, images: Tensor, masks: Tensor) -> dict[str, Tensor]:
        """Return raw measures of each slice beside the residual's norm.

        Parameters
        ----------
        images : Tensor
            Shape (B, C, 128, 128).
        masks : Tensor of bool
            Brain, shape (B, 128, 128); not needed here.

        Returns
        -------
        dict
            ``latent_surprise`` (B,): −log prior density of the latent mean, an element.
        """
        return {"latent_surprise": -self.log_prior(self.latent(images))}
