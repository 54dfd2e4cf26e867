"""The KL-gradient score of a variational autoencoder: where the prior, not the decoder, is surprised."""

from __future__ import annotations

import torch
from torch import Tensor

METHODS = ("vae_kl", "cevae")
"""Methods whose authors score with it; it takes one forward and one backward pass of the encoder."""


def kl_gradient(module: torch.nn.Module, images: Tensor, residual: Tensor, batch: int = 64) -> Tensor:
    """Return the sum over pixels of |x - x̂| times |∂KL/∂x| of each image (Zimmerer et al., MICCAI 2019).

    Parameters
    ----------
    module : torch.nn.Module
        With ``encode``, in evaluation mode; its weights are not touched.
    images, residual : Tensor
        Shape (B, C, 128, 128).
    batch : int
        Images at a time.

    Returns
    -------
    Tensor of float32
        Shape (B,).
    """
    module.requires_grad_(False)  # of the image alone: half the work
    found = []
    for part, missed in zip(images.split(batch), residual.split(batch), strict=True):
        with torch.inference_mode(False), torch.enable_grad():
            x = part.clone().requires_grad_(True)
            mean, logvar = module.encode(x)  # type: ignore[operator]
            kl = 0.5 * (mean.square() + logvar.exp() - 1.0 - logvar).sum()
            (gradient,) = torch.autograd.grad(kl, x)
        found.append((gradient.abs() * missed.abs()).flatten(1).double().sum(1).float())
    return torch.cat(found)
