"""What SEG and RTSTRUCT share: the images they were drawn on, names of lesions, fixed UIDs."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.uid import UID, generate_uid

from medlib.errors import InputError

_NAME = re.compile(r"lesion (\d+), reader (\d+)", re.IGNORECASE)


def segment_name(lesion: int, reader: int) -> str:
    """Name one reader's mask of one lesion."""
    return f"Lesion {lesion}, reader {reader}"


def parse_name(name: str, number: int) -> tuple[int, int]:
    """Read lesion and reader from a name; in a foreign file each number is a lesion of reader 1."""
    found = _NAME.fullmatch(name.strip())
    return (int(found[1]), int(found[2])) if found else (number, 1)


def derived_uid(*what: str) -> UID:
    """Return a UID that depends on nothing but what it is for."""
    return generate_uid(entropy_srcs=["medlib", *what])


def source_images(folder: Path, sop_instance_uids: Iterable[str]) -> list[Dataset]:
    """Return the headers of the named images, without pixels, in the order asked for.

    Raises
    ------
    InputError
        If one of them is not in the folder.
    """
    wanted = list(sop_instance_uids)
    missing = set(wanted)
    found: dict[str, Dataset] = {}
    for file in sorted(folder.rglob("*")) if folder.is_dir() else [folder]:
        if not missing:
            break
        try:
            header = pydicom.dcmread(file, stop_before_pixels=True)
        except (InvalidDicomError, IsADirectoryError):
            continue
        found[str(header.get("SOPInstanceUID", ""))] = header
        missing -= found.keys()
    if not wanted or missing:
        raise InputError(
            f"{folder}: {len(missing) or 'all'} of the images that were drawn on are not here; "
            "expected the DICOM series of the annotation; give its folder"
        )
    return [found[uid] for uid in wanted]
