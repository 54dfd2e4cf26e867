"""What each method minimises: one small class a method, in a registry under the method's name."""

from normct.train.objectives.adversarial import Adversarial
from normct.train.objectives.base import Objective, Result, kl_loss, reconstruction_loss, sample
from normct.train.objectives.denoising import Denoising
from normct.train.objectives.dropout import DropoutVae
from normct.train.objectives.flow import FlowVae
from normct.train.objectives.tcvae import BetaTcVae
from normct.train.objectives.thesis import (
    CeVae,
    ContextRestoration,
    MultiTask,
    MultiTaskHigh,
    MultiTaskLow,
    Vae,
)
from normct.train.objectives.variance import VarianceVae

START_LOG_VARIANCE = -4.0
"""Log-variance at the start of stage 2: a standard deviation of 0.14 where the prior's is 1."""

OBJECTIVES: dict[str, type[Objective]] = {
    "vae_kl": Vae,
    "cevae": CeVae,
    "context_restoration": ContextRestoration,
    "vae_pretrained": Vae,
    "multitask_pretrained": MultiTask,
    "denoising": Denoising,
    "vae_variance": VarianceVae,
    "vae_dropout": DropoutVae,
    "aae": Adversarial,
    "vae_flow": FlowVae,
    "beta_tcvae": BetaTcVae,
    "multitask": MultiTask,
    "multitask_epsilon_low": MultiTaskLow,
    "multitask_epsilon_high": MultiTaskHigh,
}
"""Method name (:data:`normct.common.registry.METHODS`) to objective."""

__all__ = [
    "OBJECTIVES", "START_LOG_VARIANCE", "Objective", "Result", "kl_loss", "reconstruction_loss", "sample",
]  # fmt: skip
