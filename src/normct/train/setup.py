"""What a training is put together from: settings, device, precision, network, module, trainer."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import sys
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import TQDMProgressBar
from lightning.pytorch.loggers import Logger
from lightning.pytorch.plugins.environments import LightningEnvironment
from torch import Tensor, nn

from normct.common.errors import NormctError
from normct.common.registry import METHODS
from normct.models import ModelFileError, build_model, load_model
from normct.train.compiled import Stance, choose_mode, compile_parts
from normct.train.data import IndexBatches, PackedSlices
from normct.train.module import TrainingModule
from normct.train.objectives import OBJECTIVES, START_LOG_VARIANCE, Objective


@dataclasses.dataclass(frozen=True)
class Settings:
    """Settings of one training, as the rule hands them over.

    Attributes
    ----------
    method_settings : dict
        The method's own section of ``train:``.
    network : dict
        ``width``, ``latent``, ``in_channels``.
    epochs : int
        Epochs at most.
    learning_rate, batch_size, plateau_factor, plateau_patience, stop_patience, gradient_clip
        Of Adam, its schedule, early stopping, and the largest norm of the gradient.
    accelerator : str
        auto, cpu or cuda.
    precision : str
        auto, 32-true or bf16-mixed.
    compile : str or bool
        auto, True or False: see :mod:`normct.train.compiled`.
    devices : int
        GPUs (or, on a CPU, processes) that one training is cut over.
    """

    method_settings: dict[str, Any]
    network: dict[str, Any]
    epochs: int
    learning_rate: float
    batch_size: int
    plateau_factor: float
    plateau_patience: int
    stop_patience: int
    gradient_clip: float
    accelerator: str
    precision: str
    compile: str | bool = False
    devices: int = 1


def choose_device(accelerator: str, devices: int = 1) -> str:
    """Return cpu or cuda.

    Raises
    ------
    NormctError
        Where cuda is asked for and there is none, or fewer GPUs than ``devices``.
    """
    if accelerator == "cuda" and not torch.cuda.is_available():
        raise NormctError("train.accelerator is cuda, but PyTorch finds no GPU; set it to auto or cpu")
    chosen = "cuda" if accelerator != "cpu" and torch.cuda.is_available() else "cpu"
    if chosen == "cuda" and devices > torch.cuda.device_count():
        raise NormctError(f"train.devices is {devices}, but PyTorch finds {torch.cuda.device_count()} GPUs")
    return chosen


def choose_precision(precision: str, device: str) -> str:
    """Return 32-true or bf16-mixed; ``auto`` takes bf16 where the machine computes in it natively."""
    if precision != "auto":
        return precision
    if device == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:  # emulated bf16 is slower than float32; AVX512-BF16 or AMX cut the step to two thirds
        probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
        native = any(getattr(torch.cpu, probe, bool)() for probe in probes)
    return "bf16-mixed" if native else "32-true"


def start_network(objective: Objective, network: dict[str, Any], seed: int, init: Path | None) -> nn.Module:
    """Build the network; with ``init``, from stage 1's weights, its log-variance half near −4.

    The head, which stage 1 has not, keeps its fresh weights.

    Raises
    ------
    NormctError
        Where the file is damaged or of another network.
    """
    torch.manual_seed(seed)
    model = build_model(objective.network(network))
    if init is not None:
        try:
            source, _ = load_model(init)
            result = model.load_state_dict(source.state_dict(), strict=False)
        except (ModelFileError, RuntimeError) as error:
            raise NormctError(f"stage 1's weights do not fit: {error}. Train stage 1 again") from error
        if result.unexpected_keys or any(not key.startswith("head.") for key in result.missing_keys):
            raise NormctError("stage 1's weights are of another network; train stage 1 again")
        model.set_log_variance(START_LOG_VARIANCE)  # type: ignore[operator]
    return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


@dataclasses.dataclass(frozen=True)
class Training:
    """The parts of one training."""

    data: PackedSlices
    objective: Objective
    model: nn.Module
    module: TrainingModule
    loader: IndexBatches
    checks: IndexBatches
    stance: Stance


def prepare(
    method: str,
    seed: int,
    data_dir: Path,
    settings: Settings,
    init: Path | None = None,
    device: str = "cpu",
    precision: str = "32-true",
) -> Training:
    """Put the parts together.

    Parameters
    ----------
    method : str
        Name in the registry.
    seed : int
    data_dir : Path
        Packed slices.
    settings : Settings
    init : Path or None
        Stage 1's weights, for a pretrained method.
    device, precision : str
        What it will train on and in: whether compiling pays is measured there.

    Raises
    ------
    NormctError
        Where start weights or channels are not those of the method or the slices.
    """
    if METHODS[method].pretrained != (init is not None):
        wanted = "needs" if METHODS[method].pretrained else "takes no"
        raise NormctError(f"{method}: {wanted} stage-1 weights (--init)")
    data = PackedSlices(data_dir)
    channels = settings.network.get("in_channels", 1)
    if channels != data.channels:
        raise NormctError(
            f"train.network.in_channels is {channels}, but the slices have {data.channels} (CT has 1)"
        )
    objective = OBJECTIVES[method](settings.method_settings)
    model = start_network(objective, settings.network, seed, init)
    loader = IndexBatches(data.rows("train"), settings.batch_size, seed, data)
    checks = IndexBatches(data.rows("stop"), settings.batch_size, None, data)
    stance = compiled_where_it_pays(settings, device, precision, data, model, objective)
    module = TrainingModule(
        model, objective, data, loader, seed=seed, learning_rate=settings.learning_rate,
        plateau_factor=settings.plateau_factor, plateau_patience=settings.plateau_patience, stance=stance,
    )  # fmt: skip
    return Training(data, objective, model, module, loader, checks, stance)


def compiled_where_it_pays(
    settings: Settings,
    device: str,
    precision: str,
    data: PackedSlices,
    model: nn.Module,
    objective: Objective,
) -> Stance:
    """Compile the network in place where the settings ask for it, or where a GPU is the faster for it."""
    here = torch.device("cpu" if device == "cpu" else f"cuda:{os.environ.get('LOCAL_RANK', '0')}")

    def batch() -> tuple[Tensor, Tensor]:
        data.to(here)
        return data.batch(data.rows("train")[: settings.batch_size])

    def autocast() -> contextlib.AbstractContextManager:
        return torch.autocast(here.type, torch.bfloat16, enabled=precision == "bf16-mixed")

    mode = choose_mode(settings.compile, str(here), model, objective, batch, autocast)
    if mode is not None:
        compile_parts(model, mode)
    return Stance(mode, settings.batch_size)


def make_trainer(
    settings: Settings,
    device: str,
    precision: str,
    callbacks: list[pl.Callback],
    logger: Logger | None = None,
) -> pl.Trainer:
    """Return the trainer of every method: deterministic on the CPU, no files of its own.

    With several devices Lightning starts this very command again for each of the others, here on this machine:
    one Slurm job asks for all its GPUs, and srun has no part in it.
    """
    # determinism would else fill every fresh tensor before it is written: a tenth of a step on a CPU
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    bar: list[pl.Callback] = [TQDMProgressBar(leave=False)] if sys.stdout.isatty() else []
    return pl.Trainer(
        accelerator="gpu" if device == "cuda" else "cpu",
        devices=settings.devices,
        strategy="ddp" if settings.devices > 1 else "auto",
        use_distributed_sampler=False,  # batches are cut by IndexBatches
        precision=precision,  # type: ignore[arg-type]
        max_epochs=settings.epochs,
        gradient_clip_val=settings.gradient_clip,
        deterministic=device == "cpu",
        benchmark=device == "cuda",
        callbacks=[*callbacks, *bar],
        logger=logger or False,
        # a Slurm job's variables must not start a distributed run
        plugins=[LightningEnvironment()],
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=bool(bar),
        num_sanity_val_steps=0,
        log_every_n_steps=50,
    )
