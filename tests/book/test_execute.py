from __future__ import annotations

import json
import os

import pytest

from book.execute import execute_chapters
from book.pages import Book
from medlib.errors import BookError

HEADER = """---
jupytext:
  text_representation: {{extension: .md, format_name: myst, format_version: 0.13}}
kernelspec: {{display_name: Python 3, language: python, name: python3}}
{extra}---

# {title}

"""
PARAMETERS = """```{code-cell} ipython3
:tags: [parameters, hide-cell]
seed = 0
```
"""


def cell(source, tags=""):
    return f"```{{code-cell}} ipython3\n{f':tags: [{tags}]' if tags else ''}\n{source}\n```\n\n"


def chapter(title, *cells, extra=""):
    return HEADER.format(title=title, extra=extra) + "\n\n".join(cells)


@pytest.fixture
def book(tmp_path):
    (tmp_path / "_toc.yml").write_text(
        "format: jb-book\nroot: index\nparts:\n  - caption: The loop\n    chapters:\n"
        "      - file: chapters/01-first\n      - file: chapters/02-second\n"
    )
    (tmp_path / "requirements.lock").write_text("numpy==2.0.0\n")
    (tmp_path / "chapters").mkdir()
    (tmp_path / "index.md").write_text(
        chapter(
            "Index",
            cell("from book.evidence import cite\ncite('twice')"),
            "{glue:text}`twice`",
            extra="medlib: {needs: [01-first]}\n",
        )
    )
    (tmp_path / "chapters" / "01-first.md").write_text(
        chapter(
            "First",
            PARAMETERS,
            cell("from book.evidence import record\nrecord('twice', 2.0 * seed, method='m')"),
        )
    )
    (tmp_path / "chapters" / "02-second.md").write_text(
        chapter("Second", cell("import os\nprint(os.environ['MEDLIB_CHAPTER'], os.getcwd())"))
    )
    return Book(tmp_path)


def executed_names(book, **options):
    return [page.name for page in execute_chapters(Book(book.root), **options)]


def test_what_has_not_changed_is_not_executed(book, capsys):
    assert executed_names(book) == ["01-first", "index", "02-second"]
    assert executed_names(book) == []
    assert "index: unchanged" in capsys.readouterr().out

    second = book.root / "chapters" / "02-second.md"
    second.write_text(second.read_text() + "\nmore\n")
    assert executed_names(book) == ["02-second"]
    assert "02-second: executed in" in (out := capsys.readouterr().out)
    assert "(the chapter changed)" in out

    # a parameter reaches the chapters that have it, and those that rest on them
    assert executed_names(book, parameters={"seed": 3, "profile": "quick"}) == ["01-first", "index"]
    first = json.loads((book.executed / "01-first.ipynb").read_text())
    assert first["metadata"]["medlib"]["parameters"] == {"seed": 3}
    assert '"value": 6.0' in json.dumps(first)
    assert str(book.root) not in json.dumps(first)

    (book.root / "requirements.lock").write_text("numpy==2.0.1\n")
    assert executed_names(book, only="2") == ["02-second"]
    assert "MEDLIB_CHAPTER" not in os.environ


def test_a_failure_names_chapter_cell_and_error_and_keeps_what_stood(book):
    execute_chapters(Book(book.root), only="02")
    before = (book.executed / "02-second.ipynb").read_bytes()
    (book.root / "chapters" / "02-second.md").write_text(
        chapter("Second", cell("fine = 1"), cell("\n# why\nraise ValueError('no\\nlungs')"))
    )
    with pytest.raises(
        BookError,
        match=r"chapter 02-second, cell 2 \('# why'\) failed: ValueError: no lungs; traceback in",
    ):
        execute_chapters(Book(book.root), only="02")
    assert (book.executed / "02-second.ipynb").read_bytes() == before
    assert "raise ValueError" in (book.build / "failed" / "02-second.txt").read_text()


def test_a_figure_is_cited_only_from_a_needed_chapter(book):
    execute_chapters(Book(book.root), only="01")
    index = book.root / "index.md"
    index.write_text(index.read_text().replace("medlib: {needs: [01-first]}\n", ""))
    with pytest.raises(BookError, match=r"cites figures of 01-first; say so in its front matter"):
        execute_chapters(Book(book.root), only="index")
