"""A hash of the code a rule runs, so that changed code reruns the stage and a changed comment does not.

Snakemake sees a changed ``shell:`` text but not a changed imported module; every rule carries this as a param.
"""

from __future__ import annotations

import ast
import hashlib
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]


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
def _read(module: str) -> tuple[str, tuple[str, ...]]:
    """Return the hash of a module's bare syntax tree and the modules of ours that it imports."""
    path = _file(module)
    if path is None:
        return "", ()
    tree = ast.parse(path.read_text("utf-8"))
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    ours = tuple(sorted(name for name in found if name.startswith("normct.") and _file(name)))
    return hashlib.sha256(ast.dump(_Bare().visit(tree)).encode()).hexdigest(), ours


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
