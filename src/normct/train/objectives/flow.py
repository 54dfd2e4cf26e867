"""VAE with a normalising-flow prior on the latent (after Chen et al., ICLR 2017)."""

from __future__ import annotations

import math

from normct.train.objectives.base import Objective, Result, reconstruction_loss, sample


class FlowVae(Objective):
    """Reconstruction + β KL of the posterior from a flow, estimated with the latent that is decoded."""

    architecture = "flow_autoencoder"
    own = ("transforms", "hidden")

    def __call__(self, model, images, masks, generator, first_epoch=False) -> Result:  # type: ignore[no-untyped-def]  # noqa: D102
        mean, logvar = (part.float() for part in model.encode(images))
        latent = sample(mean, logvar, generator)
        output = model.decode(latent)
        rec = reconstruction_loss(output, images)
        posterior = -0.5 * ((latent - mean).square() / logvar.exp() + logvar + math.log(2 * math.pi)).mean()
        kl = posterior - model.log_prior(latent).mean()
        loss = rec + self.settings["kl_weight"] * kl
        return Result(loss, {"rec": rec.detach(), "kl": kl.detach()}, (images, images, output), mean.detach())
