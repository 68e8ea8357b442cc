"""Masks as DICOM RT Structure Set: polygons in mm, one structure a lesion and reader.

An RTSTRUCT holds lines and no voxels, and the standard does not say which voxels a line encloses.
Here a line runs along the edges of the voxels and a voxel belongs to it where its centre lies
inside, or on it; a line wholly inside another is a hole. That differs from LIDC's contours, which
run through the centres of the first voxels outside.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ImplicitVRLittleEndian, RTStructureSetStorage
from pydicom.valuerep import DSfloat

from medlib.annotation.drawings import (
    READER,
    UNKNOWN,
    Annotation,
    Author,
    LesionMask,
    Line,
    SeriesGrid,
)
from medlib.annotation.line_masks import FAR, rasterised
from medlib.annotation.mask_outlines import border_walks, edge_polygon
from medlib.annotation.outlines import structure_plane
from medlib.annotation.source_images import (
    check_series,
    derived_uid,
    reading,
    references,
    save,
    source_images,
)
from medlib.annotation.structures import Choice, Structure, author_in, choose, label_of
from medlib.errors import InputError

SERIES_NUMBER = 301
DECIMALS = 4  # of a millimetre: far below a voxel, and short enough for any reader
FLAT = 0.02  # of the slice distance: a line that varies more in height lies on no slice
ON_NAMED = 0.45  # of the slice distance: nearer than this, a line lies on the slice that it names
ROUNDED = 0.02  # of a voxel: points that all lie this near to centres were rounded
_ALGORITHM = "algorithm:"
_DATE, _TIME = "20200101", "120000"  # fixed, so that the same masks give the same bytes


def write_rtstruct(annotation: Annotation, path: Path, series: Path) -> None:
    """Write every mask as a structure; patient and study come from the images' folder."""
    grid = annotation.grid
    images, whose = source_images(annotation, series, "RTSTRUCT")
    contours = [_contours(mask, grid) for mask in annotation.masks]
    names = [label_of(annotation, mask) for mask in annotation.masks]
    said = names, annotation.authors, [(c[0], c[1].tolist()) for m in contours for c in m]
    content = hashlib.sha256(repr(said).encode())
    dataset = _header(images, content.hexdigest())
    dataset.StructureSetROISequence = [
        _item(
            ROINumber=number,
            ReferencedFrameOfReferenceUID=images[0].FrameOfReferenceUID,
            ROIName=name,
            ROIDescription=annotation.names.get(mask.lesion, ""),
            **_generation(annotation.author(mask.reader)),
        )
        for number, (name, mask) in enumerate(zip(names, annotation.masks, strict=True), start=1)
    ]
    dataset.ROIContourSequence = [
        _item(
            ROIDisplayColor=[230, 159, 0],
            ReferencedROINumber=number,
            ContourSequence=[_contour(images[k], points_mm) for k, points_mm in lines],
        )
        for number, lines in enumerate(contours, start=1)
    ]
    dataset.RTROIObservationsSequence = [
        _item(
            ObservationNumber=number,
            ReferencedROINumber=number,
            ROIObservationLabel=name[:16],
            RTROIInterpretedType="",
            ROIInterpreter="",
        )
        for number, name in enumerate(names, start=1)
    ]
    save(dataset, whose, path)


def _contours(mask: LesionMask, grid: SeriesGrid) -> list[tuple[int, NDArray[np.float64]]]:
    """Slice and points (x, y, z in mm) of each line of a mask."""
    z0, y0, x0 = mask.start_zyx
    found = []
    for k, plane in enumerate(mask.mask, start=z0):
        for walk in border_walks(plane):
            rows, columns = (edge_polygon(walk) + np.array([y0, x0])).T
            index = np.stack([columns, rows, np.full(len(rows), float(k)), np.ones(len(rows))])
            found.append((k, (grid.affine @ index)[:3].T.round(DECIMALS)))
    return found


def _item(**values: Any) -> Dataset:
    item = Dataset()
    for keyword, value in values.items():
        setattr(item, keyword, value)
    return item


def _header(images: Sequence[Dataset], content: str) -> Dataset:
    image = images[0]
    uid = str(image.SeriesInstanceUID)
    dataset = _item(
        StudyInstanceUID=image.StudyInstanceUID,
        SOPClassUID=RTStructureSetStorage,
        SOPInstanceUID=derived_uid("RTSTRUCT", uid, content),
        SeriesInstanceUID=derived_uid("RTSTRUCT series", uid, content),
        FrameOfReferenceUID=image.FrameOfReferenceUID,
        PositionReferenceIndicator="",
        Modality="RTSTRUCT",
        SeriesNumber=SERIES_NUMBER,
        OperatorsName="",
        Manufacturer="medlib",
        ManufacturerModelName="medlib",
        DeviceSerialNumber="0",
        SoftwareVersions=version("medlib"),
        StructureSetLabel="LUNG_LESIONS",
        ApprovalStatus="UNAPPROVED",
        InstanceNumber=1,
        **{f"{what}Date": _DATE for what in ("Series", "StructureSet", "InstanceCreation")},
        **{f"{what}Time": _TIME for what in ("Series", "StructureSet", "InstanceCreation")},
    )
    drawn_on = _item(
        SeriesInstanceUID=image.SeriesInstanceUID,
        ContourImageSequence=references(images),
    )
    study = _item(
        ReferencedSOPClassUID="1.2.840.10008.3.1.2.3.1",  # Detached Study Management, retired
        ReferencedSOPInstanceUID=image.StudyInstanceUID,
        RTReferencedSeriesSequence=[drawn_on],
    )
    dataset.ReferencedFrameOfReferenceSequence = [
        _item(FrameOfReferenceUID=image.FrameOfReferenceUID, RTReferencedStudySequence=[study])
    ]
    dataset.file_meta = FileMetaDataset()
    # Explicit VR has no room for the numbers of a long line: 64 kB.
    dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    dataset.file_meta.ImplementationClassUID = derived_uid("implementation")
    dataset.file_meta.ImplementationVersionName = "MEDLIB"
    return dataset


def _contour(image: Dataset, points_mm: NDArray[np.float64]) -> Dataset:
    return _item(
        ContourImageSequence=references([image]),
        ContourGeometricType="CLOSED_PLANAR",
        NumberOfContourPoints=len(points_mm),
        ContourData=[DSfloat(float(value), auto_format=True) for value in points_mm.flat],
    )


def read_rtstruct(path: Path, grid: SeriesGrid, rois: Sequence[str] = ()) -> Annotation:
    """Read the structures that `choose` takes; GridMismatchError if they are of another series."""
    with reading(path, "RTSTRUCT", "expected a structure set"):
        dataset = pydicom.dcmread(path, force=True)
        drawn_on = [
            series
            for frame in dataset.get("ReferencedFrameOfReferenceSequence", ())
            for study in frame.get("RTReferencedStudySequence", ())
            for series in study.get("RTReferencedSeriesSequence", ())
        ]
        check_series(path, drawn_on, grid)
        found = list_structures(dataset)
        choice = choose(path, found, rois)
        empty = _check_structures(path, found, choice)
        drawn = {one.number for one in found if one.parts} & choice.keys.keys()
        read = [
            _line(path, contour, *choice.keys[number], grid)
            for number, contours in _contours_of(dataset)
            if number in drawn
            for contour in contours
        ]
        annotation = rasterised(grid, [line for line, _ in read], _plane, file=str(path))
    said = Counter(remark for _, remark in read if remark)
    notes = [f"{n} of {len(read)} lines {what}: taken at their height" for what, n in said.items()]
    return choice.label(annotation, *empty, *annotation.notes, *notes)


def list_structures(dataset: Dataset) -> list[Structure]:
    """Return what a structure set holds."""
    closed: Counter[int] = Counter()
    for number, contours in _contours_of(dataset):
        closed[number] += sum(_is_closed(contour) for contour in contours)
    kinds = {
        int(item.ReferencedROINumber): str(item.get("RTROIInterpretedType") or "")
        for item in dataset.get("RTROIObservationsSequence", ())
    }
    return [
        Structure(number, name, kinds.get(number, ""), author, closed[number], None, own)
        for roi in dataset.StructureSetROISequence
        for number, name in [(int(roi.ROINumber), str(roi.ROIName))]
        for author, own in [(author_in(name, _author(roi)), str(roi.get("ROIDescription") or ""))]
    ]


def _contours_of(dataset: Dataset) -> Iterator[tuple[int, Sequence[Dataset]]]:
    for roi in dataset.get("ROIContourSequence", ()):
        yield int(roi.ReferencedROINumber), roi.get("ContourSequence") or ()


def _is_closed(contour: Dataset) -> bool:
    kind = str(contour.get("ContourGeometricType") or "CLOSED_PLANAR")
    return kind.startswith("CLOSED") and bool(contour.get("ContourData"))


def _check_structures(path: Path, found: Sequence[Structure], choice: Choice) -> tuple[str, ...]:
    """Refuse structures that cannot be told apart, and say which chosen ones hold no line."""
    taken = [one for one in found if one.number in choice.keys]
    keys = Counter(choice.keys[one.number] for one in taken)
    if twice := [str(one) for one in taken if keys[choice.keys[one.number]] > 1]:
        raise InputError(
            f"{path}: structures that cannot be told apart: {', '.join(twice)}; expected a number "
            "and a name of its own for each; export it again"
        )
    empty = f"no closed contour in {', '.join(str(one) for one in taken if not one.parts)}"
    if not any(one.parts for one in taken):
        raise InputError(f"{path}: {empty}; expected some; choose another one with --roi")
    return (empty,) * any(not one.parts for one in taken)


def _generation(author: Author) -> dict[str, str]:
    if author.kind != "algorithm":
        return {"ROIGenerationAlgorithm": "MANUAL"}
    kind = "SEMIAUTOMATIC" if author.steered else "AUTOMATIC"
    said = author.brief(len(_ALGORITHM) + 64).removeprefix(_ALGORITHM)
    return {"ROIGenerationAlgorithm": kind, "ROIGenerationDescription": said}


def _author(roi: Dataset) -> Author:
    kind = str(roi.get("ROIGenerationAlgorithm") or "")
    if kind == "MANUAL":
        return READER
    if kind not in ("AUTOMATIC", "SEMIAUTOMATIC"):
        return UNKNOWN
    said = Author.parse(_ALGORITHM + str(roi.get("ROIGenerationDescription") or ""))
    stated = said if said.kind == "algorithm" else Author("algorithm", "not stated")
    return replace(stated, steered=kind == "SEMIAUTOMATIC")


def _plane(lines: Sequence[Line], shape_yx: tuple[int, int]) -> tuple[NDArray[np.bool_], int, int]:
    return structure_plane([line.points_yx for line in lines], shape_yx)


def _line(
    path: Path, contour: Dataset, lesion: int, reader: int, grid: SeriesGrid
) -> tuple[Line, str]:
    """Return a line, and what has to be said of the image that it names."""
    values = contour.get("ContourData") or ()
    if isinstance(values, bytes):  # UN, as explicit files hold what has more than 64 kB
        values = values.decode("ascii", "replace").rstrip(" \0").split("\\")
    try:
        points_mm = np.array(values, dtype=np.float64).reshape(-1, 3)
    except ValueError:
        points_mm = np.full((1, 3), np.nan)
    to_index = np.linalg.inv(grid.affine)
    index_xyz = points_mm @ to_index[:3, :3].T + to_index[:3, 3]
    if not (np.abs(index_xyz) < FAR).all():
        raise InputError(
            f"{path}: a contour has {contour.get('NumberOfContourPoints', 'some')} points with "
            "coordinates that are none; expected x, y and z in mm of each; export it again"
        )
    centres, heights, remark = index_xyz.round(), index_xyz[:, 2], ""
    if np.abs(centres - index_xyz)[:, :2].max(initial=0) < ROUNDED:
        index_xyz = centres
    k = heights.mean() if len(heights) and np.ptp(heights) < FLAT else np.nan
    if images := contour.get("ContourImageSequence"):
        named = {(image.get("ReferencedSOPInstanceUID"), _frame(image, grid)) for image in images}
        frames = grid.frame_numbers or (0,) * len(grid.sop_instance_uids)
        own = zip(grid.sop_instance_uids, frames, strict=True)
        slices = [slice_ for slice_, image in enumerate(own) if image in named]
        nearest = min(slices, key=lambda one: abs(one - k), default=-1)
        if not slices:
            remark = "name images that the series does not have"
        elif abs(nearest - k) > 0.5:
            remark = "name the image of another slice"
        elif abs(nearest - k) < ON_NAMED:
            k = nearest
    z_mm = grid.slice_z_mm(k)
    points_yx = index_xyz[:, [1, 0]]
    return Line(lesion, reader, True, z_mm, points_yx, not _is_closed(contour)), remark


def _frame(image: Dataset, grid: SeriesGrid) -> int:
    return int(image.get("ReferencedFrameNumber") or 0) if grid.frame_numbers else 0
