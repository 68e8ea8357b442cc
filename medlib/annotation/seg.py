"""Masks as DICOM Segmentation: BINARY, on the source grid, one segment a lesion and reader.

Written and read by highdicom. Frames are put back by their position in the
patient and never by their order: empty frames are left out of a file, and some readers of the
format return the others from the top down.
"""

from __future__ import annotations

import hashlib
import warnings
from collections import Counter
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
from highdicom.sr.coding import CodedConcept
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError

from medlib.annotation.drawings import (
    READER,
    UNKNOWN,
    Annotation,
    Author,
    GridMismatchError,
    LesionMask,
    SeriesGrid,
)
from medlib.annotation.source_images import check_series, derived_uid, source_images
from medlib.annotation.structures import NODULE, Structure, author_in, choose, code_of, label_of
from medlib.errors import InputError
from medlib.files import put_in_place

LUNG = CodedConcept("39607008", "SCT", "Lung")
# CID 7162; what the field's algorithms are.
FAMILY = CodedConcept("123109", "DCM", "Artificial Intelligence")
NOT_STATED = "not stated"  # where a name or version has to stand
WEIGHTS = "weights_sha256"
SERIES_NUMBER = 300


def write_seg(annotation: Annotation, path: Path, series: Path) -> None:
    """Write every mask as a segment; patient, study and references come from the images' folder."""
    images = source_images(annotation, series, "SEG")
    slices, pixels = _frames(annotation)
    series_uid = annotation.grid.series_instance_uid
    content = (series_uid, repr([(m.lesion, m.reader, m.start_zyx) for m in annotation.masks]))
    with warnings.catch_warnings():
        # On names of one part, such as those that de-identification leaves.
        warnings.filterwarnings("ignore", message="The string .* person name")
        segmentation = hd.seg.Segmentation(
            source_images=[images[k] for k in slices],
            pixel_array=pixels,
            segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
            segment_descriptions=[
                _description(number, mask, annotation)
                for number, mask in enumerate(annotation.masks, start=1)
            ],
            series_instance_uid=derived_uid("SEG series", *content),
            series_number=SERIES_NUMBER,
            sop_instance_uid=derived_uid(
                "SEG", *content, hashlib.sha256(pixels.tobytes()).hexdigest()
            ),
            instance_number=1,
            manufacturer="medlib",
            manufacturer_model_name="medlib",
            software_versions=version("medlib"),
            device_serial_number="0",
            content_label="LUNG_LESIONS",
            content_description="Lung lesions as outlined or marked",
        )
    with put_in_place(path) as beside:
        segmentation.save_as(beside)


def _frames(annotation: Annotation) -> tuple[list[int], NDArray[np.uint8]]:
    """Slices that hold anything, and the masks there: shape (slice, y, x, segment)."""
    filled = [np.flatnonzero(mask.mask.any(axis=(1, 2))) for mask in annotation.masks]
    first = [mask.start_zyx[0] for mask in annotation.masks]
    slices = np.unique(np.concatenate([k + own for k, own in zip(first, filled, strict=True)]))
    shape = (len(slices), *annotation.grid.shape_zyx[1:], len(filled))
    pixels = np.zeros(shape, dtype=np.uint8)
    for number, (mask, own) in enumerate(zip(annotation.masks, filled, strict=True)):
        rows = np.searchsorted(slices, own + mask.start_zyx[0])
        pixels[rows, *mask.block[1:], number] = mask.mask[own]
    return slices.tolist(), pixels


def _description(
    number: int, mask: LesionMask, annotation: Annotation
) -> hd.seg.SegmentDescription:
    category, kind = (CodedConcept(*code) for code in code_of(annotation, mask.lesion))
    author = annotation.author(mask.reader)
    types, algorithm = hd.seg.SegmentAlgorithmTypeValues, None
    if author.kind == "algorithm":
        weights = {WEIGHTS: author.weights_sha256} if author.weights_sha256 else None
        algorithm = hd.AlgorithmIdentificationSequence(
            author.name, FAMILY, author.version or NOT_STATED, parameters=weights
        )
    steered = types.SEMIAUTOMATIC if author.steered else types.AUTOMATIC
    description = hd.seg.SegmentDescription(
        segment_number=number,
        segment_label=label_of(annotation, mask),
        segmented_property_category=category,
        segmented_property_type=kind,
        anatomic_regions=[LUNG] if kind.value == NODULE[0] else None,
        algorithm_type=steered if algorithm else types.MANUAL,
        algorithm_identification=algorithm,
        tracking_uid=derived_uid("lesion", annotation.grid.series_instance_uid, str(mask.lesion)),
        tracking_id=f"Lesion {mask.lesion}",
    )
    if name := annotation.names.get(mask.lesion):
        description.SegmentDescription = name
    return description


def read_seg(path: Path, grid: SeriesGrid, rois: Sequence[str] = ()) -> Annotation:
    """Read segments that `choose` takes onto the grid of their series, by geometry.

    GridMismatchError if it belongs to another series, its voxels do not coincide with those of the
    series, or a frame lies elsewhere than the image that it was drawn on.
    """
    try:
        segmentation = hd.seg.segread(path)
    except (InvalidDicomError, OSError, AttributeError, ValueError, TypeError, KeyError) as error:
        raise InputError(
            f"{path}: not a readable DICOM SEG ({type(error).__name__}); expected a segmentation; "
            "export it again"
        ) from error
    if segmentation.segmentation_type != hd.seg.SegmentationTypeValues.BINARY:
        raise InputError(
            f"{path}: a {segmentation.SegmentationType} segmentation; expected BINARY; export it "
            "as BINARY"
        )
    _check_references(path, segmentation, grid)
    choice = choose(path, list_segments(segmentation), rois)
    masks = [
        LesionMask.cut(*key, _segment(path, segmentation, number, grid))
        for number, key in choice.keys.items()
    ]
    return choice.label(Annotation.gather(grid, masks))


def list_segments(dataset: Dataset) -> list[Structure]:
    """Return what a segmentation holds."""
    frames = Counter(
        int(item.ReferencedSegmentNumber)
        for frame in dataset.get("PerFrameFunctionalGroupsSequence", ())
        for item in frame.get("SegmentIdentificationSequence", ())
    )
    found = []
    for segment in dataset.SegmentSequence:
        number, label = int(segment.SegmentNumber), str(segment.get("SegmentLabel", ""))
        codes = [
            (str(code.get("CodeValue", "")), str(code.get("CodingSchemeDesignator", "")), meaning)
            for keyword in ("SegmentedPropertyCategory", "SegmentedPropertyType")
            for code in segment.get(f"{keyword}CodeSequence", ())[:1]
            for meaning in [str(code.get("CodeMeaning", ""))]
        ]
        code = (codes[0], codes[1]) if len(codes) == 2 else None
        kind = code[1][2] if code else ""
        author = author_in(label, _author(segment))
        found.append(Structure(number, label, kind, author, frames[number], code))
    return found


def _author(segment: Dataset) -> Author:
    kind = str(segment.get("SegmentAlgorithmType", ""))
    if kind == "MANUAL":
        return READER
    if kind not in ("AUTOMATIC", "SEMIAUTOMATIC"):
        return UNKNOWN
    name, version, weights = str(segment.get("SegmentAlgorithmName", "")), "", ""
    for item in segment.get("SegmentationAlgorithmIdentificationSequence", ())[:1]:
        name, version = str(item.get("AlgorithmName", name)), str(item.get("AlgorithmVersion", ""))
        weights = dict(
            part.split("=", 1)
            for part in str(item.get("AlgorithmParameters", "")).split(",")
            if "=" in part
        ).get(WEIGHTS, "")
    version = "" if version == NOT_STATED else version
    return Author("algorithm", name or NOT_STATED, version, weights, kind == "SEMIAUTOMATIC")


def _segment(path: Path, segmentation: Any, number: int, grid: SeriesGrid) -> NDArray[np.bool_]:
    affine = grid.affine[:, [2, 1, 0, 3]]  # highdicom counts slice, row, column
    geometry = hd.VolumeGeometry(affine, grid.shape_zyx, coordinate_system="PATIENT")
    try:
        found = segmentation.get_volume(
            segment_numbers=[number], combine_segments=False, allow_missing_positions=True
        )
        matched = found.match_geometry(geometry)
    except (RuntimeError, ValueError) as error:
        raise GridMismatchError(
            f"{path}: segment {number} does not lie on the voxels of the series ({error}); give "
            "the segmentation of this series"
        ) from error
    lost = int(found.array.sum(dtype=np.int64)) - int(matched.array.sum(dtype=np.int64))
    if lost:
        raise GridMismatchError(
            f"{path}: {lost} voxels of segment {number} lie outside the series; give the "
            "segmentation of this series"
        )
    return np.asarray(matched.array[..., 0] > 0)


def _check_references(path: Path, segmentation: Any, grid: SeriesGrid) -> None:
    """Compare where frames lie with what they say they were drawn on."""
    check_series(path, segmentation.get("ReferencedSeriesSequence", ()), grid)
    slice_of = {uid: k for k, uid in enumerate(grid.sop_instance_uids)}
    for number, frame in enumerate(segmentation.PerFrameFunctionalGroupsSequence, start=1):
        if "PlanePositionSequence" not in frame:
            continue
        lies_on = grid.slice_at(float(frame.PlanePositionSequence[0].ImagePositionPatient[2]))
        for derivation in frame.get("DerivationImageSequence", ()):
            for image in derivation.get("SourceImageSequence", ()):
                drawn_on = slice_of.get(image.ReferencedSOPInstanceUID)
                if drawn_on is not None and drawn_on != lies_on:
                    raise GridMismatchError(
                        f"{path}: frame {number} was drawn on slice {drawn_on} and lies on "
                        f"{'none' if lies_on is None else lies_on}: flipped or misplaced; export "
                        "it again"
                    )
