"""Functions that a configuration points at, found without importing them: their code, and what stands in it."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path


def code_of(where: str) -> Path | None:
    """The file of Python that `where` names: a path that ends in .py, or an installed module; None without one."""
    if where.endswith(".py"):
        path = Path(where)
        return path if path.is_file() else None
    whole = counted(where)
    if whole is None or whole.is_file():
        return whole if "." not in where else None
    inside = whole.joinpath(*where.split(".")[1:])
    return next((path for path in (inside.with_suffix(".py"), inside / "__init__.py") if path.is_file()), None)


def counted(where: str) -> Path | None:
    """What counts by its content for a function of `where`: the file, or the whole package that a module is in."""
    if where.endswith(".py"):
        return Path(where)
    try:
        spec = find_spec(where.partition(".")[0])  # of the outermost alone: to find the others would import it
    except ValueError:
        return None
    if spec is None:
        return None
    if spec.submodule_search_locations:
        return Path(next(iter(spec.submodule_search_locations)))
    return Path(spec.origin) if spec.has_location and spec.origin else None


def names_of(code: Path) -> dict[str, ast.AST]:
    """What a file of Python binds at its top, by name: functions, classes, imports, values. Raises SyntaxError."""
    found: dict[str, ast.AST] = {}
    for node in _at_top(ast.parse(code.read_bytes(), code.name).body):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                found[node.name] = node
            case ast.Import() | ast.ImportFrom():
                found.update((alias.asname or alias.name.partition(".")[0], node) for alias in node.names)
            case ast.Assign() | ast.AnnAssign():
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                found.update((target.id, node) for target in targets if isinstance(target, ast.Name))
    return found


def _at_top(body: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    """Statements that are carried out on import: those under `if`, `try` and `with`, too."""
    for node in body:
        yield node
        if isinstance(node, (ast.If, ast.Try, ast.With)):
            for name in ("body", "orelse", "finalbody"):
                yield from _at_top(getattr(node, name, ()))
            for handler in getattr(node, "handlers", ()):
                yield from _at_top(handler.body)
