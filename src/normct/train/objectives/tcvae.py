"""β-TCVAE: a disentangled latent (Chen et al., NeurIPS 2018)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from normct.train.objectives.base import Objective, Result, reconstruction_loss, sample


def decompose_kl(latent: Tensor, mean: Tensor, logvar: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Cut the KL into mutual information, total correlation and dimension-wise KL, estimated within a batch.

    The aggregate posterior is the mixture of the batch's posteriors; the paper's weighting by the size of the
    data adds constants without a gradient.

    Parameters
    ----------
    latent, mean, logvar : Tensor
        Shape (B, D): a draw from each posterior, and the posteriors.

    Returns
    -------
    mutual, total, dimension : Tensor
        Scalars, averaged over the batch and the D elements; their sum is an estimate of the KL from N(0, 1).
    """
    batch, elements = latent.shape
    # log q(z_i[d] | x_j), shape (B, B, D)
    scaled = (latent[:, None] - mean).square() * torch.exp(-logvar)
    each = -0.5 * (scaled + logvar + math.log(2 * math.pi))
    own = each.diagonal().sum(0)
    aggregate = torch.logsumexp(each.sum(2), dim=1) - math.log(batch)
    product = (torch.logsumexp(each, dim=1) - math.log(batch)).sum(1)
    prior = -0.5 * (latent.square() + math.log(2 * math.pi)).sum(1)
    parts = (own - aggregate, aggregate - product, product - prior)
    mutual, total, dimension = (part.mean() / elements for part in parts)
    return mutual, total, dimension


class BetaTcVae(Objective):
    """Reconstruction + β · (mutual information + t · total correlation + dimension-wise KL)."""

    def __call__(self, model, images, masks, generator, first_epoch=False) -> Result:  # type: ignore[no-untyped-def]  # noqa: D102
        mean, logvar = (part.float() for part in model.encode(images))
        latent = sample(mean, logvar, generator)
        output = model.decode(latent)
        rec = reconstruction_loss(output, images)
        mutual, total, dimension = decompose_kl(latent.flatten(1), mean.flatten(1), logvar.flatten(1))
        weighted = mutual + self.settings["tc_weight"] * total + dimension
        loss = rec + self.settings["kl_weight"] * weighted
        parts = {
            "rec": rec, "mutual_information": mutual, "total_correlation": total,
            "kl": mutual + total + dimension,
        }  # fmt: skip
        return Result(
            loss, {k: v.detach() for k, v in parts.items()}, (images, images, output), mean.detach()
        )
