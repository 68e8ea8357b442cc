from __future__ import annotations

from pathlib import Path

import pytest

import medlib.sources
from medlib.sources import bare_code, code_digest

CODE = '''
"""A module."""

NAME = "a # b"  # a comment


def double(x: int) -> int:
    """Twice x,
    in two lines.
    """
    text = """not a docstring"""  # kept
    return 2 * x
'''


def test_comments_docstrings_and_empty_lines_go_and_code_stays() -> None:
    assert bare_code(CODE).splitlines() == [
        'NAME = "a # b"',
        "def double(x: int) -> int:",
        '    text = """not a docstring"""',
        "    return 2 * x",
    ]


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [
        ("# a comment", "# another", True),
        ("Twice x", "Two times x", True),
        ("2 * x", "3 * x", False),
        ('"a # b"', '"a # c"', False),
        ('"""not a docstring"""', '"""text"""', False),
    ],
)
def test_digest_follows_what_the_code_does(tmp_path: Path, old: str, new: str, same: bool) -> None:
    before, after = tmp_path / "before.py", tmp_path / "after.py"
    before.write_text(CODE)
    after.write_text(CODE.replace(old, new))
    assert (code_digest([before]) == code_digest([after])) is same


def test_files_cannot_run_into_one_another(tmp_path: Path) -> None:
    one, two, both = tmp_path / "1.py", tmp_path / "2.py", tmp_path / "3.py"
    one.write_text("a = 1\n")
    two.write_text("b = 2\n")
    both.write_text("a = 1\nb = 2\n")
    assert code_digest([one, two]) != code_digest([both])


def test_the_bare_code_of_the_library_still_compiles_where_bodies_remain() -> None:
    source = Path(medlib.sources.__file__).read_text()
    compile(bare_code(source), "sources.py", "exec")
