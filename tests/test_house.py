"""The house: what stands where, and how large it may be."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import Counter
from importlib import import_module
from pathlib import Path

import pytest

from book.pages import Book
from medlib.keys import PACKAGES, names_at_door

LONGEST_FILE = 350
ROOMS = ("images", "annotation", "phantom", "cohorts", "baseline", "risk", "gallery", "review")
SOURCES = sorted(
    source
    for package in ("medlib", "book", "studies", "tools")
    for source in (PACKAGES / package).rglob("*.py")
)


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: str(path.relative_to(PACKAGES)))
def test_no_file_is_too_long_to_live_in(source: Path) -> None:
    assert len(source.read_text(encoding="utf-8").splitlines()) <= LONGEST_FILE


def test_no_two_rooms_have_a_module_of_one_name() -> None:
    entries = ("__init__", "__main__", "cli")
    names = Counter(source.stem for source in SOURCES if source.stem not in entries)
    assert [name for name, times in names.items() if times > 1] == []


@pytest.mark.parametrize("room", ROOMS)
def test_every_room_has_a_door_of_five_to_ten_names(room: str) -> None:
    assert 5 <= len(names_at_door(f"medlib.{room}")) <= 10


@pytest.mark.parametrize("page", [pytest.param(page, id=page.name) for page in Book().chapters])
def test_a_chapter_comes_in_by_the_doors(page) -> None:
    code = "\n".join(cell.source for cell in page.notebook().cells if cell.cell_type == "code")
    tree = ast.parse("\n".join(line for line in code.splitlines() if line[:1] != "%"))
    named = {
        node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        and str(node.module).split(".")[0] in ("medlib", "book", "studies", "tools")
    }
    behind = {name for name in named if name.count(".") > (1 if name.startswith("medlib") else 0)}
    assert behind == set()
    assert len(named) <= 8


DOORS = [
    ".".join(door.parent.relative_to(PACKAGES).parts)
    for package in ("medlib", "book", "studies", "tools")
    for door in sorted((PACKAGES / package).rglob("__init__.pyi"))
]


@pytest.mark.parametrize("room", DOORS)
def test_every_name_at_a_door_opens(room: str) -> None:
    names = names_at_door(room)
    assert names
    for name in names:
        assert getattr(import_module(room), name) is not None


def test_a_door_imports_nothing_before_a_name_is_used() -> None:
    code = f"import sys, {', '.join(DOORS)}; sys.exit('numpy' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
