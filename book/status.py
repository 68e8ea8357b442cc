"""The status page: what was executed when, on what, and every figure the book quotes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd

from book.evidence import notebook_records
from book.pages import Book, Page


def chapter_table(book: Book | None = None) -> pd.DataFrame:
    """Return a row for each executed chapter."""
    return pd.DataFrame(
        {
            "chapter": page.name,
            "run time (s)": made["seconds"],
            "code cells": made["cells"],
            "parameters": ", ".join(
                f"{name} = {value}" for name, value in made["parameters"].items()
            )
            or "as in the text",
            "executed on": made["date"],
        }
        for page, made in _executed(book or Book())
    )


def machine_table(book: Book | None = None) -> pd.DataFrame:
    """Return the devices and versions, each with the chapters that were executed with it."""
    executed = list(_executed(book or Book()))
    table = pd.DataFrame(
        [
            (what, which, page.name)
            for page, made in executed
            for what, which in {"device": made["device"], **made["versions"]}.items()
        ],
        columns=["what", "which", "chapters"],
    )
    together = table.groupby(["what", "which"], sort=False)["chapters"].agg(list).reset_index()
    together["chapters"] = [
        "all" if len(names) == len(executed) else ", ".join(names) for names in together["chapters"]
    ]
    return together


def evidence_tables(book: Book | None = None) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield each chapter's name and the table of its evidence, in the order of the book."""
    book = book or Book()
    for page, _ in _executed(book):
        rows = [
            {
                "name": record.name,
                "value and interval": record.texts()[f"{record.name}.full"],
                "n": record.n,
                "method": record.method,
            }
            for record in notebook_records(book.executed_path(page))
        ]
        if rows:
            yield page.name, pd.DataFrame(rows).astype({"n": "Int64"})


def _executed(book: Book) -> Iterator[tuple[Page, dict[str, Any]]]:
    """Yield executed chapters in the order of the book; this page itself is still running."""
    for page in book.pages:
        if page.is_chapter and page.needs != "all" and (made := book.execution_of(page)):
            yield page, made
