"""The map of the house in README.md and CONTRIBUTING.md is the house, in the order of imports."""

from __future__ import annotations

import re
import tomllib
from importlib import import_module

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


def test_every_step_of_the_walks_is_there_and_no_room_is_entered_twice() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    _, to_assist, to_crop = re.split(r"^1\. ", text, flags=re.MULTILINE)
    for walk in (to_assist.split("A reader's")[0], to_crop.split("**Chapters")[0]):
        steps = re.findall(r"`(medlib\.\w+\.\w+)\.(\w+)`", walk)
        assert len(steps) >= 8
        for module, name in steps:
            assert hasattr(import_module(module), name), f"{module}.{name}"
        rooms = [module.split(".")[1] for module, _ in steps]
        entered = [now for before, now in zip(["", *rooms], rooms, strict=False) if now != before]
        assert len(entered) == len(set(entered))
