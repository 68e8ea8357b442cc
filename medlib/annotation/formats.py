"""Annotations in and out of files: contour table, DICOM SEG, RTSTRUCT, NIfTI."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pydicom
from pydicom.uid import RTStructureSetStorage, SegmentationStorage

from medlib.annotation import contour_table, mask_files, rtstruct, seg
from medlib.annotation.drawings import READER, UNKNOWN, Annotation, Author, SeriesGrid
from medlib.annotation.source_images import reading
from medlib.annotation.structures import Structure, choose
from medlib.errors import InputError
from medlib.files import write_file
from medlib.images.dicom_find import shown
from medlib.images.volume import Volume

FORMATS = ("table", "seg", "rtstruct", "nifti")
NIFTI = (".nii", ".nii.gz")
LABEL_FILES = (*NIFTI, ".nrrd", ".mha", ".mhd")
LABELMAP_STORAGE = "1.2.840.10008.5.1.4.1.1.66.7"  # not yet in pydicom
SEGMENTATIONS = (SegmentationStorage, LABELMAP_STORAGE)
EXPECTED = (
    "expected a contour table (.csv), a DICOM SEG or RTSTRUCT (.dcm), a label file "
    "(.nii.gz, .nrrd, .mha), or a folder with readers.nii.gz and labels.nii.gz"
)


def read_annotation(path: Path, volume: Volume, rois: Sequence[str] = ()) -> Annotation:
    """Read an annotation of a series, whatever its format.

    The structures that `rois` name (by name or number); left out, all that are lesions.
    InputError if it is none, of these GridMismatchError if it belongs to another grid.
    """
    if not path.exists():
        raise InputError(f"{path}: nothing there; {EXPECTED}; check the path")
    if path.is_dir():
        if (path / mask_files.READERS_FILE).is_file():
            return only(path, mask_files.read_pair(path, volume), rois)
        raise InputError(f"{path}: holds no annotation; {EXPECTED}; choose another folder")
    if path.name.endswith(LABEL_FILES):
        return only(path, mask_files.read_labels(path, volume), rois)
    grid = SeriesGrid.of(volume)
    if path.suffix == ".csv":
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{path}: cannot be read as text ({error}); {EXPECTED}") from None
        return only(path, contour_table.parse_table(text, grid, str(path)), rois)
    if _dicom_kind(path) == RTStructureSetStorage:
        return rtstruct.read_rtstruct(path, grid, rois)
    return seg.read_seg(path, grid, rois)


def list_structures(path: Path) -> list[Structure]:
    """List what a SEG or an RTSTRUCT holds; its series is not needed."""
    if path.name.endswith((".csv", *LABEL_FILES)) or not path.is_file():
        raise InputError(
            f"{path}: no DICOM file here; expected a SEG or an RTSTRUCT; check the path"
        )
    is_rtstruct = _dicom_kind(path) == RTStructureSetStorage
    listed = rtstruct.list_structures if is_rtstruct else seg.list_structures
    with reading(path, "annotation", EXPECTED):
        return listed(pydicom.dcmread(path, force=True))


def _dicom_kind(path: Path) -> str:
    with reading(path, "annotation", EXPECTED):
        dataset = pydicom.dcmread(path, force=True, specific_tags=["SOPClassUID"])
        kind = dataset.get("SOPClassUID")
    if kind not in (*SEGMENTATIONS, RTStructureSetStorage):
        found = f"DICOM of the kind {shown(getattr(kind, 'name', kind))}" if kind else "no DICOM"
        raise InputError(f"{path}: {found}; {EXPECTED}; choose another file")
    return str(kind)


def drawn_by(annotation: Annotation, who: str) -> Annotation:
    """Say who drew what a file says nothing about; InputError if it does say, or `who` is none."""
    author = Author.parse(who)
    if author.kind == "unknown":
        raise InputError(
            f"--by {who}: neither reader nor algorithm; expected reader, reader:ROLE or "
            "algorithm:NAME[:VERSION]"
        )
    open_to_it = UNKNOWN, replace(author, name="")  # a reader whose role is not said, too
    unsaid = [k for k in annotation.readers if annotation.author(k) in open_to_it]
    if not unsaid and {annotation.author(k) for k in annotation.readers} != {author}:
        said = ", ".join(str(annotation.author(k)) for k in annotation.readers)
        raise InputError(
            f"--by {who}: the file itself says {shown(said)}; --by is where it does not"
        )
    return replace(annotation, authors={**annotation.authors, **dict.fromkeys(unsaid, author)})


def only(path: Path, drawn: Annotation, rois: Sequence[str]) -> Annotation:
    """Keep the lesions that `rois` name, of a file in which nothing else stands."""
    if not rois:
        return drawn
    there = [Structure(k, drawn.names.get(k, f"Lesion {k}"), "", READER, 0) for k in drawn.lesions]
    kept = choose(path, there, rois).keys
    return replace(
        drawn,
        masks=tuple(mask for mask in drawn.masks if mask.lesion in kept),
        lines=tuple(line for line in drawn.lines if line.lesion in kept),
        ratings={key: given for key, given in drawn.ratings.items() if key[0] in kept},
    )


def write_annotation(
    annotation: Annotation, path: Path, volume: Volume, series: Path, kind: str | None = None
) -> str:
    """Write an annotation of a series, and return the format written.

    One of `FORMATS`; left out, the name decides: .csv, .nii.gz, .dcm (a SEG), or a folder. SEG and
    RTSTRUCT take patient and study from `series`, its folder. InputError if the format cannot hold
    the annotation, or there is no such format.
    """
    chosen = _kind(path) if kind is None else kind
    if chosen not in FORMATS:
        raise InputError(f"--to {kind}: no such format; expected one of {', '.join(FORMATS)}")
    label_file = chosen == "nifti" and path.name.endswith(NIFTI)
    if not label_file and UNKNOWN in map(annotation.author, annotation.readers):
        raise InputError(
            "nothing says who drew this, a reader or an algorithm; say it with --by reader, --by "
            "reader:ROLE or --by algorithm:NAME[:VERSION]"
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on values of the source that break their own rules
        if chosen == "table":
            write_file(path, contour_table.table_text(annotation))
        elif chosen == "seg":
            seg.write_seg(annotation, path, series)
        elif chosen == "rtstruct":
            rtstruct.write_rtstruct(annotation, path, series)
        elif path.name.endswith(NIFTI):
            mask_files.write_labels(annotation, path, volume)
        else:
            mask_files.write_pair(annotation, path, volume)
    return chosen


def _kind(path: Path) -> str:
    if path.name.endswith(NIFTI):
        return "nifti"
    by_suffix = {".csv": "table", ".dcm": "seg", "": "nifti"}
    if path.suffix in by_suffix:
        return by_suffix[path.suffix]
    raise InputError(
        f"{path}: the name says no format; expected .csv, .dcm, .nii.gz or a folder, or --to with "
        f"one of {', '.join(FORMATS)}"
    )
