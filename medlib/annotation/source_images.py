"""What SEG and RTSTRUCT share: the images they were drawn on, and fixed UIDs."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.uid import UID, generate_uid

from medlib.annotation.drawings import Annotation, GridMismatchError, SeriesGrid
from medlib.errors import InputError


def derived_uid(*what: str) -> UID:
    """Return a UID that depends on nothing but what it is for."""
    return generate_uid(entropy_srcs=["medlib", *what])


def source_images(annotation: Annotation, folder: Path, kind: str) -> list[Dataset]:
    """Return the header of each slice's image from the folder of the series, without pixels.

    InputError if one is not there, or a DICOM file of this kind cannot hold the annotation.
    """
    wanted = annotation.grid.sop_instance_uids
    filled = sum(mask.n_voxels > 0 for mask in annotation.masks)
    if not wanted or not filled or filled < len(annotation.masks):
        raise InputError(
            f"a DICOM {kind} needs DICOM images, and a voxel in every mask of at least one; found "
            f"{len(wanted)} images and {filled} filled masks of {len(annotation.masks)}; an empty "
            "reading goes into a contour table"
        )
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
    if missing:
        raise InputError(
            f"{folder}: {len(missing)} of the images that were drawn on are not here; expected the "
            "DICOM series of the annotation; give its folder"
        )
    return [found[uid] for uid in wanted]


def check_series(path: Path, drawn_on: Iterable[Dataset], grid: SeriesGrid) -> None:
    """Refuse (GridMismatchError) a file that says it was drawn on another series."""
    named = sorted({str(series.SeriesInstanceUID) for series in drawn_on})
    if named and grid.series_instance_uid not in named:
        raise GridMismatchError(
            f"{path}: was drawn on series {named[0]}, not on {grid.series_instance_uid}; give the "
            "annotation of this series"
        )
