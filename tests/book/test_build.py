"""A small book, from text to html."""

from __future__ import annotations

import json
import shutil

import pytest
import yaml
from bs4 import BeautifulSoup

from book.build import book_records, build_book, check_book
from book.pages import Book
from book.stage import stage
from medlib import paths
from medlib.errors import BookError

HEADER = "---\nkernelspec: {display_name: Python 3, language: python, name: python3}\n---\n"
FIRST = (
    HEADER
    + """# First

```{code-cell} ipython3
:tags: [parameters, hide-cell]
seed = 0
```

```{code-cell} ipython3
from book.evidence import record
record("risk", 0.25 + seed, 0.1, 0.4, n=8, method="counted")
```

The risk is {glue:text}`risk.full`. See [the text](words.md) {cite}`armato2011`.

```{mermaid}
:alt: From image to model.
flowchart LR
  A[image] --> B[model]
```
"""
)


@pytest.fixture
def book(tmp_path):
    (tmp_path / "_toc.yml").write_text(
        "format: jb-book\nroot: index\nchapters:\n"
        "  - file: chapters/first\n  - file: chapters/words\n  - file: chapters/references\n"
    )
    shutil.copyfile(paths.ROOT / "_config.yml", tmp_path / "_config.yml")
    shutil.copytree(
        paths.ROOT / "assets", tmp_path / "assets", ignore=shutil.ignore_patterns("mathjax")
    )
    chapters = tmp_path / "chapters"
    chapters.mkdir()
    shutil.copyfile(paths.ROOT / "chapters/references.bib", chapters / "references.bib")
    (chapters / "references.md").write_text("# References\n\n```{bibliography}\n```\n")
    (chapters / "words.md").write_text("# Words\n\n[Back](first.md#first)\n")
    (chapters / "first.md").write_text(FIRST)
    (tmp_path / "index.md").write_text("# Index\n\n[First](chapters/first.md)\n")
    return Book(tmp_path)


def test_from_text_to_html_once(book, capsys):
    landing_page = build_book(book)
    page = BeautifulSoup((book.html / "chapters/first.html").read_text(), "html.parser")
    assert [span.text for span in page.select(".pasted-text")] == ["0.25 (0.10 to 0.40)"]
    assert page.find("a", href="words.html")
    [diagram] = page.select(".mermaid-diagram[role=img]")
    assert diagram["aria-label"] == "From image to model."
    assert [s for s in page.find_all("script", src=True) if "mermaid" in s["src"]]
    assert "mermaid" not in landing_page.read_text()
    assert (book.html / "404.html").exists()
    [record] = json.loads((book.html / "evidence.json").read_text())
    assert record == {
        "name": "risk",
        "value": 0.25,
        "low": 0.1,
        "high": 0.4,
        "n": 8,
        "unit": "",
        "method": "counted",
        "chapter": "first",
    }

    # nothing touched: nothing built
    before = landing_page.stat().st_mtime_ns
    capsys.readouterr()
    build_book(Book(book.root))
    assert capsys.readouterr().out.splitlines()[-1].startswith("book unchanged")
    assert landing_page.stat().st_mtime_ns == before

    # a warning is an error, and the former book stays
    words = book.root / "chapters" / "words.md"
    words.write_text("# Words\n\n[Back](gone.md)\n")
    with pytest.raises(BookError, match="a warning is an error"):
        build_book(Book(book.root))
    check_book(Book(book.root))

    # a broken rule is an error, too
    words.write_text("# Words\n\n<img src='https://example.org/a.png' alt='from elsewhere'>\n")
    with pytest.raises(BookError, match=r"words.html: <img> fetches https://example.org"):
        build_book(Book(book.root))
    check_book(Book(book.root))


def test_injected_parameters_replace_those_of_the_text(book):
    from book.execute import execute_chapters

    execute_chapters(book, {"seed": 2})
    staged = stage(book)
    notebook = json.loads((staged / "chapters" / "first.ipynb").read_text())
    tags = [cell["metadata"].get("tags", []) for cell in notebook["cells"]]
    assert not [names for names in tags if "parameters" in names]
    [injected] = [names for names in tags if "injected-parameters" in names]
    assert "hide-cell" in injected
    assert "medlib" not in notebook["metadata"]
    assert [found.value for found in book_records(book)] == [2.25]

    # a page that leaves the book leaves the stage
    toc = yaml.safe_load((book.root / "_toc.yml").read_text())
    toc["chapters"] = [c for c in toc["chapters"] if c["file"] != "chapters/words"]
    (book.root / "_toc.yml").write_text(yaml.safe_dump(toc))
    stage(Book(book.root))
    assert not (staged / "chapters" / "words.md").exists()


def test_a_name_recorded_twice_is_refused(book):
    from book.execute import execute_chapters

    first = book.root / "chapters" / "first.md"
    cell = '\n```{code-cell} ipython3\nrecord("risk", 1.0)\n```\n'
    first.write_text(first.read_text() + cell)
    execute_chapters(book)
    with pytest.raises(BookError, match="'risk' is recorded twice, by first and first"):
        book_records(book)
