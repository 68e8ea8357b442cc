"""The status page: what was executed when, on what, and every figure the book quotes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pandas as pd

from book.evidence import notebook_records
from book.pages import Book, Page


def chapter_table(book: Book | None = None) -> pd.DataFrame:
    """Return a row for each executed chapter.

    Returns
    -------
    DataFrame
        ``chapter``, ``run time (s)``, ``code cells``, ``parameters``, ``executed on``.
    """
    return pd.DataFrame(
        {
            "chapter": page.name,
            "run time (s)": metadata["seconds"],
            "code cells": metadata["cells"],
            "parameters": _listed(metadata["parameters"]) or "as in the text",
            "executed on": metadata["date"],
        }
        for page, metadata in _executed(book or Book())
    )


def machine_table(book: Book | None = None) -> pd.DataFrame:
    """Return the devices and versions, and which chapters were executed with them.

    Returns
    -------
    DataFrame
        ``what``, ``which``, ``chapters``: one row where all chapters agree, more where they do not.
    """
    found: dict[tuple[str, str], list[str]] = {}
    executed = list(_executed(book or Book()))
    for page, metadata in executed:
        for what, which in {"device": metadata["device"], **metadata["versions"]}.items():
            found.setdefault((what, which), []).append(page.name)
    return pd.DataFrame(
        {
            "what": what,
            "which": which,
            "chapters": "all" if len(names) == len(executed) else ", ".join(names),
        }
        for (what, which), names in found.items()
    )


def evidence_tables(book: Book | None = None) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield each chapter's name and its evidence records, in the order of the book.

    Yields
    ------
    str
        Chapter.
    DataFrame
        ``name``, ``value and interval``, ``n``, ``method``.
    """
    book = book or Book()
    for page, _ in _executed(book):
        records = list(notebook_records(book.executed_path(page)))
        if records:
            yield (
                page.name,
                pd.DataFrame(
                    {
                        "name": record.name,
                        "value and interval": record.texts()[f"{record.name}.full"],
                        "n": record.n,
                        "method": record.method,
                    }
                    for record in records
                ).astype({"n": "Int64"}),
            )


def _executed(book: Book) -> Iterator[tuple[Page, dict[str, Any]]]:
    """Yield executed chapters in the order of the book; this page itself is still running."""
    for page in book.pages:
        path = book.executed_path(page)
        if page.is_chapter and page.needs != "all" and path.exists():
            yield page, json.loads(path.read_text(encoding="utf-8"))["metadata"]["medlib"]


def _listed(parameters: dict[str, Any]) -> str:
    return ", ".join(f"{name} = {value}" for name, value in parameters.items())
