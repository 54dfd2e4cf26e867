"""Adversarial autoencoder (Makhzani et al. 2015): a discriminator instead of the KL."""

from __future__ import annotations

import torch
from torch.nn import functional

from normct.train.objectives.base import Objective, Result, reconstruction_loss


class Adversarial(Objective):
    """Reconstruction + γ · (encoder deceives) + (discriminator tells latents from draws of N(0, 1)).

    Both players step at once: each term's gradient reaches one of them only, so one optimiser serves both.
    Validation watches the reconstruction, since an adversarial loss says nothing of how far training is.
    """

    architecture = "adversarial_autoencoder"
    own = ("hidden",)

    def __call__(self, model, images, masks, generator, first_epoch=False) -> Result:  # type: ignore[no-untyped-def]  # noqa: D102
        latent = model.latent(images)
        output = model.decode(latent)
        rec = reconstruction_loss(output, images)
        drawn = torch.randn(latent.shape, generator=generator, device=generator.device).to(latent.device)
        deceive = functional.softplus(-model.discriminate(latent, fixed=True).float()).mean()
        real, own = model.discriminate(drawn).float(), model.discriminate(latent.detach()).float()
        tell = (functional.softplus(-real) + functional.softplus(own)).mean()
        parts = {
            "rec": rec.detach(),
            "deceive": deceive.detach(),
            "discriminate": tell.detach(),
            "accuracy_discriminator": 0.5 * ((real > 0).float().mean() + (own < 0).float().mean()),
        }
        loss = rec + self.settings["adversarial_weight"] * deceive + tell
        return Result(loss, parts, (images, images, output), latent.detach(), monitor=rec.detach())
