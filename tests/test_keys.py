from __future__ import annotations

from pathlib import Path

import pytest

from medlib import keys
from medlib.keys import bare_code, code_key, imported_by

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


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A library of three modules in place of ours: a imports b, c stands alone."""
    folder = tmp_path / "medlib"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "a.py").write_text("def f():\n    from medlib.b import double\n    return double")
    (folder / "b.py").write_text(CODE)
    (folder / "c.py").write_text("C = 1\n")
    monkeypatch.setattr(keys, "PACKAGES", tmp_path)
    for cached in (keys._imports_of, keys._is_ours):
        cached.cache_clear()
        monkeypatch.setattr(keys, cached.__name__, cached.__wrapped__)
    return folder


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
def test_a_key_follows_what_the_code_does(package: Path, old: str, new: str, same: bool) -> None:
    before = code_key("medlib.a")
    (package / "b.py").write_text(CODE.replace(old, new))
    assert (code_key("medlib.a") == before) is same


def test_what_is_not_imported_is_not_in_the_key(package: Path) -> None:
    before = code_key("medlib.a")
    (package / "c.py").write_text("C = 2\n")
    assert code_key("medlib.a") == before
    assert imported_by("medlib.a") == ["medlib.a", "medlib.b"]


@pytest.mark.parametrize(
    "source", ["from medlib import C", "from medlib import *", "import medlib", "from .c import C"]
)
def test_a_name_at_a_door_leads_to_its_module(package: Path, source: str) -> None:
    (package / "__init__.pyi").write_text("from .c import C as C\n")
    (package / "a.py").write_text(source)
    assert "medlib.c" in imported_by("medlib.a")


def test_a_door_may_lead_to_a_door(package: Path) -> None:
    (package / "room").mkdir()
    (package / "room" / "__init__.py").write_text("")
    (package / "room" / "__init__.pyi").write_text("from . import d as d\n")
    (package / "room" / "d.py").write_text("")
    (package / "__init__.pyi").write_text("from .room import d as d\n")
    (package / "a.py").write_text("from medlib import d\n")
    assert "medlib.room.d" in imported_by("medlib.a")


def test_imports_for_type_checkers_do_not_count(package: Path) -> None:
    text = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from medlib.c import C\n"
    (package / "a.py").write_text(text)
    assert imported_by("medlib.a") == ["medlib.a"]


def test_stored_scores_rest_on_the_readers_of_image_files() -> None:
    """They were on none of the lists that were kept by hand."""
    found = imported_by("medlib.risk.evaluation")
    assert {"medlib.images.image_files", "medlib.images.image_grids"} <= set(found)


def test_the_bare_code_of_the_library_still_compiles() -> None:
    compile(bare_code(Path(keys.__file__).read_text()), "keys.py", "exec")
