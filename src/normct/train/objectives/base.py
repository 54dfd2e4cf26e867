"""What every objective shares: reductions, sampling, and the base class.

Reductions: the reconstruction is the mean of squares over all pixels, the KL the mean over all latent
elements, both averaged over the batch; the weights in the config mean nothing under any other.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


def reconstruction_loss(output: Tensor, target: Tensor) -> Tensor:
    """Mean of squares over all pixels and the batch (thesis eq. 5.1), in float32."""
    return (output.float() - target.float()).square().mean()


def kl_loss(mean: Tensor, logvar: Tensor) -> Tensor:
    """KL of N(mean, exp(logvar)) from N(0, 1), averaged over elements and the batch, in float32."""
    mean, logvar = mean.float(), logvar.float()
    return 0.5 * (mean.square() + logvar.exp() - 1.0 - logvar).mean()


def sample(mean: Tensor, logvar: Tensor, generator: torch.Generator) -> Tensor:
    """Draw from N(mean, exp(logvar)) by reparametrisation (Kingma and Welling 2014)."""
    noise = torch.randn(mean.shape, generator=generator, device=generator.device).to(mean.device)
    return mean + (0.5 * logvar).exp() * noise


@dataclass
class Result:
    """What an objective makes of one batch.

    Attributes
    ----------
    loss : Tensor
        Scalar to minimise.
    parts : dict of Tensor
        Scalars to log, averages over the batch.
    shown : tuple of Tensor
        Input, target and reconstruction, each (B, C, H, W), for the figure.
    mean : Tensor or None
        Latent mean where the method has a prior, to count active channels.
    monitor : Tensor or None
        Scalar that validation watches where it is not the loss: an adversarial loss falls for either side.
    """

    loss: Tensor
    parts: dict[str, Tensor]
    shown: tuple[Tensor, Tensor, Tensor]
    mean: Tensor | None = None
    monitor: Tensor | None = None


class Objective(ABC):
    """Base of the objectives.

    Parameters
    ----------
    settings : dict
        The method's own section of ``train:``.
    """

    head = False
    architecture = "autoencoder"
    own: tuple[str, ...] = ()
    """Keys of the section that are arguments of the network."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.settings = settings

    def network(self, shared: dict[str, Any]) -> dict[str, Any]:
        """Return the network's description for :func:`normct.models.build_model`.

        Parameters
        ----------
        shared : dict
            ``train.network``: ``width``, ``latent``, ``in_channels``.
        """
        return {"architecture": self.architecture} | shared | {key: self.settings[key] for key in self.own}

    @abstractmethod
    def __call__(
        self,
        model: nn.Module,
        images: Tensor,
        masks: Tensor,
        generator: torch.Generator,
        first_epoch: bool = False,
    ) -> Result:
        """Return the loss of a batch.

        Parameters
        ----------
        model : nn.Module
            What :meth:`network` describes.
        images : Tensor
            Shape (B, C, 128, 128).
        masks : Tensor of bool
            Brain, shape (B, 128, 128).
        generator : torch.Generator
            Source of every random number.
        first_epoch : bool
            Whether this is a training step of the first epoch (scales may be measured).
        """

    def state(self) -> dict[str, float]:
        """Return what a resume has to know, and what ``training.json`` records."""
        return {}

    def load_state(self, state: dict[str, float]) -> None:  # noqa: B027 - most have none
        """Take back :meth:`state`."""
