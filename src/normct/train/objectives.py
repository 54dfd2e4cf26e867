"""What each method minimises: one small class a method, in a registry under the method's name.

Reductions: the reconstruction is the mean of squares over all pixels, the KL the mean over all latent
elements, both averaged over the batch; the weights in the config mean nothing under any other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from normct.pretext import geometry
from normct.pretext.context import cover_squares
from normct.pretext.patches import draw_boxes, swap_patches, swapped_pixels

START_LOG_VARIANCE = -4.0
"""Log-variance at the start of stage 2: a standard deviation of 0.14 where the prior's is 1."""


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
    """

    loss: Tensor
    parts: dict[str, Tensor]
    shown: tuple[Tensor, Tensor, Tensor]
    mean: Tensor | None = None


class Objective:
    """Base of the objectives.

    Parameters
    ----------
    settings : dict
        The method's own section of ``train:``.
    """

    head = False

    def __init__(self, settings: dict[str, Any]) -> None:
        self.settings = settings

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
            With ``encode``, ``decode`` and, for a head, ``logits``.
        images : Tensor
            Shape (B, C, 128, 128).
        masks : Tensor of bool
            Brain, shape (B, 128, 128).
        generator : torch.Generator
            Source of every random number.
        first_epoch : bool
            Whether this is a training step of the first epoch (scales may be measured).
        """
        raise NotImplementedError

    def state(self) -> dict[str, float]:
        """Return what a resume has to know, and what ``training.json`` records."""
        return {}

    def load_state(self, state: dict[str, float]) -> None:
        """Take back :meth:`state`."""


class ContextRestoration(Objective):
    """Stage 1 (Algorithm 1): restore swapped patches through the latent mean; nothing is sampled."""

    def __call__(self, model, images, masks, generator, first_epoch=False) -> Result:  # type: ignore[no-untyped-def]  # noqa: D102
        patch = round(images.shape[-1] * self.settings["patch_fraction"])
        boxes = draw_boxes(masks, patch, generator, self.settings["swaps"])
        swapped = swap_patches(images, boxes, patch)
        output = model.decode(model.encode(swapped)[0])
        loss = reconstruction_loss(output, images)
        with torch.no_grad():
            where = swapped_pixels(boxes, patch, (images.shape[-2], images.shape[-1]))
            number = (where.sum() * images.shape[1]).clamp(min=1)
            inside = ((output.float() - images).square() * where).sum() / number
            identity = ((swapped - images).square() * where).sum() / number
        # what copying the input would score in the patches: the task is learnt where `patch` falls below it
        parts = {"rec": loss.detach(), "patch": inside, "patch_identity": identity}
        return Result(loss, parts, (swapped, images, output))


class Vae(Objective):
    """Reconstruction + β KL (Zimmerer et al., MICCAI 2019; stage 2a, Algorithm 2, from stage 1's weights)."""

    def __call__(self, model, images, masks, generator, first_epoch=False) -> Result:  # type: ignore[no-untyped-def]  # noqa: D102
        mean, logvar = model.encode(images)
        output = model.decode(sample(mean, logvar, generator))
        rec, kl = reconstruction_loss(output, images), kl_loss(mean, logvar)
        loss = rec + self.settings["kl_weight"] * kl
        return Result(loss, {"rec": rec.detach(), "kl": kl.detach()}, (images, images, output), mean.detach())


class CeVae(Objective):
    """(1 − λ)(rec + β KL) + λ context encoding of the *original* (Zimmerer et al., MIDL 2019).

    The context-encoding branch decodes the mean, as there.
    """

    def __call__(self, model, images, masks, generator, first_epoch=False) -> Result:  # type: ignore[no-untyped-def]  # noqa: D102
        mixing = self.settings["mixing"]
        vae = Vae(self.settings)(model, images, masks, generator)
        covered, _ = cover_squares(images, self.settings["max_patch"], generator)
        output = model.decode(model.encode(covered)[0])
        context = reconstruction_loss(output, images)
        loss = (1.0 - mixing) * vae.loss + mixing * context
        return Result(loss, vae.parts | {"context": context.detach()}, (covered, images, output), vae.mean)


class MultiTask(Objective):
    """Stage 2b (Algorithm 3, eq. 5.3): three cross-entropies + ε (rec + β KL) of the transformed image.

    ε multiplies the KL too, so that β weighs it against the reconstruction as in every other method. With
    ``epsilon: auto`` it is the ratio of the mean cross-entropy to the mean reconstruction loss over the first
    epoch (over the steps so far while that lasts), which brings both to one scale (appendix A.1), and fixed
    from then on.
    """

    head = True

    def __init__(self, settings: dict[str, Any]) -> None:
        super().__init__(settings)
        self._sums = torch.zeros(2, dtype=torch.float64)

    @property
    def epsilon(self) -> float | Tensor:
        """The weight of the reconstruction."""
        if self.settings["epsilon"] != "auto":
            return float(self.settings["epsilon"])
        return self._sums[0] / self._sums[1].clamp(min=1e-12)

    def __call__(self, model, images, masks, generator, first_epoch=False) -> Result:  # type: ignore[no-untyped-def]  # noqa: D102
        codes = geometry.draw_codes(len(images), generator, images.device)
        moved = geometry.transform(images, codes, self.settings["max_shift"])
        mean, logvar = model.encode(moved)
        logits = model.logits(mean, logvar)
        output = model.decode(sample(mean, logvar, generator))
        rec, kl = reconstruction_loss(output, moved), kl_loss(mean, logvar)
        logs = geometry.log_probabilities(logits, codes)
        cross = -logs.sum(1).mean()
        if first_epoch:
            self._sums = self._sums.to(images.device)
            self._sums += torch.stack([cross.detach(), rec.detach()]) * len(images)
        epsilon = torch.as_tensor(self.epsilon, dtype=torch.float32, device=images.device)
        loss = cross + epsilon * (rec + self.settings["kl_weight"] * kl)
        parts = {
            "rec": rec.detach(),
            "kl": kl.detach(),
            "ce": cross.detach(),
            "rec_scaled": epsilon * rec.detach(),
        }
        names = ("rotation", "vertical", "horizontal")
        heads = logits.split(list(geometry.CLASSES), dim=1)
        for i, (name, head) in enumerate(zip(names, heads, strict=True)):
            parts[f"accuracy_{name}"] = (head.argmax(1) == codes[:, i]).float().mean()
        return Result(loss, parts, (moved, moved, output), mean.detach())

    def state(self) -> dict[str, float]:
        """Return ε and the sums it is measured from."""
        cross, rec = self._sums.tolist()
        return {"epsilon": float(self.epsilon), "sum_cross_entropy": cross, "sum_reconstruction": rec}

    def load_state(self, state: dict[str, float]) -> None:
        """Take back the sums."""
        sums = [state["sum_cross_entropy"], state["sum_reconstruction"]]
        self._sums = torch.tensor(sums, dtype=torch.float64)


OBJECTIVES: dict[str, type[Objective]] = {
    "vae_kl": Vae,
    "cevae": CeVae,
    "context_restoration": ContextRestoration,
    "vae_pretrained": Vae,
    "multitask_pretrained": MultiTask,
}
"""Method name (:data:`normct.common.registry.METHODS`) to objective."""
