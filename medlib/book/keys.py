"""What the execution of a chapter rests on, as hashes: equal hashes, nothing to execute.

Caches that only look at a notebook's own text go stale when the library changes. Here a chapter
rests on its text, its parameters, exactly those modules of medlib that its cells import (and what
those import), the data manifests, the reference runs if it reads them, the lock, and the executed
chapters it needs.
"""

from __future__ import annotations

import ast
import hashlib
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import grimp
from nbformat import NotebookNode

import medlib
from medlib.book.pages import Book, Page

PACKAGE = Path(medlib.__file__).parent
REFERENCE, DEFINES_IT = "REFERENCE_RUNS", "medlib.paths"  # who uses it reads reference runs
EVIDENCE = (".json", ".csv", ".md", ".txt")


def inputs_of(page: Page, book: Book, parameters: Mapping[str, Any]) -> dict[str, str]:
    """Return a hash for each thing the chapter's execution rests on.

    Parameters
    ----------
    page : Page
        The chapter.
    book : Book
        The book it stands in; the chapters it needs are executed already.
    parameters : mapping
        What is injected.

    Returns
    -------
    dict
        Name, as people know it (``"medlib.risk.voxel"``, ``"requirements.lock"``) -> hash.
    """
    inputs = {
        "the chapter": _hash(page.text.encode()),
        "parameters": _hash(repr(sorted(parameters.items())).encode()),
        "Python": f"{sys.version_info.major}.{sys.version_info.minor}",
    }
    for name, value in parameters.items():
        for file in _tables(Path(str(value))):
            inputs[f"{name}/{file.name}"] = _hash(file.read_bytes())
    modules = library_modules(page.notebook())
    for module in sorted(modules):
        inputs[module] = _hash(_module_file(module).read_bytes())
        for file in _package_data(_module_file(module).parent):
            inputs[file.relative_to(PACKAGE.parent).as_posix()] = _hash(file.read_bytes())
    for file in [
        book.root / "requirements.lock",
        *sorted((book.root / "data_manifests").glob("*")),
    ]:
        if file.is_file():
            inputs[file.relative_to(book.root).as_posix()] = _hash(file.read_bytes())
    if any(REFERENCE in _module_file(name).read_text() for name in modules - {DEFINES_IT}):
        for file in sorted((book.root / "reference_runs").rglob("*.*")):
            if file.suffix in EVIDENCE:  # the weights are named in the card by their checksum
                inputs[file.relative_to(book.root).as_posix()] = _hash(file.read_bytes())
    for need in sorted(book.needs_of(page.name)):
        inputs[f"chapter {need}"] = _hash((book.executed / f"{need}.ipynb").read_bytes())
    return inputs


def library_modules(notebook: NotebookNode) -> set[str]:
    """Return the modules of medlib that the cells import, and all that those import.

    Imports inside functions count; imports for type checkers alone do not.
    """
    graph = _graph()
    modules: set[str] = set()
    for imported in _imports(notebook):
        modules |= {imported, *graph.find_upstream_modules(imported)}
    for module in list(modules):  # importing a.b.c runs a and a.b first
        parents = module.split(".")[:-1]
        for depth in range(2, len(parents) + 1):
            parent = ".".join(parents[:depth])
            modules |= {parent, *graph.find_upstream_modules(parent)}
    return {*modules, "medlib"} if modules else set()


def _imports(notebook: NotebookNode) -> Iterator[str]:
    """Yield the modules of medlib that cells name, wherever in the cell they do."""
    from IPython.core.inputtransformer2 import TransformerManager

    known = _graph().modules
    for cell in notebook.cells:
        if cell.cell_type != "code":
            continue
        code = TransformerManager().transform_cell(cell.source)
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names if alias.name in known)
            elif isinstance(node, ast.ImportFrom) and node.module in known:
                for alias in node.names:
                    submodule = f"{node.module}.{alias.name}"
                    if submodule in known:
                        yield submodule
                    else:
                        yield _home(alias.name) if node.module == "medlib" else node.module


@cache
def _graph() -> grimp.ImportGraph:
    return grimp.build_graph("medlib", exclude_type_checking_imports=True, cache_dir=None)


def _home(name: str) -> str:
    """Return the module behind a name that stands at medlib's own door."""
    return str(medlib._HOMES.get(name, "medlib"))


def _module_file(module: str) -> Path:
    path = PACKAGE.parent.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def _tables(folder: Path) -> list[Path]:
    """Return the small files at the top of a cohort or run folder: they say what it holds."""
    return sorted([*folder.glob("*.json"), *folder.glob("*.csv")]) if folder.is_dir() else []


def _package_data(folder: Path) -> list[Path]:
    """Return files beside a module that code may read: tables, schemas, templates."""
    return sorted(path for path in folder.glob("*.*") if path.suffix not in (".py", ".pyc"))


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def key_of(inputs: Mapping[str, str]) -> str:
    """Return one hash for all inputs."""
    return _hash(repr(sorted(inputs.items())).encode())


def changed(old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    """Return the names of the inputs that differ, in the order people would ask for them."""
    names = [*new, *(name for name in old if name not in new)]
    return [name for name in names if old.get(name) != new.get(name)]
