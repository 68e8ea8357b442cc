"""The chapters of this book, as texts."""

from __future__ import annotations

import jupytext
import pytest

from book.pages import Book, parameters_of

BOOK = Book()
CHAPTERS = [pytest.param(page, id=page.name) for page in BOOK.chapters]


def parameter_cells(notebook):
    return [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]


@pytest.mark.parametrize("page", CHAPTERS)
def test_the_parameters_tag_survives_a_round_trip(page):
    """Jupytext has dropped it before, and papermill then injects at the top without a word."""
    notebook = page.notebook()
    again = jupytext.reads(jupytext.writes(notebook, fmt="md:myst"), fmt="md:myst")
    assert len(parameter_cells(notebook)) <= 1
    assert [c.source for c in parameter_cells(again)] == [
        c.source for c in parameter_cells(notebook)
    ]
    assert [c.metadata.get("tags", []) for c in again.cells if c.cell_type == "code"] == [
        c.metadata.get("tags", []) for c in notebook.cells if c.cell_type == "code"
    ]


@pytest.mark.parametrize("page", CHAPTERS)
def test_the_text_is_the_source(page):
    assert page.front_matter["jupytext"]["text_representation"]["format_name"] == "myst"
    assert "+++" not in page.text.splitlines(), "a line +++ splits a cell"
    defined = [line for line in page.text.splitlines() if line.startswith("class ")]
    assert not defined, "a chapter calls the library and shows"


def test_chapters_that_train_take_a_seed_and_a_profile():
    takes = {page.name: parameters_of(page.notebook()) for page in BOOK.chapters}
    for name in ("04-baseline", "05-risk", "06-successes", "07-failures"):
        assert {"profile", "dataset", "seed", "run_dir"} <= set(takes[name])
