"""The DICOM images that an annotation was drawn on: headers, without pixels."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.uid import UID, generate_uid

from medlib.errors import InputError


def source_images(folder: Path, sop_instance_uids: Iterable[str]) -> list[Dataset]:
    """Return the headers of the named images, in the order asked for.

    Raises
    ------
    InputError
        If one of them is not in the folder.
    """
    wanted = list(sop_instance_uids)
    missing = set(wanted)
    found: dict[str, Dataset] = {}
    files = sorted(folder.rglob("*")) if folder.is_dir() else [folder]
    for file in files:
        if not missing:
            break
        if not file.is_file():
            continue
        try:
            header = pydicom.dcmread(file, stop_before_pixels=True)
        except InvalidDicomError:
            continue
        uid = str(header.get("SOPInstanceUID", ""))
        if uid in missing:
            missing.remove(uid)
            found[uid] = header
    if not wanted or missing:
        raise InputError(
            f"{folder}: {len(missing) or 'all'} of the images that were drawn on are not here; "
            "expected the DICOM series of the annotation; give its folder"
        )
    return [found[uid] for uid in wanted]


def derived_uid(*what: str) -> UID:
    """Return a UID that depends on nothing but what it is for."""
    return generate_uid(entropy_srcs=["medlib", *what])
