"""Notebooks for nbval, made from the chapters' texts and their stored outputs.

A chapter's text holds no outputs. Those of cells tagged ``nbval-check-output`` (figures computed
from fixed data) stand in ``tests/expected/<chapter>.json``, line by line, so that a change shows in
a diff. All other cells are executed and not compared: training logs, times and pictures flicker.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode

from book.execute import execute_chapters
from book.kernel import kernel_environment
from book.pages import Book, Page, first_line
from medlib.errors import BookError

CHECK, IGNORE = "nbval-check-output", "nbval-ignore-output"
STDOUT, TEXT = "stdout", "text"


def write_expected(book: Book | None = None) -> list[Path]:
    """Store what the check cells of the executed chapters show.

    The chapters are executed first where something has changed.

    Returns
    -------
    list of Path
        The files written.

    Raises
    ------
    BookError
        If a check cell shows no text, so that nothing could be compared.
    """
    book = book or Book()
    execute_chapters(book)
    folder = _expected_folder(book)
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for page in book.chapters:
        executed = nbformat.read(book.executed_path(page), as_version=4)
        path = folder / f"{page.name}.json"
        stored = [_stored(page, cell) for cell in check_cells(executed)]
        if not stored:
            path.unlink(missing_ok=True)
            continue
        text = json.dumps(stored, indent=1, ensure_ascii=False)
        path.write_text(text + "\n", encoding="utf-8")
        written.append(path)
    return written


def write_notebooks(book: Book | None = None) -> list[Path]:
    """Write a notebook for nbval for each chapter into ``_build/nbval``.

    Returns
    -------
    list of Path
        The notebooks.

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
    written = []
    for page in book.chapters:
        path = folder / f"{page.name}.ipynb"
        nbformat.write(nbval_notebook(book, page), path)
        written.append(path)
    return written


def nbval_notebook(book: Book, page: Page) -> NotebookNode:
    """Return a chapter as nbval takes it: run cells, with outputs to compare where there are any.

    nbval compares nothing in a cell that has no execution count, so every cell gets one.
    """
    notebook = page.notebook()
    _fill_in(book, page, check_cells(notebook))
    setup = nbformat.v4.new_code_cell(_setup(book, page))
    notebook.cells.insert(0, setup)
    code_cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for number, cell in enumerate(code_cells, start=1):
        cell.execution_count = number
        tags = cell.metadata.setdefault("tags", [])
        if CHECK not in tags:
            tags.append(IGNORE)
    return notebook


def check_cells(notebook: NotebookNode) -> list[NotebookNode]:
    """Return the cells whose outputs are compared."""
    return [
        cell
        for cell in notebook.cells
        if cell.cell_type == "code" and CHECK in cell.metadata.get("tags", [])
    ]


def _fill_in(book: Book, page: Page, cells: list[NotebookNode]) -> None:
    path = _expected_folder(book) / f"{page.name}.json"
    stored = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    here = [first_line(cell.source) for cell in cells]
    there = [item["cell"] for item in stored]
    if here != there:
        raise BookError(
            f"chapter {page.name} has {len(here)} cells to check and {len(there)} stored outputs, "
            "or they begin differently; look at the change, then: python -m book expected"
        )
    for cell, item in zip(cells, stored, strict=True):
        cell.outputs = [_output(kind, lines) for kind, lines in item["shows"]]


def _setup(book: Book, page: Page) -> str:
    """Return the first cell: the surroundings that papermill's kernels have too."""
    return (
        "import os\n"
        f"os.chdir({str(book.root)!r})\n"
        f"os.environ.update({kernel_environment(book, page)!r})"
    )


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


def _shown_texts(outputs: Iterable[NotebookNode]) -> list[tuple[str, str]]:
    """Return what nbval compares: standard output as one text, and the text of each display."""
    printed, displayed = "", []
    for output in outputs:
        if output.output_type == "stream":
            printed += output.text if output.name == "stdout" else ""
        elif "text/plain" in output.get("data", {}):
            displayed.append((TEXT, str(output.data["text/plain"])))
    return [(STDOUT, printed), *displayed]


def _output(kind: str, lines: list[str]) -> NotebookNode:
    text = "".join(lines)
    output: NotebookNode
    if kind == STDOUT:
        output = nbformat.v4.new_output("stream", name="stdout", text=text)
    else:
        output = nbformat.v4.new_output("display_data", {"text/plain": text})
    return output


def _expected_folder(book: Book) -> Path:
    return book.root / "tests" / "expected"
