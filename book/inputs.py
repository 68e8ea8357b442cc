"""What the execution of a chapter rests on, as hashes: equal hashes, nothing to execute.

Caches that only look at a notebook's own text go stale when the library changes. Here a chapter
rests on its text, its parameters, exactly those modules of the project that its cells import (and
what those import), the data files of the packages that these modules name, the data manifests, the
reference runs if it reads them, the lock, and the executed chapters it needs.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from nbformat import NotebookNode

from book.pages import Book, Page, code_cells
from medlib.files import sha256_of
from medlib.keys import PACKAGES, digest, file_of, imported_by, imports_in

OURS = ("medlib", "book", "studies", "tools")
REFERENCE, DEFINES_IT = "REFERENCE_RUNS", "medlib.paths"  # who uses it reads reference runs
EVIDENCE = (".json", ".csv", ".md", ".txt")


def inputs_of(page: Page, book: Book, parameters: Mapping[str, Any]) -> dict[str, str]:
    """Return a hash for each thing the chapter's execution rests on.

    The key is its name as people know it: ``"medlib.risk.voxel"``, ``"requirements.lock"``. The
    chapters that `page` needs have to be executed already.
    """
    inputs = {
        "the chapter": digest(page.text),
        "parameters": digest(repr(sorted(parameters.items()))),
        "Python": f"{sys.version_info.major}.{sys.version_info.minor}",
    }
    for name, value in parameters.items():
        inputs |= {f"{name}/{file.name}": sha256_of(file) for file in _tables(Path(str(value)))}
    sources = {name: file_of(name) for name in sorted(library_modules(page.notebook()))}
    inputs |= {name: sha256_of(source) for name, source in sources.items()}
    texts = {name: source.read_text("utf-8") for name, source in sources.items()}
    named = [file for file in data_files() if any(file.name in text for text in texts.values())]
    inputs |= _hashes(PACKAGES, named)
    manifests = sorted((book.root / "data_manifests").glob("*"))
    inputs |= _hashes(book.root, [book.root / "requirements.lock", *manifests])
    if any(REFERENCE in text for name, text in texts.items() if name != DEFINES_IT):
        runs = sorted((book.root / "reference_runs").rglob("*.*"))
        # The weights are named in the card by their checksum.
        inputs |= _hashes(book.root, [file for file in runs if file.suffix in EVIDENCE])
    for need in sorted(book.needs_of(page.name)):
        inputs[f"chapter {need}"] = sha256_of(book.executed / f"{need}.ipynb")
    return inputs


def library_modules(notebook: NotebookNode) -> set[str]:
    """Return the modules of the project that the cells import, and all that those import.

    Imports inside functions count; imports for type checkers alone do not.
    """
    from IPython.core.inputtransformer2 import TransformerManager

    named = {
        module
        for cell in code_cells(notebook)
        for module in imports_in(ast.parse(TransformerManager().transform_cell(cell.source)))
    }
    return set(imported_by(*named))


@cache
def data_files() -> list[Path]:
    """Return the tables, schemas and templates among the modules; who reads one names it."""
    files = [file for package in OURS for file in (PACKAGES / package).rglob("*.*")]
    return sorted(file for file in files if file.suffix not in (".py", ".pyi", ".pyc"))


def changed(old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    """Return the names of the inputs that differ, in the order people would ask for them."""
    names = [*new, *(name for name in old if name not in new)]
    return [name for name in names if old.get(name) != new.get(name)]


def _tables(folder: Path) -> list[Path]:
    """Return the small files at the top of a cohort or run folder: they say what it holds."""
    return sorted([*folder.glob("*.json"), *folder.glob("*.csv")])


def _hashes(root: Path, files: Iterable[Path]) -> dict[str, str]:
    return {f.relative_to(root).as_posix(): sha256_of(f) for f in files if f.is_file()}
