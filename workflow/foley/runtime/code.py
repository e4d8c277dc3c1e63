"""What code a script reaches, so that a rule reruns when that code changes and only then.

Snakemake tracks a script but not what the script imports. Foley follows the imports (also those inside
functions) through the library and hashes the files, so that editing one generator invalidates that
generator's rows and a changed mtime invalidates nothing.
"""

from __future__ import annotations

import ast
import hashlib
import os
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

LIBRARY = Path(__file__).resolve().parents[1]
PACKAGE = LIBRARY.name


def module_file(module: str) -> Path | None:
    """The library file of a dotted module name, or None when it is not one of ours."""
    parts = module.split(".")
    if parts[0] != PACKAGE:
        return None
    base = LIBRARY.joinpath(*parts[1:])
    for candidate in (base / "__init__.py", base.with_suffix(".py")):
        if candidate.is_file():
            return candidate
    return None


def _import_statements(tree: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
    """All imports below a node. Expressions hold none, and are most of a tree."""
    todo = [tree]
    while todo:
        node = todo.pop()
        for field in ("body", "orelse", "finalbody", "handlers", "cases"):
            inner = getattr(node, field, None)
            for child in inner if isinstance(inner, list) else ():
                if isinstance(child, ast.Import | ast.ImportFrom):
                    yield child
                else:
                    todo.append(child)


@cache
def _imports(path: Path, _stamp: tuple[int, int]) -> tuple[Path, ...]:
    found: list[Path] = []
    for node in _import_statements(ast.parse(path.read_bytes(), filename=str(path))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            if node.level:  # the house uses absolute imports only; a relative one would escape the hash
                raise ValueError(
                    f"{path}:{node.lineno}: use an absolute import, relative ones are not tracked"
                )
            names = [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
        for name in names:
            # Importing a.b.c also runs a/__init__ and a/b/__init__.
            parts = name.split(".")
            for end in range(1, len(parts) + 1):
                file = module_file(".".join(parts[:end]))
                if file is not None:
                    found.append(file)
    return tuple(found)


def reachable(roots: Iterable[Path]) -> list[Path]:
    """All library files that the given files import, directly or not, themselves included, sorted."""
    todo, seen = [Path(root).resolve() for root in roots], set()
    while todo:
        path = todo.pop()
        if path in seen:
            continue
        seen.add(path)
        stat = path.stat()
        todo.extend(_imports(path, (stat.st_mtime_ns, stat.st_size)))
    return sorted(seen)


@cache
def _digest(path: Path, _stamp: tuple[int, int]) -> str:
    return hashlib.sha256(path.read_bytes().replace(b"\r\n", b"\n")).hexdigest()


def code_hash(script: Path, *targets: str) -> str:
    """A hash over a script, what it imports, and the modules of ``targets`` (``package.module:Name``).

    ``targets`` are what a script loads by name (see :func:`load`), which no import statement shows.
    """
    roots = [script]
    for target in targets:
        file = module_file(target.partition(":")[0])
        if file is None:
            raise ValueError(f"{target} names no module of {PACKAGE}")
        roots.append(file)
    whole = hashlib.sha256()
    for path in reachable(roots):
        stat = path.stat()
        name = path.relative_to(LIBRARY).as_posix() if path.is_relative_to(LIBRARY) else path.name
        whole.update(f"{name}:{_digest(path, (stat.st_mtime_ns, stat.st_size))}\n".encode())
    return whole.hexdigest()[:16]


def use_library_in_jobs() -> None:
    """Let processes started from here import this copy of the library before any that is installed."""
    others = [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    ours = str(LIBRARY.parent)
    os.environ["PYTHONPATH"] = os.pathsep.join([ours, *(entry for entry in others if entry != ours)])


def load(target: str) -> type:
    """The class that ``package.module:Name`` names."""
    from importlib import import_module

    module, _, name = target.partition(":")
    if not module.startswith(f"{PACKAGE}."):
        raise ValueError(f"{target} is not a part of {PACKAGE}")
    return getattr(import_module(module), name)
