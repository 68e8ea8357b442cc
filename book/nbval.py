"""Notebooks for nbval, made from the chapters' texts and their stored outputs.

A chapter's text holds no outputs. Those of cells tagged ``nbval-check-output`` (figures computed
from fixed data) stand in ``tests/expected/<chapter>.json``, line by line, so that a change shows in
a diff. All other cells are executed and not compared: training logs, times and pictures flicker.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode

from book.execute import execute_chapters
from book.kernel import kernel_environment
from book.pages import Book, Page, code_cells, first_line
from medlib.errors import BookError
from medlib.files import write_file

CHECK, IGNORE = "nbval-check-output", "nbval-ignore-output"


def write_expected(book: Book | None = None) -> list[Path]:
    """Store what the check cells of the chapters show, executed first where something has changed.

    Returns the files written.

    Raises
    ------
    BookError
        If a check cell shows no text, so that nothing could be compared.
    """
    book = book or Book()
    execute_chapters(book)
    written = []
    for page in book.chapters:
        executed = nbformat.read(book.executed_path(page), as_version=4)
        stored = [_stored(page, cell) for cell in code_cells(executed, CHECK)]
        if stored:
            text = json.dumps(stored, indent=1, ensure_ascii=False)
            write_file(_expected(book, page), text + "\n")
            written.append(_expected(book, page))
        else:
            _expected(book, page).unlink(missing_ok=True)
    return written


def write_notebooks(book: Book | None = None) -> list[Path]:
    """Write a notebook for nbval for each chapter into ``_build/nbval``.

    Raises
    ------
    BookError
        If stored outputs are missing or belong to other cells.
    """
    book = book or Book()
    folder = book.build / "nbval"
    folder.mkdir(parents=True, exist_ok=True)
    for former in folder.glob("*.ipynb"):
        former.unlink()
    written = [folder / f"{page.name}.ipynb" for page in book.chapters]
    for page, path in zip(book.chapters, written, strict=True):
        nbformat.write(nbval_notebook(book, page), path)
    return written


def nbval_notebook(book: Book, page: Page) -> NotebookNode:
    """Return a chapter as nbval takes it: run cells, with outputs to compare where there are any.

    nbval compares nothing in a cell that has no execution count, so every cell gets one.
    """
    notebook = page.notebook()
    _fill_in(book, page, code_cells(notebook, CHECK))
    # The surroundings that papermill's kernels have too.
    setup = (
        f"import os\nos.chdir({str(book.root)!r})\n"
        f"os.environ.update({kernel_environment(book, page)!r})"
    )
    notebook.cells.insert(0, nbformat.v4.new_code_cell(setup))
    for number, cell in enumerate(code_cells(notebook), start=1):
        cell.execution_count = number
        tags = cell.metadata.setdefault("tags", [])
        if CHECK not in tags:
            tags.append(IGNORE)
    return notebook


def _fill_in(book: Book, page: Page, cells: list[NotebookNode]) -> None:
    path = _expected(book, page)
    stored = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    if [first_line(cell.source) for cell in cells] != [item["cell"] for item in stored]:
        raise BookError(
            f"chapter {page.name} has {len(cells)} cells to check and {len(stored)} stored "
            "outputs, or they begin differently; look at the change, then: python -m book expected"
        )
    for cell, item in zip(cells, stored, strict=True):
        cell.outputs = [_output(kind, "".join(lines)) for kind, lines in item["shows"]]


def _stored(page: Page, cell: NotebookNode) -> dict[str, Any]:
    shows = [
        [kind, text.splitlines(keepends=True)] for kind, text in _shown_texts(cell.outputs) if text
    ]
    if not shows:
        raise BookError(
            f"chapter {page.name}: cell {first_line(cell.source)!r} is tagged {CHECK} and shows no "
            "text; print a rounded table, or drop the tag"
        )
    return {"cell": first_line(cell.source), "shows": shows}


def _shown_texts(outputs: Sequence[NotebookNode]) -> list[tuple[str, str]]:
    """Return what nbval compares: standard output as one text, and the text of each display."""
    printed = "".join(output.text for output in outputs if output.get("name") == "stdout")
    displayed = (output.get("data", {}).get("text/plain", "") for output in outputs)
    return [("stdout", printed), *(("text", text) for text in displayed)]


def _output(kind: str, text: str) -> Any:
    if kind == "stdout":
        return nbformat.v4.new_output("stream", name="stdout", text=text)
    return nbformat.v4.new_output("display_data", {"text/plain": text})


def _expected(book: Book, page: Page) -> Path:
    return book.root / "tests" / "expected" / f"{page.name}.json"
