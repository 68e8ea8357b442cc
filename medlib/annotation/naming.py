"""How a lesion and its reader are named in a DICOM object, and read back."""

from __future__ import annotations

import re

_NAME = re.compile(r"lesion (\d+), reader (\d+)", re.IGNORECASE)


def segment_name(lesion: int, reader: int) -> str:
    """Name one reader's mask of one lesion."""
    return f"Lesion {lesion}, reader {reader}"


def parse_name(name: str, number: int) -> tuple[int, int]:
    """Read lesion and reader from a name; in a foreign file each number is a lesion of reader 1."""
    found = _NAME.fullmatch(name.strip())
    return (int(found[1]), int(found[2])) if found else (number, 1)
