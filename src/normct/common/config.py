"""Validation of the configuration, before the first job, every fault in one list."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

from normct.common.errors import ConfigError

# the C parser where PyYAML was built with it: the schemas are read anew by every cluster job
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def _faults(error: ValidationError) -> Iterable[str]:
    where = ".".join(str(part) for part in error.absolute_path)
    prefix = f"{where}." if where else ""
    if error.validator == "additionalProperties" and isinstance(error.instance, dict):
        known = list(error.schema.get("properties", {}))
        for name in sorted(set(error.instance) - set(known), key=str):
            close = difflib.get_close_matches(str(name), known, n=1)
            hint = f"did you mean '{close[0]}'?" if close else f"known: {', '.join(known)}"
            yield f"{prefix}{name}: unknown key; {hint}"
    elif error.context:  # anyOf, oneOf: what the closest branch said
        best = min(error.context, key=lambda e: (e.validator == "type", -len(e.absolute_path)))
        yield from _faults(best)
    else:
        yield f"{where or 'config'}: {error.message}"


def load_schema(folder: Path) -> dict[str, Any]:
    """Assemble the config schema: ``config.schema.yaml`` plus one ``<stage>.schema.yaml`` a stage."""
    schema = yaml.load((folder / "config.schema.yaml").read_text("utf-8"), _LOADER)  # noqa: S506
    for path in sorted(folder.glob("*.schema.yaml")):
        stage = path.name.removesuffix(".schema.yaml")
        if stage not in {"config", "participants"}:
            schema["properties"][stage] = yaml.load(path.read_text("utf-8"), _LOADER)  # noqa: S506
    return schema


def validate_config(config: dict[str, Any], folder: str | Path) -> None:
    """Raise :class:`ConfigError` with every fault of ``config``.

    Parameters
    ----------
    config : dict
        The merged configuration.
    folder : str or Path
        ``workflow/schemas``.
    """
    validator = Draft202012Validator(load_schema(Path(folder)))
    faults = [fault for error in validator.iter_errors(config) for fault in _faults(error)]
    if faults:
        raise ConfigError("The configuration has faults; nothing was run:", sorted(set(faults)))


def flatten(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return ``{"train.vae.epochs": 100, ...}``, one entry a leaf."""
    leaves: dict[str, Any] = {}
    for key, value in config.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict) and value:
            leaves |= flatten(value, f"{name}.")
        else:
            leaves[name] = value
    return leaves
