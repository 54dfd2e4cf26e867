"""Inference of one scan: raw residuals and head probabilities of every method and seed, and trivial measures.

Nothing is weighted or pooled here, so that λ, α or the way of averaging can change without a new inference.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from normct.common.cli import parser, run
from normct.common.errors import NormctError
from normct.common.files import read_json
from normct.common.registry import METHODS
from normct.common.slices import SliceStore, read_slices
from normct.models import ModelFileError, fold_batch_norm, load_model
from normct.pretext.geometry import TRANSFORMS, log_probabilities, transform
from normct.score.files import ATLAS_MAP, FOLD, Raw, write_maps, write_raw
from normct.score.held_out import Fold, Network, refuse_in_sample
from normct.score.kl_gradient import METHODS as KL_GRADIENT_METHODS
from normct.score.kl_gradient import kl_gradient
from normct.score.statistical_atlas import hu_window
from normct.score.trivial import acquisition_distance, atlas_z, slice_measures

log = logging.getLogger(__name__)
BATCH = 64


@torch.inference_mode()
def residuals(module: torch.nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Return x - x̂ of images (B, 1, 128, 128), in batches."""
    return torch.cat([part - module.reconstruct(part) for part in images.split(BATCH)])  # type: ignore[operator]


@torch.inference_mode()
def head_log_p(
    module: torch.nn.Module, images: torch.Tensor, codes: torch.Tensor, max_shift: int
) -> torch.Tensor:
    """Return the log-probability of the true labels of every transform of every image.

    Parameters
    ----------
    module : torch.nn.Module
        A network with a head.
    images : Tensor
        Shape (B, 1, 128, 128).
    codes : Tensor of int64
        Shape (T, 3): rotation, vertical and horizontal label of each transform.
    max_shift : int
        Pixels of a shift, as in training.

    Returns
    -------
    Tensor of float32
        Shape (B, T, 3).
    """
    parts = []
    for batch in images.split(BATCH):
        columns = []
        for code in codes:
            labels = code.expand(len(batch), 3)
            logits = module.head_logits(transform(batch, labels, max_shift))  # type: ignore[operator]
            columns.append(log_probabilities(logits, labels))
        parts.append(torch.stack(columns, dim=1))
    return torch.cat(parts)


@torch.inference_mode()
def network_measures(
    module: torch.nn.Module, images: torch.Tensor, masks: NDArray[np.bool_]
) -> dict[str, NDArray[np.float32]]:
    """Return what a network measures of its own (B,), nothing for most; the last image is the empty slice."""
    if not hasattr(module, "measures"):
        return {}
    brain = torch.zeros(len(images), *images.shape[-2:], dtype=torch.bool, device=images.device)
    brain[:-1] = torch.from_numpy(masks).to(images.device)
    pairs = zip(images.split(BATCH), brain.split(BATCH), strict=True)
    parts = [module.measures(image, mask) for image, mask in pairs]  # type: ignore[operator]
    return {name: torch.cat([part[name] for part in parts]).cpu().numpy() for name in parts[0]}


def score_network(
    module: torch.nn.Module,
    store: SliceStore,
    codes: torch.Tensor | None,
    max_shift: int,
    with_kl_gradient: bool = False,
) -> tuple[dict[str, NDArray], NDArray[np.float16]]:
    """Return one network's raw arrays and its map.

    Parameters
    ----------
    module : torch.nn.Module
        In evaluation mode, on the device that computes.
    store : SliceStore
        A scan that was not set aside.
    codes : Tensor or None
        Transforms of the head, (T, 3); None for a network without one.
    max_shift : int
        Pixels of a shift.
    with_kl_gradient : bool
        Also measure ``kl_gradient``.

    Returns
    -------
    arrays : dict of ndarray
        ``residual_l2`` (155,), ``blank_l2`` (), with a head ``log_p`` (155, T, 3), ``blank_log_p`` (T, 3);
        whatever else the network measures of a slice (155,), such as ``residual_over_variance``.
        Slices without brain are all alike: the response to one empty image stands for each.
    residual_map : ndarray of float16
        Signed residual of the brain pixels, in the order of ``store.mask``.
    """
    filled = np.asarray(store.mask.any(axis=(1, 2)))
    # the last image is the empty slice: one pass answers for scan and blank alike
    images = np.zeros((int(filled.sum()) + 1, 1, *store.image.shape[1:]), np.float32)
    images[:-1, 0] = store.image[filled]
    batch = torch.from_numpy(images).to(next(module.parameters()).device)
    # the layout the networks were trained in; a U-Net takes 0.6 of the time
    module = fold_batch_norm(module).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    residual = residuals(module, batch)
    norms = residual.flatten(1).double().norm(dim=1).float().cpu().numpy()
    l2 = np.full(len(filled), norms[-1], np.float32)
    l2[filled] = norms[:-1]
    arrays: dict[str, NDArray] = {"residual_l2": l2, "blank_l2": norms[-1]}
    if codes is not None:
        logs = head_log_p(module, batch, codes.to(batch.device), max_shift).cpu().numpy()
        log_p = np.broadcast_to(logs[-1], (len(filled), *logs.shape[1:])).copy()
        log_p[filled] = logs[:-1]
        arrays |= {"log_p": log_p, "blank_log_p": logs[-1]}
    measured = network_measures(module, batch, store.mask[filled])
    if with_kl_gradient:
        measured["kl_gradient"] = kl_gradient(module, batch, residual, BATCH).numpy()
    for name, values in measured.items():
        arrays[name] = np.full(len(filled), values[-1], np.float32)
        arrays[name][filled] = values[:-1]
    return arrays, residual[:-1, 0].cpu().numpy()[store.mask[filled]].astype(np.float16)


def infer(
    store: SliceStore,
    *,
    role: str,
    measures: dict[str, Any],
    networks: Iterable[Network],
    atlas: dict[str, NDArray],
    settings: dict[str, Any],
    device: str = "cpu",
    fold: Fold | None = None,
) -> tuple[Raw, dict[str, NDArray[np.float16]]]:
    """Score one scan with every network and every trivial baseline, unweighted.

    Parameters
    ----------
    store : SliceStore
        Slices; those of a scan that was set aside give empty arrays and no maps.
    role : str
        stop, calibrate, test or unlabelled. A training scan is refused, for its residual would be in-sample,
        unless ``fold`` shows that it is not.
    measures : dict
        ``measures`` of ``quality.json``.
    networks : iterable of Network
        Weights are read by ``load_model`` (safetensors only).
    atlas : dict of ndarray
        ``statistical_atlas.npz``.
    settings : dict
        ``transforms`` (dozen, all, identity), ``max_shift``, ``normalisation``, ``window``.
    device : str
        cpu or cuda, where the networks compute.
    fold : Fold, optional
        What a training scan, and no other, is held out of: networks and atlas are that fold's.

    Raises
    ------
    NormctError
        For a training scan that something learnt from, or weights that cannot be read or belong to another method or seed.
    """
    networks = list(networks)
    if role == "train" and fold is None:
        raise NormctError(
            f"{store.participant_id}: a training scan cannot be scored with what it helped to make"
        )
    if role != "train" and fold is not None:
        raise NormctError(
            f"{store.participant_id}: only training scans have a fold, not those of role {role}"
        )
    table = store.table()
    arrays: dict[str, NDArray] = {
        "z": table["z"].to_numpy(np.int16),
        "usable": store.usable,
        "brain_pixels": table["brain_pixels"].to_numpy(np.int32),
        "lesion_pixels": table["lesion_pixels"].to_numpy(np.int32),
    }
    if fold is not None:
        refuse_in_sample(store.participant_id, fold, networks, atlas)
        arrays[FOLD] = np.array(fold.number, np.int16)
    if store.set_aside:
        return Raw(store.participant_id, role, arrays), {}
    z_map = atlas_z(store, atlas)
    window = hu_window(settings["normalisation"], settings["window"])
    for name, values in slice_measures(store, atlas, z_map, window).items():
        arrays[f"trivial/{name}"] = values.astype(np.float32)
    arrays["acquisition"] = np.array(acquisition_distance(measures, atlas), np.float32)
    arrays["transforms"] = TRANSFORMS[settings["transforms"]]().numpy().astype(np.int8)
    maps = {ATLAS_MAP: z_map[store.mask].astype(np.float16)}
    codes = TRANSFORMS[settings["transforms"]]()
    for network in networks:
        module = _load(network).to(device)
        head = codes if METHODS[network.method].head else None
        gradient = network.method in KL_GRADIENT_METHODS
        found, residual_map = score_network(module, store, head, settings["max_shift"], gradient)
        arrays |= {f"{network.method}/{network.seed}/{name}": value for name, value in found.items()}
        maps[f"{network.method}/seed-{network.seed}"] = residual_map
    return Raw(store.participant_id, role, arrays), maps


def choose_device(accelerator: str) -> str:
    """Return cpu or cuda for ``score.accelerator``; raise :class:`NormctError` where cuda is asked for in vain."""
    if accelerator == "cuda" and not torch.cuda.is_available():
        raise NormctError("score.accelerator is cuda, but PyTorch finds no GPU; set it to auto or cpu")
    return "cuda" if accelerator != "cpu" and torch.cuda.is_available() else "cpu"


def _load(network: Network) -> torch.nn.Module:
    try:
        module, metadata = load_model(network.weights)
    except ModelFileError as error:
        raise NormctError(f"weights of {network.method}, seed {network.seed}: {error}") from None
    if (metadata.get("method"), str(metadata.get("seed"))) != (network.method, network.seed):
        found = f"{metadata.get('method')}, seed {metadata.get('seed')}"
        raise NormctError(f"weights of {network.method}, seed {network.seed}: the file holds {found}")
    return module


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    arguments = parser(__doc__, "normct.score.infer")
    arguments.add_argument("slices", type=Path, help="slices.npz")
    arguments.add_argument("quality", type=Path, help="quality.json")
    arguments.add_argument("atlas", type=Path, help="statistical_atlas.npz")
    arguments.add_argument(
        "--network", nargs=3, action="append", default=[], metavar=("METHOD", "SEED", "WEIGHTS")
    )
    arguments.add_argument(
        "--role", required=True, help="stop, calibrate, test, unlabelled; train with --fold"
    )
    arguments.add_argument("--fold", type=int, help="number of the fold whose networks and atlas these are")
    arguments.add_argument("--same-patient", nargs="*", default=[], help="training scans of that patient")
    arguments.add_argument(
        "--training", type=Path, nargs="*", default=[], help="training.json of each network of the fold"
    )
    arguments.add_argument(
        "--settings", type=json.loads, required=True, help="transforms, max_shift, normalisation, window"
    )
    arguments.add_argument("--threads", type=int, default=1)
    arguments.add_argument("--accelerator", choices=["auto", "cpu", "cuda"], default="cpu")
    arguments.add_argument("--raw", type=Path, required=True)
    arguments.add_argument("--maps", type=Path, required=True)
    args = arguments.parse_args(argv)
    torch.set_num_threads(args.threads)
    with np.load(args.atlas, allow_pickle=False) as content:
        atlas = {name: content[name] for name in content.files}
    networks = [Network(method, seed, Path(weights)) for method, seed, weights in args.network]
    store = read_slices(args.slices)
    measures = read_json(args.quality)["measures"]
    raw, maps = infer(
        store, role=args.role, measures=measures, networks=networks, atlas=atlas, settings=args.settings,
        device=choose_device(args.accelerator),
        fold=None if args.fold is None else Fold(args.fold, args.same_patient, args.training),
    )  # fmt: skip
    write_raw(args.raw, raw)
    write_maps(args.maps, maps)
    log.info(
        "%s: %d usable slices, %d networks", store.participant_id, int(store.usable.sum()), len(networks)
    )


if __name__ == "__main__":
    run(main)
