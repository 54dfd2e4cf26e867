"""VAE with a variance head: heteroscedastic Gaussian likelihood (Kendall and Gal, NeurIPS 2017)."""

from __future__ import annotations

from normct.models.variance import gaussian_nll
from normct.train.objectives.base import Objective, Result, kl_loss, reconstruction_loss, sample


class VarianceVae(Objective):
    """−log N(x; x̂, σ²) + β KL, both as averages over their elements.

    With 1024 latent elements for 16 384 pixels β = 0.0625 is the evidence lower bound itself.
    """

    architecture = "variance_autoencoder"
    own = ("sigma_floor",)

    def __call__(self, model, images, masks, generator, first_epoch=False) -> Result:  # type: ignore[no-untyped-def]  # noqa: D102
        mean, logvar = model.encode(images)
        output, variance = model.decode_gaussian(sample(mean, logvar, generator))
        nll, kl = gaussian_nll(images, output, variance), kl_loss(mean, logvar)
        loss = nll + self.settings["kl_weight"] * kl
        parts = {"rec": reconstruction_loss(output, images).detach(), "nll": nll.detach(), "kl": kl.detach()}
        return Result(loss, parts, (images, images, output), mean.detach())
