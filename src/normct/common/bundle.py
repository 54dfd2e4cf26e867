"""The model bundle: everything inference needs, frozen, in one folder that can be copied to another machine.

``bundle.json`` names every file with its size and SHA-256, and carries the configuration of the models.
A bundle holds numbers and text only (safetensors, npz without objects, NIfTI, JSON, Markdown): nothing in it
can run.
"""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from pathlib import Path, PurePosixPath
from typing import Any

from normct.common.bundle_format import (
    FORMAT,
    MANIFEST,
    MEAN_BRAIN,
    REQUIRED,
    SCHEMA,
    SECTIONS,
    SUFFIXES,
    BundleError,
    BundlePaths,
)
from normct.common.config import flatten
from normct.common.errors import ConfigError
from normct.common.files import atomic, read_json, sha256, write_json

__all__ = [
    "SECTIONS", "BundleError", "BundlePaths", "bundle_checksum", "bundle_paths",
    "read_bundle_config", "read_manifest", "verify_bundle", "write_bundle",
]  # fmt: skip
FROZEN = ("preprocess", "score")
# the bundle's own atlas and calibration are always used, and a name changes no score
NOT_COMPARED = ("preprocess.register.atlas", "score.bundle_name", "score.accelerator", "score.cross_fit")


def bundle_paths(folder: str | Path) -> BundlePaths:
    """Return the paths of a bundle's parts; nothing is read."""
    return BundlePaths(Path(folder))


def read_manifest(folder: str | Path) -> dict[str, Any]:
    """Read and check ``bundle.json``, and that each file it names is there with its size; opens nothing else.

    Raises
    ------
    BundleError
        With every fault found.
    """
    from jsonschema import Draft202012Validator

    folder = Path(folder)
    path = folder / MANIFEST
    if not path.is_file() or path.is_symlink():
        raise BundleError([f"{MANIFEST}: not found; is `bundle` the folder that `make bundle` printed?"])
    try:
        manifest = read_json(path)
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise BundleError([f"{MANIFEST}: not JSON"]) from None
    if isinstance(manifest, dict) and manifest.get("format") != FORMAT:
        version = manifest.get("created_by", "an unknown version")
        raise BundleError(
            [f"format {manifest.get('format')}: made by {version}; this version reads {FORMAT}"]
        )
    faults = [
        f"{MANIFEST}: {'.'.join(map(str, e.absolute_path)) or 'content'}: {e.message}"
        for e in Draft202012Validator(SCHEMA).iter_errors(manifest)
    ]
    if faults:
        raise BundleError(faults)
    second_pass = manifest["config"]["preprocess"].get("register", {}).get("second_pass", False)
    needed = {
        *REQUIRED,
        *(MEAN_BRAIN if second_pass else ()),
        *(f"weights/{m}__seed-{s}.safetensors" for m in manifest["methods"] for s in manifest["seeds"]),
    }
    faults += [f"{name}: not named in {MANIFEST}" for name in sorted(needed - set(manifest["files"]))]
    for name, entry in sorted(manifest["files"].items()):
        file, pure = folder / name, PurePosixPath(name)
        if pure.is_absolute() or ".." in pure.parts or "\\" in name or not name.endswith(SUFFIXES):
            faults.append(f"{name}: not a name a bundle may hold")
        elif file.is_symlink() or not file.is_file():
            faults.append(f"{name}: missing")
        elif file.stat().st_size != entry["size"]:
            faults.append(f"{name}: {file.stat().st_size} bytes, {entry['size']} expected")
    if faults:
        raise BundleError(faults)
    return manifest


def read_bundle_config(folder: str | Path, config: dict[str, Any]) -> dict[str, Any]:
    """Return the configuration a bundle was made with, after checking that ``config`` agrees with it.

    Called while the Snakefile is parsed, so it reads ``bundle.json`` and calls ``stat``; checksums are a
    job of their own (:func:`verify_bundle`). Preprocessing and scoring must be those of the models
    and thresholds; the training section may say anything, for nothing is trained.

    Parameters
    ----------
    folder : str or Path
        The bundle.
    config : dict
        The merged configuration of this run.

    Returns
    -------
    dict
        The sections ``preprocess``, ``score`` and ``train`` of the bundle.

    Raises
    ------
    BundleError
        When the bundle is not whole.
    ConfigError
        When a value of ``preprocess`` or ``score`` differs, naming each key with both values.
    """
    frozen = read_manifest(folder)["config"]
    ours = flatten({section: config.get(section) or {} for section in FROZEN})
    theirs = flatten({section: frozen[section] for section in FROZEN})

    def exempt(key: str) -> bool:
        return any(key == name or key.startswith(f"{name}.") for name in NOT_COMPARED)

    def say(values: dict[str, Any], key: str) -> str:
        return json.dumps(values[key]) if key in values else "not set"

    faults = [
        f"{key}: {say(ours, key)} in the configuration, {say(theirs, key)} in the bundle"
        for key in sorted({*ours, *theirs})
        if not exempt(key) and (key not in ours or key not in theirs or ours[key] != theirs[key])
    ]
    if faults:
        title = (
            "The configuration differs from the bundle's: scans and models would not match. Set its values:"
        )
        raise ConfigError(title, faults)
    return frozen


def _executable(path: Path) -> str | None:
    """Return why a file might hold code (a pickle) instead of numbers, or None."""
    import numpy as np

    if path.suffix == ".npz":
        try:
            with np.load(path, allow_pickle=False) as content:
                for name in content.files:
                    content[name]
        except (ValueError, OSError, EOFError, zipfile.BadZipFile):
            return "not a plain npz file (objects and pickles are refused)"
    elif path.suffix == ".safetensors":
        with path.open("rb") as handle:
            length = int.from_bytes(handle.read(8), "little")
            if not 0 < length <= path.stat().st_size - 8 or handle.read(1) != b"{":
                return "not a safetensors file (pickles are refused)"
    elif path.name.endswith(".nii.gz"):
        with path.open("rb") as handle:
            if handle.read(2) != b"\x1f\x8b":
                return "not a gzipped NIfTI file"
    return None


def verify_bundle(folder: str | Path) -> dict[str, Any]:
    """Check a bundle fully and return its manifest.

    Refused are a missing, extra or changed file, a link of any kind, and a file that could carry code.

    Raises
    ------
    BundleError
        With every fault found.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    faults = []
    for parent, folders, files in os.walk(folder):
        for name in sorted([*folders, *files]):
            path = Path(parent) / name
            relative = path.relative_to(folder).as_posix()
            if path.is_symlink():
                faults.append(f"{relative}: a link; a bundle holds files of its own only")
            elif path.is_file() and relative != MANIFEST and relative not in manifest["files"]:
                faults.append(f"{relative}: not part of the bundle")
    for name, entry in sorted(manifest["files"].items()):
        path = folder / name
        if path.is_symlink():
            continue
        if sha256(path) != entry["sha256"]:
            faults.append(f"{name}: changed since the bundle was made (checksum differs)")
        elif (why := _executable(path)) is not None:
            faults.append(f"{name}: {why}")
    if faults:
        raise BundleError(faults)
    return manifest


def bundle_checksum(folder: str | Path) -> str:
    """Return the first 8 digits of the SHA-256 of ``bundle.json``, and so of everything it names."""
    return sha256(Path(folder) / MANIFEST)[:8]


def write_bundle(
    folder: str | Path, fields: dict[str, Any], files: dict[str, Path], texts: dict[str, str]
) -> None:
    """Write a bundle whole or not at all, and verify it.

    Parameters
    ----------
    folder : str or Path
        Its folder; replaced whole.
    fields : dict
        ``name, created_by, config, methods, seeds, versions, commit, training`` of ``bundle.json``, and
        ``parent`` of a recalibrated one.
    files : dict of str to Path
        Name inside the bundle to the file to copy.
    texts : dict of str to str
        Name inside the bundle to generated text.
    """
    with atomic(folder) as part:
        for name, source in files.items():
            (part / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, part / name)
        for name, text in texts.items():
            (part / name).parent.mkdir(parents=True, exist_ok=True)
            (part / name).write_text(text, "utf-8")
        entries = {
            name: {"size": (part / name).stat().st_size, "sha256": sha256(part / name)}
            for name in sorted({*files, *texts})
        }
        write_json(part / MANIFEST, {"format": FORMAT, **fields, "files": entries})
        verify_bundle(part)
