"""Masks as DICOM Segmentation: BINARY, on the source grid, one segment a lesion and reader.

Written and read by highdicom. Frames are put back by their position in the
patient and never by their order: empty frames are left out of a file, and some readers of the
format return the others from the top down.
"""

from __future__ import annotations

import hashlib
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
from highdicom.sr.coding import CodedConcept
from numpy.typing import NDArray
from pydicom.errors import InvalidDicomError

from medlib.annotation.drawings import Annotation, GridMismatchError, LesionMask, SeriesGrid
from medlib.annotation.source_images import (
    check_series,
    derived_uid,
    parse_name,
    segment_name,
    source_images,
)
from medlib.errors import InputError
from medlib.files import put_in_place

# SNOMED CT. "Nodule" is what is seen; a code for a neoplasm would be a diagnosis.
CATEGORY = CodedConcept("49755003", "SCT", "Morphologically Abnormal Structure")
NODULE = CodedConcept("27925004", "SCT", "Nodule")
LUNG = CodedConcept("39607008", "SCT", "Lung")
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
                _description(number, mask, series_uid)
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
            content_description="Lung lesions as readers outlined them",
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


def _description(number: int, mask: LesionMask, series_uid: str) -> hd.seg.SegmentDescription:
    return hd.seg.SegmentDescription(
        segment_number=number,
        segment_label=segment_name(mask.lesion, mask.reader),
        segmented_property_category=CATEGORY,
        segmented_property_type=NODULE,
        anatomic_regions=[LUNG],
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues.MANUAL,
        tracking_uid=derived_uid("lesion", series_uid, str(mask.lesion)),
        tracking_id=f"Lesion {mask.lesion}",
    )


def read_seg(path: Path, grid: SeriesGrid) -> Annotation:
    """Read a BINARY segmentation onto the grid of its series, by geometry.

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
    masks = []
    for number in segmentation.segment_numbers:
        name = segmentation.get_segment_description(number).SegmentLabel
        mask = _segment(path, segmentation, number, grid)
        masks.append(LesionMask.cut(*parse_name(name, number), mask))
    return Annotation.gather(grid, masks)


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
