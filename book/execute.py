"""Execute the chapters with papermill, and only those whose inputs have changed."""

from __future__ import annotations

import os
import re
import tempfile
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest.mock import patch

import nbformat
from nbformat import NotebookNode

from book.display import Display
from book.inputs import changed, inputs_of
from book.kernel import kernel_environment
from book.machine import device_name, versions
from book.pages import Book, Page, code_cells, first_line, parameters_of
from medlib.errors import BookError
from medlib.files import put_in_place
from medlib.progress import PROGRESS_FILE

ANSI = re.compile(r"\x1b\[[0-9;]*m")


def execute_chapters(
    book: Book,
    parameters: Mapping[str, Any] | None = None,
    *,
    only: str | None = None,
    force: bool = False,
) -> list[Page]:
    """Bring the executed chapters up to date; return those that had to be executed.

    Each gets those `parameters` (``profile``, ``dataset``, ``seed``, ``run_dir``) that its
    parameters cell has. `only` is the name or number of one chapter, executed with those it needs,
    and with `force` even if nothing has changed.

    Raises
    ------
    BookError
        If a cell fails; names the chapter, the cell and the error. The earlier result stays.
    """
    chapters = book.chapters
    if only:
        wanted = book.chapter(only)
        names = book.all_needs_of(wanted.name) | {wanted.name}
        chapters = [page for page in chapters if page.name in names]
    else:
        for former in {*book.executed.glob("*.ipynb")} - {*map(book.executed_path, chapters)}:
            former.unlink()
    book.build.mkdir(parents=True, exist_ok=True)
    display = Display(len(chapters), book.build / "progress.txt")
    executed = []
    for page in chapters:
        has = parameters_of(page.notebook())
        applying = {name: value for name, value in (parameters or {}).items() if name in has}
        inputs = inputs_of(page, book, applying)
        before = book.execution_of(page).get("inputs")
        if before == inputs and not (force and page is chapters[-1]):
            display.done(page.name, "unchanged")
            continue
        started = time.monotonic()
        execute_chapter(book, page, applying, inputs, display)
        seconds = time.monotonic() - started
        display.done(page.name, f"executed in {seconds:.0f} s{_reason(before, inputs)}")
        executed.append(page)
    return executed


def execute_chapter(
    book: Book,
    page: Page,
    parameters: Mapping[str, Any],
    inputs: Mapping[str, str],
    display: Display,
) -> None:
    """Execute one chapter and store it in the folder of executed chapters.

    Raises
    ------
    BookError
        If a cell fails, or papermill returns cells that it never executed.
    """
    notebook = page.notebook()
    n_cells = len(code_cells(notebook))
    started = time.monotonic()
    variables = {**kernel_environment(book, page), PROGRESS_FILE: str(display.state_file)}
    # A kernel inherits the environment of the process that starts it.
    with display.chapter(page.name, n_cells), patch.dict(os.environ, variables):
        notebook = _papermill(book, page, notebook, parameters, display)
    _check_executed(page, notebook)
    _check_citations(book, page, notebook)
    for metadata in [notebook.metadata, *(cell.metadata for cell in notebook.cells)]:
        for notes in ("papermill", "execution"):  # times and paths of the machine
            metadata.pop(notes, None)
    notebook.metadata["medlib"] = {
        "chapter": page.name,
        "inputs": dict(inputs),
        "parameters": dict(parameters),
        "cells": n_cells,
        "seconds": round(time.monotonic() - started, 1),
        "date": datetime.now(UTC).date().isoformat(),
        "device": device_name(),
        "versions": versions(),
    }
    with put_in_place(book.executed_path(page)) as beside:
        nbformat.write(notebook, beside)


def _papermill(
    book: Book,
    page: Page,
    notebook: NotebookNode,
    parameters: Mapping[str, Any],
    display: Display,
) -> NotebookNode:
    """Run papermill on a notebook; papermill takes seconds to import, so it is not at the top."""
    from nbclient.exceptions import CellControlSignal
    from papermill import PapermillExecutionError, execute_notebook

    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "chapter.ipynb", Path(folder) / "executed.ipynb"
        nbformat.write(notebook, source)
        try:
            executed: NotebookNode = execute_notebook(
                source,
                target,
                parameters=dict(parameters),
                kernel_name="python3",
                progress_bar=False,
                request_save_on_cell_execute=False,
                cwd=book.root,
                on_cell_execute=display.next_cell,
                # It warns of local TCP at each start and calls its own end an error.
                extra_arguments=["--log-level=CRITICAL"],
            )
            return executed
        except PapermillExecutionError as error:
            raise BookError(_explain(book, page, error)) from None
        except (CellControlSignal, RuntimeError) as error:
            reason = ANSI.sub("", str(error)).strip().splitlines()[-1]
            raise BookError(
                f"chapter {page.name}: its kernel was lost ({reason}); is there enough memory?"
            ) from None


def _explain(book: Book, page: Page, error: Any) -> str:
    """Return one line on a failed cell, and keep the traceback in a file."""
    file = book.build / "failed" / f"{page.name}.txt"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(ANSI.sub("", "\n".join(error.traceback)), encoding="utf-8")
    message = " ".join(ANSI.sub("", str(error.evalue)).split())
    return (
        f"chapter {page.name}, cell {error.exec_count} ({first_line(error.source)!r}) failed: "
        f"{error.ename}: {message}; traceback in {file.relative_to(book.root)}"
    )


def _check_executed(page: Page, notebook: NotebookNode) -> None:
    """Papermill has returned notebooks with lost outputs and no error; do not believe it."""
    for cell in code_cells(notebook):
        where = f"chapter {page.name}: cell {first_line(cell.source)!r}"
        if cell.execution_count is None and cell.source.strip():
            raise BookError(
                f"{where} was never executed, though papermill reports success; execute the "
                "chapter again"
            )
        for output in cell.outputs:
            if output.output_type == "error":
                raise BookError(f"{where} ended in {output.ename}: {output.evalue}")


def _check_citations(book: Book, page: Page, notebook: NotebookNode) -> None:
    """Refuse figures of a chapter that is not needed: they could be stale."""
    cited = {
        output.metadata["medlib"]["cites"]
        for cell in code_cells(notebook)
        for output in cell.outputs
        if "medlib" in output.get("metadata", {})
    }
    if undeclared := ", ".join(sorted(cited - book.all_needs_of(page.name))):
        raise BookError(
            f"chapter {page.name} cites figures of {undeclared}; say so in its front "
            f"matter: medlib: {{needs: [{undeclared}]}}"
        )


def _reason(before: Mapping[str, str] | None, inputs: Mapping[str, str]) -> str:
    if before is None:
        return ""
    names = changed(before, inputs)
    shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    return f" ({shown} changed)" if names else " (asked for)"
