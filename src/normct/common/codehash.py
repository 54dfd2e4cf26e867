"""A hash of the code a rule runs, so that changed code reruns the stage and a changed comment does not.

Snakemake sees a changed ``shell:`` text but not a changed imported module; every rule carries this as a param.
Every Snakemake, a cluster job's own too, asks for all of them, so what a text hashes to is kept beside its records.
"""

from __future__ import annotations

import ast
import atexit
import contextlib
import hashlib
import json
import sys
from functools import cache
from pathlib import Path

from normct.common.files import write_json

ROOT = Path(__file__).parents[1]
_OWN = hashlib.sha256(Path(__file__).read_bytes() + sys.version.encode()).hexdigest()[:12]
KEPT = Path(".snakemake", "normct", f"code-{_OWN}.json")
"""By the text's hash: hash of the bare syntax tree, and names imported. Only where Snakemake keeps records."""


class _Bare(ast.NodeTransformer):
    """Drops docstrings."""

    def _strip(self, node: ast.AST) -> ast.AST:
        self.generic_visit(node)
        body = getattr(node, "body", [])
        if body and isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
            node.body = body[1:] or [ast.Pass()]  # type: ignore[attr-defined]
        return node

    visit_Module = visit_FunctionDef = visit_AsyncFunctionDef = visit_ClassDef = _strip  # noqa: N815


def _file(module: str) -> Path | None:
    path = ROOT.joinpath(*module.split(".")[1:])
    for candidate in (path.with_suffix(".py"), path / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None


@cache
def _kept() -> dict[str, list]:
    """Return what earlier runs found; what this one adds is written at its end."""
    try:
        known = json.loads(KEPT.read_text("utf-8"))
    except (OSError, ValueError):
        known = {}
    number = len(known)

    def keep() -> None:
        if len(known) > number and KEPT.parent.parent.is_dir():
            # a folder that cannot be written to, a full disk: nothing is lost but a second
            with contextlib.suppress(OSError):
                write_json(KEPT, known)

    atexit.register(keep)
    return known


def _bare(text: str) -> list:
    """Return the hash of a text's syntax tree without docstrings, and the names of ours that it imports."""
    tree = ast.parse(text)
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    ours = sorted(name for name in found if name.startswith("normct."))
    return [hashlib.sha256(ast.dump(_Bare().visit(tree)).encode()).hexdigest(), ours]


@cache
def _read(module: str) -> tuple[str, tuple[str, ...]]:
    """Return the hash of a module's bare syntax tree and the modules of ours that it imports."""
    path = _file(module)
    if path is None:
        return "", ()
    text = path.read_text("utf-8")
    key = hashlib.sha256(text.encode()).hexdigest()
    known = _kept()
    if key not in known:
        known[key] = _bare(text)
    found, names = known[key]
    return found, tuple(name for name in names if _file(name))


def closure(module: str) -> list[tuple[str, Path]]:
    """Return a module and all modules of ours that it imports, by name, with their files."""
    todo, seen = [module], set()
    while todo:
        name = todo.pop()
        if name not in seen:
            seen.add(name)
            todo += _read(name)[1]
    return [(name, path) for name in sorted(seen) if (path := _file(name))]


@cache
def code_hash(module: str) -> str:
    """Return 12 hex digits over a module, all modules of ours it imports, and its package's templates.

    Parameters
    ----------
    module : str
        Dotted name, such as ``normct.preprocess.register``.
    """
    total = hashlib.sha256()
    for name, _ in closure(module):
        total.update(f"{name}={_read(name)[0]};".encode())
    package = (_file(module) or ROOT).parent
    for folder in ("templates", "static"):
        for path in sorted(p for p in (package / folder).rglob("*") if p.is_file()):
            total.update(path.name.encode() + hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()[:12]
