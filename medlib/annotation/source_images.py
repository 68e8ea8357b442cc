"""What SEG and RTSTRUCT share: the images they were drawn on, whose they are, and fixed UIDs."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from pydicom.datadict import dictionary_VR, keyword_for_tag
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.tag import Tag
from pydicom.uid import UID, CTImageStorage, generate_uid

from medlib.annotation.drawings import Annotation, GridMismatchError, SeriesGrid
from medlib.errors import InputError, MedlibError
from medlib.files import put_in_place
from medlib.images.dicom_find import found_files, shown
from medlib.images.dicom_header import Header, Memo, read_header
from medlib.images.image_grids import as_stored

# Type 2: where they are not known they stand there, empty.
_PATIENT_AND_STUDY = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime"),
    *("StudyID", "AccessionNumber", "ReferringPhysicianName"),
)
_IF_PRESENT = ("PatientIdentityRemoved", "DeidentificationMethod", "StudyDescription")
_UTF_8 = "ISO_IR 192"


def derived_uid(*what: str) -> UID:
    """Return a UID that depends on nothing but what it is for."""
    return generate_uid(entropy_srcs=["medlib", *what])


def source_images(annotation: Annotation, folder: Path, kind: str) -> tuple[list[Dataset], Dataset]:
    """Return each slice's image on the file's own grid, and whose it is: patient and study.

    The latter byte for byte as in the file, absent elements empty. InputError if an image is not
    in the folder of the series, or a DICOM file of this kind cannot hold the annotation.
    """
    grid = annotation.grid
    wanted = grid.sop_instance_uids
    filled = sum(mask.n_voxels > 0 for mask in annotation.masks)
    if not all(wanted) or not wanted or not filled or filled < len(annotation.masks):
        raise InputError(
            f"a DICOM {kind} needs DICOM images, and a voxel in every mask of at least one; found "
            f"{len(wanted)} images and {filled} filled masks of {len(annotation.masks)}; an empty "
            "reading goes into a contour table"
        )
    found = _headers(folder, set(wanted))
    if missing := len(set(wanted) - found.keys()):
        raise InputError(
            f"{folder}: {missing} of the images that were drawn on are not here; expected the "
            "DICOM series of the annotation; give its folder"
        )
    first = found[wanted[0]]  # some writers give each file of a series its own study
    return [_image(found[uid], first, grid, k) for k, uid in enumerate(wanted)], _whose(first)


def _headers(folder: Path, wanted: set[str]) -> dict[str, Header]:
    """Read the headers of these images, as `read_series` does."""
    found: dict[str, Header] = {}
    memo: Memo = {}
    with found_files(folder) as source, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for file in source.files:
            if wanted <= found.keys():
                break
            try:
                header = read_header(file.path, file.name, memo)
            except Exception:  # a damaged file; `read_series` has told of it
                continue
            if header is not None and (uid := str(header.get("SOPInstanceUID") or "")) in wanted:
                found.setdefault(uid, header)
    return found


def _image(header: Header, first: Header, grid: SeriesGrid, k: int) -> Dataset:
    series = grid.series_instance_uid
    image = Dataset()
    image.SOPClassUID = str(header.get("SOPClassUID") or CTImageStorage)
    image.SOPInstanceUID = grid.sop_instance_uids[k]
    image.SeriesInstanceUID = series
    image.StudyInstanceUID = str(first.get("StudyInstanceUID") or derived_uid("study", series))
    image.FrameOfReferenceUID = str(
        first.get("FrameOfReferenceUID") or derived_uid("frame of reference", series)
    )
    image.Modality = "CT"
    stored = grid.affine if grid.source_affine is None else grid.source_affine
    dx, dy, dz = np.linalg.norm(stored[:3, :3], axis=0)
    _, rows, columns = as_stored(np.empty(grid.shape_zyx, dtype=bool), grid).shape
    image.Rows, image.Columns = rows, columns
    image.PixelSpacing, image.SliceThickness = [dy, dx], dz
    image.ImageOrientationPatient = [*stored[:3, 0] / dx, *stored[:3, 1] / dy]
    image.ImagePositionPatient = list(stored[:3, 3] + k * stored[:3, 2])
    if grid.frame_numbers:
        image.ReferencedFrameNumber = grid.frame_numbers[k]
    # What highdicom asks of an image; `_whose` has what the file says.
    for keyword in _PATIENT_AND_STUDY:
        setattr(image, keyword, "")
    return image


def _whose(header: Header) -> Dataset:
    whose = Dataset()
    for tag in map(Tag, (*_PATIENT_AND_STUDY, *_IF_PRESENT, "SpecificCharacterSet")):
        element = header.dataset.get_item(tag)
        if isinstance(element, RawDataElement):
            whose[tag] = element._replace(VR=element.VR or dictionary_VR(tag))
        elif element is not None:
            whose[tag] = element
        elif keyword_for_tag(tag) in _PATIENT_AND_STUDY:
            setattr(whose, keyword_for_tag(tag), "")
    values = [element.value for element in whose.values() if isinstance(element, RawDataElement)]
    if all(value is None or (value.isascii() and b"\x1b" not in value) for value in values):
        whose.SpecificCharacterSet = _UTF_8  # so that structures may have any name
    return whose


def references(images: Iterable[Dataset]) -> list[Dataset]:
    """Refer to images: an item a file, with the numbers of its frames where it has several."""
    items: dict[str, Dataset] = {}
    for image in images:
        item = items.setdefault(image.SOPInstanceUID, Dataset())
        item.ReferencedSOPClassUID = image.SOPClassUID
        item.ReferencedSOPInstanceUID = image.SOPInstanceUID
        if "ReferencedFrameNumber" in image:
            frames = item.get("ReferencedFrameNumber", [])
            frames = list(frames) if isinstance(frames, MultiValue | list) else [frames]
            item.ReferencedFrameNumber = [*frames, image.ReferencedFrameNumber]
    return list(items.values())


def save(dataset: Dataset, whose: Dataset, path: Path) -> None:
    """Write a file for the patient and study that `source_images` found."""
    dataset.update(whose)
    with put_in_place(path) as beside:
        dataset.save_as(beside, enforce_file_format=True)


@contextmanager
def reading(path: Path, kind: str, expected: str = "expected a whole file") -> Iterator[None]:
    """Say in one line that a file is not what it was taken for, whatever its damage raises."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except MedlibError:
        raise
    except Exception as error:  # the parser's and the converters' are of many kinds
        raise InputError(
            f"{path}: not a readable {kind} ({type(error).__name__}); {expected}; export it again"
        ) from error


def check_series(path: Path, drawn_on: Iterable[Dataset], grid: SeriesGrid) -> None:
    """Refuse (GridMismatchError) a file that says it was drawn on another series."""
    named = sorted({str(series.SeriesInstanceUID) for series in drawn_on})
    if named and grid.series_instance_uid not in named:
        raise GridMismatchError(
            f"{path}: was drawn on series {shown(named[0])}, not on {grid.series_instance_uid}; "
            "give the annotation of this series"
        )
