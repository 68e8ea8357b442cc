"""From chapters to ``_build/html``: execute, stage, sphinx, evidence, checks, only then swap."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from book.check import check_html
from book.evidence import Record, as_rows, records_in
from book.execute import execute_chapters
from book.pages import Book
from book.stage import stage
from medlib.errors import BookError
from medlib.files import put_in_place, sha256_of, write_json
from medlib.keys import digest


def build_book(book: Book | None = None, parameters: Mapping[str, Any] | None = None) -> Path:
    """Execute what has changed, build the book and return its landing page.

    The `parameters` are injected into the chapters that have them.

    Raises
    ------
    BookError
        If a chapter fails, sphinx warns or a check fails. The former book stays as it was.
    """
    book = book or Book()
    execute_chapters(book, parameters)
    staged = stage(book)
    records = book_records(book)
    key = _key(book, _files(staged))
    stamp = book.build / "sphinx" / "built.key"
    landing_page = book.html / "index.html"
    if landing_page.exists() and stamp.exists() and stamp.read_text() == key:
        print(f"book unchanged: {os.path.relpath(landing_page)}")
        return landing_page
    html = book.build / "sphinx" / "html"
    _sphinx(book, staged, html)
    write_json(html / "evidence.json", as_rows(records))
    check_html(book, html)
    with put_in_place(book.html) as beside:
        shutil.copytree(html, beside)  # sphinx keeps its own copy for the next build
    stamp.write_text(key)
    print(f"book built: {os.path.relpath(landing_page)}, {len(records)} evidence records")
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
        raise BookError(f"no book in {os.path.relpath(book.html)}; build it first: make book")
    check_html(book, book.html)


def book_records(book: Book) -> list[Record]:
    """Return all evidence of the executed chapters.

    Raises
    ------
    BookError
        If two cells record the same name.
    """
    records = records_in(book.executed)
    chapter: dict[str, str] = {}
    for found in records:
        if found.name in chapter:
            raise BookError(
                f"evidence {found.name!r} is recorded twice, by {chapter[found.name]} and "
                f"{found.chapter}; a name belongs to one figure (use cite to show it elsewhere)"
            )
        chapter[found.name] = found.chapter
    return records


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
    key = _key(book, [staged / "_config.yml", *_files(staged / "assets")])
    if stamp.exists() and stamp.read_text() == key:
        return False
    shutil.rmtree(stamp.parent, ignore_errors=True)
    stamp.parent.mkdir(parents=True)
    stamp.write_text(key)
    return True


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _key(book: Book, files: Iterable[Path]) -> str:
    """Return the digest of these files, of the code that builds the book, and of the lock."""
    code = sorted(Path(__file__).parent.glob("*.py"))
    lock = book.root / "requirements.lock"
    there = [*files, *code, *([lock] if lock.exists() else [])]
    return digest(*(f"{path.as_posix()} {sha256_of(path)}" for path in there))
