"""Weights on disk: safetensors with the network's description in the metadata, never a pickle."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import nn

from normct.models.adversarial import AdversarialAutoencoder
from normct.models.autoencoder import Autoencoder
from normct.models.dropout import DropoutAutoencoder
from normct.models.flow import FlowAutoencoder
from normct.models.unet import UNet
from normct.models.variance import VarianceAutoencoder

ARCHITECTURES: dict[str, type[nn.Module]] = {
    "autoencoder": Autoencoder,
    "unet": UNet,
    "variance_autoencoder": VarianceAutoencoder,
    "dropout_autoencoder": DropoutAutoencoder,
    "adversarial_autoencoder": AdversarialAutoencoder,
    "flow_autoencoder": FlowAutoencoder,
}
KEY = "normct"


class ModelFileError(ValueError):
    """A file of weights that is damaged, foreign, or does not fit the network it names."""


def _arguments(architecture: type[nn.Module]) -> set[str]:
    """Return the names of a network's arguments, and of the network's that it hands the rest to."""
    names: set[str] = set()
    for cls in architecture.__mro__:
        parameters = inspect.signature(cls).parameters.values()
        names |= {p.name for p in parameters if p.kind is not p.VAR_KEYWORD}
        if all(p.kind is not p.VAR_KEYWORD for p in parameters):
            break
    return names


def build_model(network: dict[str, Any]) -> nn.Module:
    """Build a network with fresh weights.

    Parameters
    ----------
    network : dict
        Arguments of the network's constructor, and optionally ``architecture`` (default ``autoencoder``).

    Raises
    ------
    ModelFileError
        For an architecture or an argument that is not known.
    """
    arguments = dict(network)
    name = arguments.pop("architecture", "autoencoder")
    if name not in ARCHITECTURES:
        raise ModelFileError(f"unknown network '{name}'; known: {', '.join(ARCHITECTURES)}")
    known = _arguments(ARCHITECTURES[name])
    if unknown := sorted(set(arguments) - known):
        raise ModelFileError(f"unknown settings of network '{name}': {', '.join(unknown)}")
    return ARCHITECTURES[name](**arguments)


def save_model(path: str | Path, module: nn.Module, metadata: dict[str, Any]) -> None:
    """Write weights and metadata.

    Parameters
    ----------
    path : str or Path
        The file; written in place, so hand over a temporary name.
    module : nn.Module
        The network.
    metadata : dict
        ``{method, seed, network {...}}``; ``network`` must rebuild the module with :func:`build_model`.
    """
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in module.state_dict().items()}
    # bytes of our own writing: save_file makes files that only their owner can read
    Path(path).write_bytes(save(weights, metadata={KEY: json.dumps(metadata, sort_keys=True)}))


def load_model(path: str | Path) -> tuple[nn.Module, dict[str, Any]]:
    """Rebuild a network from its file, in evaluation mode, on the CPU.

    Returns
    -------
    module : nn.Module
    metadata : dict
        ``{method, seed, network {...}}``.

    Raises
    ------
    ModelFileError
        For a file that cannot be read, was not written by :func:`save_model`, or does not fit its network.
    """
    name = Path(path).name
    try:
        with safe_open(str(path), "pt") as handle:
            raw = (handle.metadata() or {}).get(KEY)
        weights = load_file(str(path))
    except (SafetensorError, OSError) as error:
        raise ModelFileError(f"{name}: not a readable safetensors file ({type(error).__name__})") from error
    if raw is None:
        raise ModelFileError(f"{name}: no '{KEY}' metadata; these weights were not written by NormCT")
    try:
        metadata = json.loads(raw)
        network = dict(metadata["network"])
    except (ValueError, KeyError, TypeError) as error:
        raise ModelFileError(f"{name}: the '{KEY}' metadata does not describe a network") from error
    module = build_model(network)
    expected = module.state_dict()
    if set(expected) != set(weights):
        missing, foreign = sorted(set(expected) - set(weights)), sorted(set(weights) - set(expected))
        raise ModelFileError(
            f"{name}: weights do not fit the network (missing {missing[:3]}, foreign {foreign[:3]})"
        )
    for key, tensor in expected.items():
        if tensor.shape != weights[key].shape:
            shapes = f"{tuple(weights[key].shape)} instead of {tuple(tensor.shape)}"
            raise ModelFileError(f"{name}: weights of {key} have shape {shapes}")
    module.load_state_dict(weights)
    return module.eval(), metadata
