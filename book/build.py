"""From chapters to ``_build/html``: execute, stage, sphinx, evidence, checks, only then swap."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from book.check import check_html
from book.evidence import FIELDS, Record, notebook_records
from book.execute import execute_chapters
from book.pages import Book
from book.stage import stage
from medlib.errors import BookError

BOOK_ROOM = Path(__file__).parent


def build_book(book: Book | None = None, parameters: Mapping[str, Any] | None = None) -> Path:
    """Execute what has changed and build the book.

    Parameters
    ----------
    book : Book, optional
        This working tree's by default.
    parameters : mapping, optional
        Injected into the chapters that have them.

    Returns
    -------
    Path
        The landing page.

    Raises
    ------
    BookError
        If a chapter fails, sphinx warns or a check fails. The former book stays as it was.
    """
    book = book or Book()
    execute_chapters(book, parameters)
    staged = stage(book)
    records = book_records(book)
    key = _key(book, staged)
    stamp = book.build / "sphinx" / "built.key"
    landing_page = book.html / "index.html"
    if landing_page.exists() and stamp.exists() and stamp.read_text() == key:
        print(f"book unchanged: {_shown(landing_page)}")
        return landing_page
    html = book.build / "sphinx" / "html"
    _sphinx(book, staged, html)
    write_evidence(records, html / "evidence.json")
    check_html(book, html)
    _swap(html, book.html)
    stamp.write_text(key)
    print(f"book built: {_shown(landing_page)}, {len(records)} evidence records")
    return landing_page


def check_book(book: Book | None = None) -> None:
    """Check the book that stands in ``_build/html``.

    Raises
    ------
    BookError
        If there is none, or it breaks a rule.
    """
    book = book or Book()
    if not (book.html / "index.html").exists():
        raise BookError(f"no book in {_shown(book.html)}; build it first: make book")
    check_html(book, book.html)


def book_records(book: Book) -> list[Record]:
    """Return all evidence of the executed chapters, sorted by name.

    Raises
    ------
    BookError
        If two cells record the same name.
    """
    records = [
        found for page in book.chapters for found in notebook_records(book.executed_path(page))
    ]
    owners: dict[str, str] = {}
    for found in records:
        if found.name in owners:
            raise BookError(
                f"evidence {found.name!r} is recorded twice, by {owners[found.name]} and "
                f"{found.chapter}; a name belongs to one figure (use cite to show it elsewhere)"
            )
        owners[found.name] = found.chapter
    return sorted(records, key=lambda found: found.name)


def write_evidence(records: list[Record], path: Path) -> None:
    """Write the records as a JSON list with exactly the documented fields."""
    rows = [{field: getattr(found, field) for field in FIELDS} for found in records]
    text = json.dumps(rows, indent=1, ensure_ascii=False, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")


def _sphinx(book: Book, staged: Path, html: Path) -> None:
    from jupyter_book.sphinx import build_sphinx

    outcome = build_sphinx(
        staged,
        html,
        path_config=staged / "_config.yml",
        confoverrides={"latex_individualpages": False},
        doctreedir=book.build / "sphinx" / "doctrees",
        noconfig=True,
        quiet=True,
        warningiserror=True,
        keep_going=True,
        freshenv=_surroundings_changed(book, staged),
    )
    if outcome != 0:
        raise BookError("sphinx warned about the pages named above; a warning is an error here")
    shutil.copyfile(book.root / "assets" / "404.html", html / "404.html")
    for leftover in ("objects.inv", ".buildinfo"):
        (html / leftover).unlink(missing_ok=True)
    (html / ".nojekyll").touch()


def _surroundings_changed(book: Book, staged: Path) -> bool:
    """Say whether something changed that sphinx itself would not notice, and note the new state.

    It reads a page again when its text changes, but neither when the code does that reads it nor
    when a style sheet or script does.
    """
    stamp = book.build / "sphinx" / "surroundings.key"
    assets = [path for path in sorted((staged / "assets").rglob("*")) if path.is_file()]
    key = _hash([*_code(book), staged / "_config.yml", *assets])
    if stamp.exists() and stamp.read_text() == key:
        return False
    shutil.rmtree(stamp.parent, ignore_errors=True)
    stamp.parent.mkdir(parents=True)
    stamp.write_text(key)
    return True


def _code(book: Book) -> list[Path]:
    return [*sorted(BOOK_ROOM.glob("*.py")), book.root / "requirements.lock"]


def _key(book: Book, staged: Path) -> str:
    files = [path for path in sorted(staged.rglob("*")) if path.is_file()]
    return _hash([*files, *_code(book)])


def _hash(files: list[Path]) -> str:
    digest = hashlib.sha256()
    for path in files:
        if path.exists():
            digest.update(path.as_posix().encode())
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _swap(built: Path, html: Path) -> None:
    """Put the new book in place of the former; sphinx keeps its own copy for the next build."""
    beside, former = html.with_name("html.new"), html.with_name("html.old")
    for leftover in (beside, former):
        shutil.rmtree(leftover, ignore_errors=True)
    shutil.copytree(built, beside)
    if html.exists():
        html.rename(former)
    beside.rename(html)
    shutil.rmtree(former, ignore_errors=True)


def _shown(path: Path) -> str:
    return os.path.relpath(path)
