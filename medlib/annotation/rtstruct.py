"""Masks as DICOM RT Structure Set: polygons in mm, one structure a lesion and reader.

An RTSTRUCT holds lines and no voxels, and the standard does not say which voxels a line encloses.
Here a line runs along the edges of the voxels and a voxel belongs to it where its centre lies
inside; lines of one slice are combined by even-odd, so an inner one is a hole. That differs from
LIDC's contours, which run through the centres of the first voxels outside.
"""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from matplotlib.path import Path as Polygon
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.errors import InvalidDicomError
from pydicom.uid import ExplicitVRLittleEndian, RTStructureSetStorage
from pydicom.valuerep import DSfloat

from medlib.annotation.drawings import (
    Annotation,
    GridMismatchError,
    LesionMask,
    Line,
    SeriesGrid,
)
from medlib.annotation.mask_outlines import border_walks, edge_polygon
from medlib.annotation.naming import parse_name, segment_name
from medlib.annotation.source_images import derived_uid, source_images
from medlib.errors import InputError

SERIES_NUMBER = 301
DECIMALS = 4  # of a millimetre: far below a voxel, and short enough for any reader
FLAT_MM = 0.01  # a line that varies more in height lies on no slice
_DATE, _TIME = "20200101", "120000"  # fixed, so that the same masks give the same bytes
_PATIENT_AND_STUDY = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyInstanceUID",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "AccessionNumber",
    "ReferringPhysicianName",
)


def write_rtstruct(annotation: Annotation, path: Path, series: Path) -> None:
    """Write every mask as a structure of one file.

    Parameters
    ----------
    annotation : Annotation
        Needs `sop_instance_uids` in its grid.
    path : Path
    series : Path
        Folder of the images, for patient, study and the references to each image.

    Raises
    ------
    InputError
        If there is no mask to write, or an image is not in `series`.
    """
    grid = annotation.grid
    filled = sum(mask.n_voxels > 0 for mask in annotation.masks)
    if not grid.sop_instance_uids or not filled or filled < len(annotation.masks):
        raise InputError(
            "an RTSTRUCT needs DICOM images, a line in every structure and at least one structure; "
            f"found {len(grid.sop_instance_uids)} images and {filled} filled masks of "
            f"{len(annotation.masks)}; an empty reading goes into a contour table"
        )
    images = source_images(series, grid.sop_instance_uids)
    contours = [_contours(mask, grid) for mask in annotation.masks]
    content = hashlib.sha256(repr([(c[0], c[1].tolist()) for m in contours for c in m]).encode())
    dataset = _header(images[0], content.hexdigest())
    dataset.ReferencedFrameOfReferenceSequence = [_references(images)]
    dataset.StructureSetROISequence = []
    dataset.ROIContourSequence = []
    dataset.RTROIObservationsSequence = []
    for number, (mask, lines) in enumerate(zip(annotation.masks, contours, strict=True), start=1):
        name = segment_name(mask.lesion, mask.reader)
        dataset.StructureSetROISequence.append(_roi(number, name, images[0]))
        dataset.ROIContourSequence.append(_roi_contours(number, lines, images))
        dataset.RTROIObservationsSequence.append(_observation(number, name))
    beside = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        dataset.save_as(beside, enforce_file_format=True)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def _contours(mask: LesionMask, grid: SeriesGrid) -> list[tuple[int, NDArray[np.float64]]]:
    """Slice and points (x, y, z in mm) of each line of a mask."""
    z0, y0, x0 = mask.start_zyx
    found = []
    for k, plane in enumerate(mask.mask, start=z0):
        for walk in border_walks(plane):
            corners_yx = edge_polygon(walk) + np.array([y0, x0])
            found.append((k, _to_mm(k, corners_yx, grid)))
    return found


def _to_mm(k: int, points_yx: NDArray[np.float64], grid: SeriesGrid) -> NDArray[np.float64]:
    rows, columns = points_yx.T
    index = np.stack([columns, rows, np.full(len(rows), float(k)), np.ones(len(rows))])
    points_mm: NDArray[np.float64] = (grid.affine @ index)[:3].T.round(DECIMALS)
    return points_mm


def _header(image: Dataset, content: str) -> Dataset:
    dataset = Dataset()
    for keyword in _PATIENT_AND_STUDY:
        setattr(dataset, keyword, image.get(keyword, ""))
    uid = str(image.SeriesInstanceUID)
    dataset.SOPClassUID = RTStructureSetStorage
    dataset.SOPInstanceUID = derived_uid("RTSTRUCT", uid, content)
    dataset.SeriesInstanceUID = derived_uid("RTSTRUCT series", uid, content)
    dataset.FrameOfReferenceUID = image.FrameOfReferenceUID
    dataset.PositionReferenceIndicator = image.get("PositionReferenceIndicator", "")
    dataset.Modality = "RTSTRUCT"
    dataset.SeriesNumber = SERIES_NUMBER
    dataset.SeriesDate = dataset.StructureSetDate = dataset.InstanceCreationDate = _DATE
    dataset.SeriesTime = dataset.StructureSetTime = dataset.InstanceCreationTime = _TIME
    dataset.OperatorsName = ""
    dataset.Manufacturer = dataset.ManufacturerModelName = "medlib"
    dataset.DeviceSerialNumber = "0"
    dataset.SoftwareVersions = version("medlib")
    dataset.StructureSetLabel = "LUNG_LESIONS"
    dataset.ApprovalStatus = "UNAPPROVED"
    dataset.InstanceNumber = 1
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = derived_uid("implementation")
    meta.ImplementationVersionName = "MEDLIB"
    dataset.file_meta = meta
    return dataset


def _references(images: Sequence[Dataset]) -> Dataset:
    """Name the frame of reference, the study, the series and every image."""
    series = Dataset()
    series.SeriesInstanceUID = images[0].SeriesInstanceUID
    series.ContourImageSequence = [_image_reference(image) for image in images]
    study = Dataset()
    study.ReferencedSOPClassUID = "1.2.840.10008.3.1.2.3.1"  # Detached Study Management, retired
    study.ReferencedSOPInstanceUID = images[0].StudyInstanceUID
    study.RTReferencedSeriesSequence = [series]
    frame = Dataset()
    frame.FrameOfReferenceUID = images[0].FrameOfReferenceUID
    frame.RTReferencedStudySequence = [study]
    return frame


def _image_reference(image: Dataset) -> Dataset:
    reference = Dataset()
    reference.ReferencedSOPClassUID = image.SOPClassUID
    reference.ReferencedSOPInstanceUID = image.SOPInstanceUID
    return reference


def _roi(number: int, name: str, image: Dataset) -> Dataset:
    roi = Dataset()
    roi.ROINumber = number
    roi.ReferencedFrameOfReferenceUID = image.FrameOfReferenceUID
    roi.ROIName = name
    roi.ROIGenerationAlgorithm = "MANUAL"
    return roi


def _roi_contours(
    number: int, lines: Sequence[tuple[int, NDArray[np.float64]]], images: Sequence[Dataset]
) -> Dataset:
    roi = Dataset()
    roi.ROIDisplayColor = [230, 159, 0]
    roi.ReferencedROINumber = number
    roi.ContourSequence = []
    for k, points_mm in lines:
        contour = Dataset()
        contour.ContourImageSequence = [_image_reference(images[k])]
        contour.ContourGeometricType = "CLOSED_PLANAR"
        contour.NumberOfContourPoints = len(points_mm)
        contour.ContourData = [DSfloat(float(value), auto_format=True) for value in points_mm.flat]
        roi.ContourSequence.append(contour)
    return roi


def _observation(number: int, name: str) -> Dataset:
    observation = Dataset()
    observation.ObservationNumber = number
    observation.ReferencedROINumber = number
    observation.ROIObservationLabel = name[:16]
    observation.RTROIInterpretedType = ""
    observation.ROIInterpreter = ""
    return observation


def read_rtstruct(path: Path, grid: SeriesGrid) -> Annotation:
    """Read a structure set onto the grid of its series.

    Lines that lie on no slice of the series, that have fewer than three points or are declared
    open stay in `Annotation.lines` and in no mask.

    Parameters
    ----------
    path : Path
    grid : SeriesGrid

    Raises
    ------
    InputError
        If the file is no structure set.
    GridMismatchError
        If it belongs to another series.
    """
    try:
        dataset = pydicom.dcmread(path)
        if dataset.get("SOPClassUID") != RTStructureSetStorage:
            raise InputError(f"{path}: not an RTSTRUCT; expected a structure set; choose the file")
        _check_series(path, dataset, grid)
        names = {
            int(roi.ROINumber): parse_name(str(roi.ROIName), int(roi.ROINumber))
            for roi in dataset.StructureSetROISequence
        }
        lines = [
            _line(contour, *names[int(roi.ReferencedROINumber)], grid)
            for roi in dataset.get("ROIContourSequence", ())
            for contour in roi.get("ContourSequence", ())
        ]
    except (InvalidDicomError, OSError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{path}: not a readable RTSTRUCT ({type(error).__name__}); expected a structure set; "
            "export it again"
        ) from error
    by_mask: dict[tuple[int, int], list[Line]] = defaultdict(list)
    for line in lines:
        by_mask[line.lesion, line.reader].append(line)
    masks = [_rasterised(*key, some, grid) for key, some in by_mask.items()]
    return Annotation.gather(grid, masks, lines)


def _check_series(path: Path, dataset: Any, grid: SeriesGrid) -> None:
    named = {
        str(series.SeriesInstanceUID)
        for frame in dataset.get("ReferencedFrameOfReferenceSequence", ())
        for study in frame.get("RTReferencedStudySequence", ())
        for series in study.get("RTReferencedSeriesSequence", ())
    }
    if named and grid.series_instance_uid not in named:
        raise GridMismatchError(
            f"{path}: was drawn on series {sorted(named)[0]}, not on {grid.series_instance_uid}; "
            "give the structure set of this series"
        )


def _line(contour: Dataset, lesion: int, reader: int, grid: SeriesGrid) -> Line:
    points_mm = np.array(contour.ContourData, dtype=np.float64).reshape(-1, 3)
    to_index = np.linalg.inv(grid.affine)
    index_xyz = points_mm @ to_index[:3, :3].T + to_index[:3, 3]
    heights = points_mm[:, 2]
    return Line(
        lesion,
        reader,
        inclusion=True,
        z_mm=float(heights[0]) if len(heights) and np.ptp(heights) < FLAT_MM else float("nan"),
        points_yx=index_xyz[:, [1, 0]],
        declared_open=not str(contour.ContourGeometricType).startswith("CLOSED"),
    )


def _rasterised(lesion: int, reader: int, lines: Sequence[Line], grid: SeriesGrid) -> LesionMask:
    drawable = [
        (k, line.points_yx)
        for line in lines
        if (k := grid.slice_at(line.z_mm)) is not None
        and len(line.points_yx) >= 3
        and not line.declared_open
    ]
    if not drawable:
        return LesionMask.cut(lesion, reader, np.zeros((0, 0, 0), dtype=bool))
    points = np.concatenate([points_yx for _, points_yx in drawable])
    low = np.clip(np.floor(points.min(axis=0)), 0, None).astype(int)
    high = np.minimum(np.ceil(points.max(axis=0)) + 1, grid.shape_zyx[1:]).astype(int)
    slices = [k for k, _ in drawable]
    start = (min(slices), int(low[0]), int(low[1]))
    shape = np.maximum((max(slices) + 1 - start[0], *(high - low)), 0)
    mask = np.zeros(shape, dtype=bool)
    centres = np.argwhere(np.ones(shape[1:], dtype=bool)) + low
    for k, points_yx in drawable:
        mask[k - start[0]] ^= Polygon(points_yx).contains_points(centres).reshape(shape[1:])
    return LesionMask.cut(lesion, reader, mask, start)
