"""Train one method with one seed on packed slices: weights, history, figures, and who was trained on."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import platform
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pandas as pd
import torch
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.loggers import TensorBoardLogger

from normct.common import cli
from normct.common.codehash import code_hash
from normct.common.errors import NormctError
from normct.common.files import atomic, sha256, write_json
from normct.common.registry import METHODS
from normct.models import save_model
from normct.train import figures
from normct.train.callbacks import BestWeights, EpochLines, Resume, say
from normct.train.data import content
from normct.train.objectives import OBJECTIVES
from normct.train.preview import Preview, examples
from normct.train.setup import Settings, Training, choose_device, choose_precision, make_trainer, prepare

log = logging.getLogger(__name__)


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
        Beside it, ``.resume-<name>.ckpt`` and ``preview-<name>.png`` live while the training runs.
    settings : Settings
    init : Path or None
        Stage 1's weights, for a pretrained method.
    checkpoint_seconds : float
        Least time between two resume checkpoints.

    Raises
    ------
    NormctError
        Where training diverges or is told to stop, or start weights or device are not what was asked for.
    """
    device = choose_device(settings.accelerator, settings.devices)
    precision = choose_precision(settings.precision, device)
    training = prepare(method, seed, data_dir, settings, init, device, precision)
    title = f"{METHODS[method].label}, seed {seed}"
    identity = {
        "method": method, "seed": seed, "settings": dataclasses.asdict(settings),
        "ids": _trained_on(training), "code": code_hash("normct.train.fit"),
        "data": sha256(data_dir / "index.tsv"), "pixels": content(data_dir),
        "init": sha256(init) if init else None, "torch": torch.__version__, "precision": precision,
        "device": device, "threads": torch.get_num_threads(),
    }  # fmt: skip
    fingerprint = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
    best = BestWeights()
    resume = Resume(out_dir.parent / f".resume-{out_dir.name}.ckpt", fingerprint, checkpoint_seconds)
    preview = Preview(out_dir.parent / f"preview-{out_dir.name}.png", title, training.data, seed)
    callbacks: list[pl.Callback] = [
        EarlyStopping("val_loss", patience=settings.stop_patience, check_finite=False),
        best,
        EpochLines(title),
        preview,
        resume,
    ]
    logger = TensorBoardLogger(out_dir, name=None, version="tensorboard")
    trainer = make_trainer(settings, device, precision, callbacks, logger)
    checkpoint = resume.usable()
    if checkpoint and trainer.is_global_zero:
        say(f"{title}: resuming an interrupted training")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=UserWarning, module="lightning")
        trainer.fit(
            training.module, training.loader, training.checks, ckpt_path=checkpoint, weights_only=True
        )
    if trainer.interrupted:
        raise NormctError("training was interrupted; run the same command to go on from the last checkpoint")

    if not trainer.is_global_zero:
        return  # the first process writes
    training.model.load_state_dict(best.weights)
    report = {key: identity[key] for key in ("method", "seed", "settings", "device", "precision", "threads")}
    report |= {
        "epochs_run": len(training.module.history), "best_epoch": best.epoch + 1, "best_val_loss": best.loss,
        "stage1_sha256": identity["init"], "devices": settings.devices, "compiled": training.stance.mode,
    }  # fmt: skip
    _write(out_dir, training, report, title)
    preview.remove()
    resume.remove()


def _trained_on(training: Training) -> dict[str, list[str]]:
    return {role: training.data.participants(role) for role in ("train", "stop")}


def _write(out_dir: Path, training: Training, report: dict[str, Any], title: str) -> None:
    """Write the weights, the report, the history and the figures."""
    method, seed, settings = report["method"], report["seed"], report["settings"]
    network = training.objective.network(settings["network"])
    report = report | {
        "network": network, "trained_on": _trained_on(training), "objective": training.objective.state(),
        "train_slices": len(training.data.rows("train")), "stop_slices": len(training.data.rows("stop")),
        "versions": {"python": platform.python_version()}
        | {name: version(name) for name in ("normct", "torch", "lightning", "numpy")},
    }  # fmt: skip
    with atomic(out_dir / "model.safetensors") as part:
        save_model(part, training.model, {"method": method, "seed": seed, "network": network})
    write_json(out_dir / "training.json", report)
    history = pd.DataFrame(training.module.history).astype({"epoch": int})
    with atomic(out_dir / "history.csv") as part:
        history.assign(epoch=history["epoch"] + 1).to_csv(part, index=False, float_format="%.8g")
    figures.losses(out_dir / "losses.png", history, title)
    training.data.to(torch.device("cpu"))
    shown = examples(training.model.cpu(), training.objective, training.data, seed)
    figures.reconstructions(out_dir / "reconstructions.png", shown, title)


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    parser = cli.parser(__doc__, "normct.train.fit")
    parser.add_argument("method", choices=list(OBJECTIVES))
    parser.add_argument("seed", type=int)
    parser.add_argument("data_dir", type=Path, help="folder of packed slices")
    parser.add_argument("out_dir", type=Path, help="folder of the results")
    parser.add_argument(
        "--settings", required=True, type=json.loads, help="JSON, see normct.train.setup.Settings"
    )
    parser.add_argument("--init", type=Path, help="stage 1's model.safetensors, for a pretrained method")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads, of all devices together")
    parser.add_argument("--checkpoint-seconds", type=float, default=60.0)
    args = parser.parse_args(argv)
    settings = Settings(**args.settings)
    torch.set_num_threads(max(1, args.threads // settings.devices))
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    fit(
        args.method, args.seed, args.data_dir, args.out_dir, settings,
        init=args.init, checkpoint_seconds=args.checkpoint_seconds,
    )  # fmt: skip


if __name__ == "__main__":
    cli.run(main)
