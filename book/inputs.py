"""What the execution of a chapter rests on, as hashes: equal hashes, nothing to execute.

Caches that only look at a notebook's own text go stale when the library changes. Here a chapter
rests on its text, its parameters, exactly those modules of the project that its cells import (and
what those import), the data manifests, the reference runs if it reads them, the lock, and the
executed chapters it needs.
"""

from __future__ import annotations

import ast
import hashlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nbformat import NotebookNode

from book.pages import Book, Page
from medlib.keys import PACKAGES, file_of, imported_by, imports_in

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
        inputs[module] = _hash(file_of(module).read_bytes())
        for file in _package_data(file_of(module).parent):
            inputs[file.relative_to(PACKAGES).as_posix()] = _hash(file.read_bytes())
    for file in [
        book.root / "requirements.lock",
        *sorted((book.root / "data_manifests").glob("*")),
    ]:
        if file.is_file():
            inputs[file.relative_to(book.root).as_posix()] = _hash(file.read_bytes())
    if any(REFERENCE in file_of(name).read_text() for name in modules - {DEFINES_IT}):
        for file in sorted((book.root / "reference_runs").rglob("*.*")):
            if file.suffix in EVIDENCE:  # the weights are named in the card by their checksum
                inputs[file.relative_to(book.root).as_posix()] = _hash(file.read_bytes())
    for need in sorted(book.needs_of(page.name)):
        inputs[f"chapter {need}"] = _hash((book.executed / f"{need}.ipynb").read_bytes())
    return inputs


def library_modules(notebook: NotebookNode) -> set[str]:
    """Return the modules of the project that the cells import, and all that those import.

    Imports inside functions count; imports for type checkers alone do not.
    """
    from IPython.core.inputtransformer2 import TransformerManager

    named = {
        module
        for cell in notebook.cells
        if cell.cell_type == "code"
        for module in imports_in(ast.parse(TransformerManager().transform_cell(cell.source)))
    }
    return set(imported_by(*named))


def _tables(folder: Path) -> list[Path]:
    """Return the small files at the top of a cohort or run folder: they say what it holds."""
    return sorted([*folder.glob("*.json"), *folder.glob("*.csv")]) if folder.is_dir() else []


def _package_data(folder: Path) -> list[Path]:
    """Return files beside a module that code may read: tables, schemas, templates."""
    return sorted(path for path in folder.glob("*.*") if path.suffix not in (".py", ".pyi", ".pyc"))


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def key_of(inputs: Mapping[str, str]) -> str:
    """Return one hash for all inputs."""
    return _hash(repr(sorted(inputs.items())).encode())


def changed(old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    """Return the names of the inputs that differ, in the order people would ask for them."""
    names = [*new, *(name for name in old if name not in new)]
    return [name for name in names if old.get(name) != new.get(name)]
