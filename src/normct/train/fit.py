"""Train one method with one seed on packed slices: weights, history, figures, and who was trained on."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import platform
import sys
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pandas as pd
import torch
from lightning.pytorch.callbacks import EarlyStopping, TQDMProgressBar
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.plugins.environments import LightningEnvironment
from torch import nn

from normct.common import cli
from normct.common.codehash import code_hash
from normct.common.errors import NormctError
from normct.common.files import atomic, sha256, write_json
from normct.common.registry import METHODS
from normct.models import ModelFileError, build_model, load_model, save_model
from normct.train import figures
from normct.train.callbacks import BestWeights, EpochLines, Resume
from normct.train.data import IndexBatches, PackedSlices, generator
from normct.train.module import TrainingModule
from normct.train.objectives import OBJECTIVES, START_LOG_VARIANCE, Objective

log = logging.getLogger(__name__)
EXAMPLES = 8


@dataclasses.dataclass(frozen=True)
class Settings:
    """Settings of one training, as the rule hands them over.

    Attributes
    ----------
    method_settings : dict
        The method's own section of ``train:``.
    network : dict
        ``width``, ``latent``.
    epochs : int
        Epochs at most.
    learning_rate, batch_size, plateau_factor, plateau_patience, stop_patience, gradient_clip
        Of Adam, its schedule, early stopping, and the largest norm of the gradient.
    accelerator : str
        auto, cpu or cuda.
    precision : str
        auto, 32-true or bf16-mixed.
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


def choose_device(accelerator: str) -> str:
    """Return cpu or cuda.

    Raises
    ------
    NormctError
        Where cuda is asked for and there is none.
    """
    if accelerator == "cuda" and not torch.cuda.is_available():
        raise NormctError("train.accelerator is cuda, but PyTorch finds no GPU; set it to auto or cpu")
    return "cuda" if accelerator == "cuda" or (accelerator == "auto" and torch.cuda.is_available()) else "cpu"


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
    model = build_model(network | {"head": objective.head})
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


def fit(
    method: str,
    seed: int,
    data_dir: Path,
    out_dir: Path,
    settings: Settings,
    *,
    init: Path | None = None,
    checkpoint_seconds: float = 60.0,
) -> None:
    """Train and write ``model.safetensors``, ``training.json``, ``history.csv`` and two figures.

    Parameters
    ----------
    method : str
        Name in the registry.
    seed : int
        Every random number depends on (seed, epoch, step): a resumed training ends in the same weights.
    data_dir : Path
        Packed slices.
    out_dir : Path
        Beside it, ``.resume-<name>.ckpt`` lives while the training runs.
    settings : Settings
    init : Path or None
        Stage 1's weights, for a pretrained method.
    checkpoint_seconds : float
        Least time between two resume checkpoints.

    Raises
    ------
    NormctError
        Where training diverges, or the start weights or the device are not what was asked for.
    """
    if METHODS[method].pretrained != (init is not None):
        raise NormctError(
            f"{method}: {'needs' if METHODS[method].pretrained else 'takes no'} stage-1 weights (--init)"
        )
    device = choose_device(settings.accelerator)
    precision = choose_precision(settings.precision, device)
    data = PackedSlices(data_dir)
    objective = OBJECTIVES[method](settings.method_settings)
    model = start_network(objective, settings.network, seed, init)
    trained_on = {"train": data.participants("train"), "stop": data.participants("stop")}
    identity = {
        "method": method, "seed": seed, "settings": dataclasses.asdict(settings), "ids": trained_on,
        "code": code_hash("normct.train.fit"), "data": sha256(data_dir / "index.tsv"),
        "init": sha256(init) if init else None, "torch": torch.__version__, "precision": precision,
        "device": device, "threads": torch.get_num_threads(),
    }  # fmt: skip
    fingerprint = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()

    loader = IndexBatches(data.rows("train"), settings.batch_size, seed)
    checks = IndexBatches(data.rows("stop"), settings.batch_size)
    module = TrainingModule(
        model, objective, data, loader, seed=seed, learning_rate=settings.learning_rate,
        plateau_factor=settings.plateau_factor, plateau_patience=settings.plateau_patience,
    )  # fmt: skip
    best = BestWeights()
    resume = Resume(out_dir.parent / f".resume-{out_dir.name}.ckpt", fingerprint, checkpoint_seconds)
    callbacks: list[pl.Callback] = [
        EarlyStopping("val_loss", patience=settings.stop_patience, check_finite=False),
        best,
        EpochLines(f"{METHODS[method].label}, seed {seed}"),
        resume,
    ]
    if sys.stdout.isatty():
        callbacks.append(TQDMProgressBar(leave=False))
    trainer = pl.Trainer(
        accelerator="gpu" if device == "cuda" else "cpu",
        devices=1,
        precision=precision,  # type: ignore[arg-type]
        max_epochs=settings.epochs,
        gradient_clip_val=settings.gradient_clip,
        deterministic=device == "cpu",
        benchmark=device == "cuda",
        callbacks=callbacks,
        logger=TensorBoardLogger(out_dir, name=None, version="tensorboard"),
        plugins=[
            LightningEnvironment()
        ],  # one process: a Slurm job's variables must not start a distributed run
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=sys.stdout.isatty(),
        num_sanity_val_steps=0,
        log_every_n_steps=50,
    )
    checkpoint = resume.usable()
    if checkpoint:
        print(f"{METHODS[method].label}, seed {seed}: resuming an interrupted training", flush=True)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=UserWarning, module="lightning")
        trainer.fit(module, loader, checks, ckpt_path=checkpoint, weights_only=True)
    if trainer.interrupted:
        raise NormctError("training was interrupted; run the same command to go on from the last checkpoint")

    model.load_state_dict(best.weights)
    network = {"architecture": "autoencoder"} | settings.network | {"head": objective.head}
    report = {
        "method": method, "seed": seed, "network": network, "settings": dataclasses.asdict(settings),
        "epochs_run": len(module.history), "best_epoch": best.epoch + 1, "best_val_loss": best.loss,
        "train_slices": len(data.rows("train")), "stop_slices": len(data.rows("stop")),
        "trained_on": trained_on, "stage1_sha256": identity["init"], "objective": objective.state(),
        "device": device, "precision": precision, "threads": torch.get_num_threads(),
        "versions": {"python": platform.python_version()}
        | {name: version(name) for name in ("normct", "torch", "lightning", "numpy")},
    }  # fmt: skip
    history = pd.DataFrame(module.history).astype({"epoch": int})
    title = f"{METHODS[method].label}, seed {seed}"
    with atomic(out_dir / "model.safetensors") as part:
        save_model(part, model, {"method": method, "seed": seed, "network": network})
    write_json(out_dir / "training.json", report)
    with atomic(out_dir / "history.csv") as part:
        history.assign(epoch=history["epoch"] + 1).to_csv(part, index=False, float_format="%.8g")
    figures.losses(out_dir / "losses.png", history, title)
    _draw_examples(out_dir / "reconstructions.png", title, model, objective, data=data, seed=seed)
    resume.remove()


@torch.no_grad()
def _draw_examples(
    path: Path, title: str, model: nn.Module, objective: Objective, *, data: PackedSlices, seed: int
) -> None:
    """Draw validation slices of the first early-stopping scan, evenly spaced from base to vertex."""
    rows = data.rows("stop")
    first = data.index["participant_id"].to_numpy()[rows.numpy()] == data.participants("stop")[0]
    rows = rows[torch.from_numpy(first)]
    chosen = rows[torch.linspace(0.1, 0.9, min(EXAMPLES, len(rows))).mul(len(rows) - 1).long()]
    data.to(torch.device("cpu"))
    images, masks = data.batch(chosen)
    model.cpu().eval()
    result = objective(model, images, masks, generator("cpu", seed, "examples"))
    names = ("input", "target", "reconstruction")
    shown = {name: part[:, 0].numpy() for name, part in zip(names, result.shown, strict=True)}
    figures.reconstructions(path, shown, title)


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    parser = cli.parser(__doc__, "normct.train.fit")
    parser.add_argument("method", choices=list(OBJECTIVES))
    parser.add_argument("seed", type=int)
    parser.add_argument("data_dir", type=Path, help="folder of packed slices")
    parser.add_argument("out_dir", type=Path, help="folder of the results")
    parser.add_argument(
        "--settings", required=True, type=json.loads, help="JSON, see normct.train.fit.Settings"
    )
    parser.add_argument("--init", type=Path, help="stage 1's model.safetensors, for a pretrained method")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument("--checkpoint-seconds", type=float, default=60.0)
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    fit(
        args.method, args.seed, args.data_dir, args.out_dir, Settings(**args.settings),
        init=args.init, checkpoint_seconds=args.checkpoint_seconds,
    )  # fmt: skip


if __name__ == "__main__":
    cli.run(main)
