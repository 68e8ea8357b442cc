"""What a result rests on, as a digest, so that a stale one is never taken for a fresh one.

Code counts as all that a module imports, found in the sources themselves: a list kept by hand
would miss the next module. Comments and docstrings do not count.
"""

from __future__ import annotations

import ast
import hashlib
import io
import tokenize
from collections.abc import Iterator
from functools import cache
from pathlib import Path

PACKAGES = Path(__file__).resolve().parents[1]
_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def digest(*parts: str | bytes) -> str:
    """Return a SHA-256 of the parts, which cannot run into one another."""
    total = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        total.update(len(data).to_bytes(8, "little"))
        total.update(data)
    return total.hexdigest()


def code_key(*modules: str) -> str:
    """Return the digest of the code of these modules and of all that they import of ours."""
    return digest(*(bare_code(file_of(name).read_text("utf-8")) for name in imported_by(*modules)))


def imported_by(*modules: str) -> list[str]:
    """Name these modules and all of the project's that they import, directly or not; sorted.

    Imports inside functions count; those for type checkers alone do not.
    """
    found: set[str] = set()
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += _imports_of(name)
    return sorted(found)


def file_of(module: str) -> Path:
    """Return the source of a module of ours."""
    path = PACKAGES.joinpath(*module.split("."))
    for source in (path.with_suffix(".py"), path / "__init__.py"):
        if source.is_file():
            return source
    raise ModuleNotFoundError(module)


def names_at_door(package: str) -> dict[str, str]:
    """Return the names that a room's ``__init__.pyi`` hands on, each with its module."""
    door = PACKAGES.joinpath(*package.split("."), "__init__.pyi")
    if not door.is_file():
        return {}
    return {
        alias.asname or alias.name: f"{package}.{node.module or alias.name}"
        for node in ast.parse(door.read_text("utf-8")).body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


def imports_in(tree: ast.AST, package: str = "") -> Iterator[str]:
    """Yield the modules of ours that a syntax tree imports.

    A name at a door leads to its home; a room imported as a whole, to all that stands at its door.
    """
    for node in _walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _whole(alias.name)
        elif isinstance(node, ast.ImportFrom):
            source = ".".join(filter(None, (package if node.level else "", node.module)))
            if _is_ours(source):
                yield source
                for alias in node.names:
                    yield from _home(source, alias.name)


def _home(source: str, name: str) -> Iterator[str]:
    door = names_at_door(source)
    if name == "*":
        yield from door.values()
    elif _is_ours(inner := f"{source}.{name}"):
        yield from _whole(inner)
    elif name in door:
        yield door[name]
        yield from _home(door[name], name)


def _whole(module: str) -> Iterator[str]:
    if _is_ours(module):
        yield module
        yield from names_at_door(module).values()


@cache
def _imports_of(module: str) -> tuple[str, ...]:
    source = file_of(module)
    package = module if source.name == "__init__.py" else module.rpartition(".")[0]
    return tuple(imports_in(ast.parse(source.read_text("utf-8")), package))


def _walk(tree: ast.AST) -> Iterator[ast.AST]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        yield node
        yield from _walk(node)


@cache
def _is_ours(module: str) -> bool:
    if module.split(".")[0] not in ("medlib", "book", "studies", "tools"):
        return False
    try:
        return bool(file_of(module))
    except ModuleNotFoundError:
        return False


def bare_code(text: str) -> str:
    """Return Python source without comments, docstrings and empty lines.

    The text itself, not its syntax tree, which differs between Python versions.
    """
    lines = text.splitlines()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            row, column = token.start
            lines[row - 1] = lines[row - 1][:column]
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, _DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
            first, last = node.body[0].lineno, node.body[0].end_lineno or 0
            lines[first - 1 : last] = [""] * (last - first + 1)
    return "\n".join(line.rstrip() for line in lines if line.strip())
