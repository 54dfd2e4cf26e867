"""An autoencoder whose latent a discriminator cannot tell from the prior (Makhzani et al. 2015)."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.func import functional_call

from normct.models.autoencoder import SIZE, SLOPE, Autoencoder


class AdversarialAutoencoder(Autoencoder):
    """The thesis's network, its latent mean decoded, with a discriminator of latents.

    Parameters
    ----------
    hidden : int
        Units of the discriminator's two hidden layers.
    **shared : Any
        ``width``, ``latent``, ``in_channels`` of :class:`Autoencoder`.
    """

    def __init__(self, hidden: int = 256, **shared: Any) -> None:
        super().__init__(**shared)
        self.discriminator = nn.Sequential(
            nn.Linear(self.latent_channels * (SIZE // 64) ** 2, hidden),
            nn.LeakyReLU(SLOPE),
            nn.Linear(hidden, hidden),
            nn.LeakyReLU(SLOPE),
            nn.Linear(hidden, 1),
        )

    def discriminate(self, z: Tensor, *, fixed: bool = False) -> Tensor:
        """Return the logit that each latent was drawn from the prior, shape (B,).

        Parameters
        ----------
        z : Tensor
            Shape (B, latent, 2, 2).
        fixed : bool
            Whether the discriminator's own weights get no gradient: what the encoder learns from.
        """
        flat = z.flatten(1)
        if not fixed:
            return self.discriminator(flat)[:, 0]
        weights = {name: value.detach() for name, value in self.discriminator.named_parameters()}
        return functional_call(self.discriminator, weights, (flat,))[:, 0]
