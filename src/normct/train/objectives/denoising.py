"""Denoising autoencoder with coarse noise (Kascenas et al., MIDL 2022)."""

from __future__ import annotations

from typing import Any

from normct.pretext.noise import coarse_noise
from normct.train.objectives.base import Objective, Result, reconstruction_loss


class Denoising(Objective):
    """Clean slices from slices with coarse noise inside the brain; a U-Net of a width of its own."""

    architecture = "unet"

    def network(self, shared: dict[str, Any]) -> dict[str, Any]:
        """Return the network's description; only the input channels are shared with the other methods."""
        return {
            "architecture": self.architecture,
            "width": self.settings["width"],
            "in_channels": shared.get("in_channels", 1),
        }

    def __call__(self, model, images, masks, generator, first_epoch=False) -> Result:  # type: ignore[no-untyped-def]  # noqa: D102
        noise = coarse_noise(
            masks, images.shape[1], self.settings["noise_grid"], self.settings["noise_sigma"], generator
        )
        noisy = images + noise
        output = model(noisy)
        loss = reconstruction_loss(output, images)
        # what handing the input back would score: the task is learnt where `rec` falls below it
        parts = {"rec": loss.detach(), "noise_identity": noise.square().mean()}
        return Result(loss, parts, (noisy, images, output))
