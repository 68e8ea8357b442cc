"""The map of the house in README.md and CONTRIBUTING.md is the house, in the order of imports."""

from __future__ import annotations

import re
import tomllib

import pytest

from medlib.paths import ROOT

ROOFS, INSIDE = (
    [layer for layer in reversed(contract["layers"]) if ":" not in layer]
    for contract in tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"][
        "contracts"
    ]
)


@pytest.mark.parametrize("text", ["README.md", "CONTRIBUTING.md"])
def test_the_map_names_every_room_and_no_other(text: str) -> None:
    named = re.findall(r"^\| `([\w/.]+)` \|", (ROOT / text).read_text(), re.MULTILINE)
    assert [name for name in named if not (ROOT / name).exists()] == []
    rooms = [name.removesuffix(".py").removesuffix("/") for name in named]
    assert rooms == [*(f"medlib/{room}" for room in INSIDE), *ROOFS[1:]]
    doors = [*ROOT.glob("[!_.]*/__init__.py"), *ROOT.glob("medlib/*/__init__.py")]
    folders = {door.parent.relative_to(ROOT).as_posix() for door in doors} - {"medlib"}
    assert {name.rstrip("/") for name in named if name.endswith("/")} == folders
