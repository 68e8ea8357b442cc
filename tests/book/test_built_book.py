"""The book in ``_build/html``; `make test` builds it first and asks for these tests."""

from __future__ import annotations

import os

import pytest

from book.check import CHECKS, Built
from book.pages import Book

pytestmark = pytest.mark.skipif(
    "MEDLIB_TEST_BOOK" not in os.environ, reason="the built book is checked by make test"
)


@pytest.fixture(scope="module")
def built():
    book = Book()
    return Built(book.html, book)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_built_book(built, check):
    assert list(check(built)) == []


def test_there_are_pages_to_check(built):
    assert len(built.pages) >= len(built.book.pages)
