"""VAE with Monte Carlo dropout in the decoder (Gal and Ghahramani, ICML 2016)."""

from __future__ import annotations

from normct.train.objectives.base import Objective, Result, kl_loss, reconstruction_loss, sample


class DropoutVae(Objective):
    """Reconstruction + β KL, channels of the decoder dropped at random."""

    architecture = "dropout_autoencoder"
    own = ("dropout", "passes")

    def __call__(self, model, images, masks, generator, first_epoch=False) -> Result:  # type: ignore[no-untyped-def]  # noqa: D102
        mean, logvar = model.encode(images)
        output = model.decode_dropped(sample(mean, logvar, generator), generator)
        rec, kl = reconstruction_loss(output, images), kl_loss(mean, logvar)
        loss = rec + self.settings["kl_weight"] * kl
        return Result(loss, {"rec": rec.detach(), "kl": kl.detach()}, (images, images, output), mean.detach())
