"""The front doors of the rooms: what stands in a room's ``__init__.pyi`` can be had from it."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module

import pytest

from medlib.keys import PACKAGES, names_at_door

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
