from __future__ import annotations

import pytest

from book.pages import Book, parameters_of
from medlib.errors import BookError


def make_book(folder, **front_matter):
    names = list(front_matter)
    files = "".join(f"  - file: {name}\n" for name in names[1:])
    chapters = f"chapters:\n{files}" if files else ""
    (folder / "_toc.yml").write_text(f"root: {names[0]}\n{chapters}")
    for name, lines in front_matter.items():
        text = (
            f"---\nkernelspec: {{display_name: Python 3, name: python3}}\n{lines}\n---\n"
            if lines is not None
            else ""
        )
        (folder / f"{name}.md").write_text(f"{text}# {name}\n")
    return Book(folder)


def test_order_of_execution_is_that_of_the_book_with_needs_first(tmp_path):
    book = make_book(
        tmp_path,
        index="medlib: {needs: [b]}",
        a="",
        text=None,
        b="medlib: {needs: [c]}",
        c="",
        status="medlib: {needs: all}",
    )
    assert [page.name for page in book.chapters] == ["a", "c", "b", "index", "status"]
    assert book.all_needs_of("index") == {"b", "c"}
    assert [page.name for page in book.pages if not page.is_chapter] == ["text"]


def test_circles_strangers_and_absentees_are_refused(tmp_path):
    with pytest.raises(BookError, match="need each other"):
        _ = make_book(tmp_path, a="medlib: {needs: [b]}", b="medlib: {needs: [a]}").chapters
    with pytest.raises(BookError, match=r"chapter a needs z; there are a"):
        _ = make_book(tmp_path, a="medlib: {needs: [z]}").chapters
    (tmp_path / "_toc.yml").write_text("root: a\nchapters: [{file: gone}]\n")
    with pytest.raises(BookError, match="do not exist: gone"):
        _ = Book(tmp_path).pages


def test_a_chapter_is_found_by_number_or_name(tmp_path):
    book = make_book(tmp_path, **{"index": "", "04-baseline": ""})
    for asked in ("4", "04", "04-baseline"):
        assert book.chapter(asked).name == "04-baseline"
    with pytest.raises(BookError, match="no chapter '5'; there are index, 04-baseline"):
        book.chapter("5")


def test_parameters_survive_the_way_from_text(tmp_path):
    book = make_book(tmp_path, index="")
    (tmp_path / "index.md").write_text(
        "---\nkernelspec: {display_name: Python 3, name: python3}\n---\n# A\n\n"
        "```{code-cell} ipython3\n"
        ":tags: [parameters, hide-cell]\nprofile = 'quick'\nseed = 0  # any\n```\n"
    )
    assert parameters_of(book.chapters[0].notebook()) == ["profile", "seed"]
