"""The thesis's methods: context restoration, VAE, ceVAE, multi-task (Venkatakrishnan 2020, 5.2 and 5.3)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, distributed

from normct.pretext import geometry
from normct.pretext.context import cover_squares
from normct.pretext.patches import draw_boxes, swap_patches, swapped_pixels
from normct.train.objectives.base import Objective, Result, kl_loss, reconstruction_loss, sample


class ContextRestoration(Objective):
    """Stage 1 (Algorithm 1): restore swapped patches through the latent mean; nothing is sampled."""

    def __call__(self, model, images, masks, generator, first_epoch=False) -> Result:  # type: ignore[no-untyped-def]  # noqa: D102
        patch = round(images.shape[-1] * self.settings["patch_fraction"])
        boxes = draw_boxes(masks, patch, generator, self.settings["swaps"])
        swapped = swap_patches(images, boxes, patch)
        output = model.decode(model.latent(swapped))
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
        output = model.decode(model.latent(covered))
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
    epsilon_factor = 1.0

    def __init__(self, settings: dict[str, Any]) -> None:
        super().__init__(settings)
        self._sums = torch.zeros(2, dtype=torch.float64)

    @property
    def epsilon(self) -> float | Tensor:
        """The weight of the reconstruction."""
        if self.settings["epsilon"] != "auto":
            return self.epsilon_factor * float(self.settings["epsilon"])
        return self.epsilon_factor * self._sums[0] / self._sums[1].clamp(min=1e-12)

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
            measured = torch.stack([cross.detach(), rec.detach()]) * len(images)
            if distributed.is_available() and distributed.is_initialized():
                distributed.all_reduce(measured)  # one ε for all processes
            self._sums += measured
        epsilon = self.epsilon
        if isinstance(epsilon, Tensor):
            epsilon = epsilon.float().to(images.device)
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

    def network(self, shared: dict[str, Any]) -> dict[str, Any]:
        """Return the network's description, with the head."""
        return super().network(shared) | {"head": True}

    def state(self) -> dict[str, float]:
        """Return ε and the sums it is measured from."""
        cross, rec = self._sums.tolist()
        return {"epsilon": float(self.epsilon), "sum_cross_entropy": cross, "sum_reconstruction": rec}

    def load_state(self, state: dict[str, float]) -> None:
        """Take back the sums."""
        sums = [state["sum_cross_entropy"], state["sum_reconstruction"]]
        self._sums = torch.tensor(sums, dtype=torch.float64)


class MultiTaskLow(MultiTask):
    """Ablation: a tenth of the ε that the configuration gives or the first epoch measures."""

    epsilon_factor = 0.1


class MultiTaskHigh(MultiTask):
    """Ablation: ten times that ε."""

    epsilon_factor = 10.0
