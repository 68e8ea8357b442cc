from __future__ import annotations

import json
import subprocess
import sys

import nbformat
import pytest

from book.nbval import nbval_notebook, write_expected, write_notebooks
from book.pages import Book
from medlib.errors import BookError

CHAPTER = """---
kernelspec: {display_name: Python 3, language: python, name: python3}
---
# A chapter

```{code-cell} ipython3
from book.evidence import record
import random
print(random.random())
```

```{code-cell} ipython3
:tags: [nbval-check-output]
record("agreement", 0.768)
print("pairwise Dice", 0.768)
```
"""


@pytest.fixture
def book(tmp_path):
    (tmp_path / "_toc.yml").write_text("root: index\n")
    (tmp_path / "index.md").write_text(CHAPTER)
    return Book(tmp_path)


def run_nbval(book):
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--nbval"]
    command += ["-p", "book.nbval_plugin", str(book.build / "nbval")]
    return subprocess.run(command, cwd=book.root, capture_output=True, text=True, check=False)


def test_it_bites_when_a_number_changes(book):
    [path] = write_expected(book)
    assert json.loads(path.read_text()) == [
        {
            "cell": 'record("agreement", 0.768)',
            "shows": [["stdout", ["pairwise Dice 0.768\n"]]],
        }
    ]
    write_notebooks(book)
    same = run_nbval(book)
    assert same.returncode == 0, same.stdout
    assert "3 passed" in same.stdout

    path.write_text(path.read_text().replace("Dice 0.768", "Dice 0.769"))
    write_notebooks(book)
    differs = run_nbval(book)
    assert differs.returncode == 1
    assert "1 failed, 2 passed" in differs.stdout
    assert "mismatch 'stdout'" in differs.stdout


def test_every_cell_counts_as_run_and_only_tagged_ones_are_compared(book):
    (book.root / "tests" / "expected").mkdir(parents=True)
    (book.root / "tests" / "expected" / "index.json").write_text(
        '[{"cell": "record(\\"agreement\\", 0.768)", "shows": [["text", ["a\\n", "b"]]]}]'
    )
    notebook = nbval_notebook(book, book.pages[0])
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    nbformat.validate(notebook)
    assert [cell.execution_count for cell in code] == [1, 2, 3]
    assert [cell.metadata.tags[-1] for cell in code] == [
        "nbval-ignore-output",
        "nbval-ignore-output",
        "nbval-check-output",
    ]
    assert code[2].outputs[0].data == {"text/plain": "a\nb"}


def test_a_check_cell_without_a_stored_output_is_refused(book):
    with pytest.raises(BookError, match="1 cells to check and 0 stored outputs"):
        nbval_notebook(book, book.pages[0])


def test_a_check_cell_that_prints_nothing_is_refused(book):
    source = book.root / "index.md"
    source.write_text(source.read_text().replace('print("pairwise Dice", 0.768)', "x = 1"))
    with pytest.raises(BookError, match="shows no text"):
        write_expected(Book(book.root))
