"""Masks as DICOM Segmentation: BINARY, on the source grid, one segment a lesion and reader.

Written by highdicom. Read by `medlib.annotation.seg_frames`, also what others write: FRACTIONAL,
LABELMAP, and files whose references highdicom refuses.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from copy import deepcopy
from importlib.metadata import version
from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
from highdicom.sr.coding import CodedConcept
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from medlib.annotation.drawings import (
    READER,
    UNKNOWN,
    Annotation,
    Author,
    Code,
    LesionMask,
    SeriesGrid,
)
from medlib.annotation.seg_frames import level_notes, marked_voxels, segment_numbers
from medlib.annotation.source_images import (
    check_series,
    derived_uid,
    reading,
    references,
    save,
    source_images,
)
from medlib.annotation.structures import NODULE, Structure, author_in, choose, code_of, label_of
from medlib.images.image_grids import as_stored

LUNG = CodedConcept("39607008", "SCT", "Lung")
# CID 7162; what the field's algorithms are.
FAMILY = CodedConcept("123109", "DCM", "Artificial Intelligence")
NOT_STATED = "not stated"  # where a name or version has to stand
WEIGHTS = "weights_sha256"
SERIES_NUMBER = 300


def write_seg(annotation: Annotation, path: Path, series: Path) -> None:
    """Write every mask as a segment; patient, study and references come from the images' folder."""
    images, whose = source_images(annotation, series, "SEG")
    slices, pixels = _frames(annotation)
    series_uid = annotation.grid.series_instance_uid
    said = annotation.authors, [(label_of(annotation, m), m.start_zyx) for m in annotation.masks]
    content = (series_uid, repr(said))
    segmentation = hd.seg.Segmentation(
        source_images=[_single(images[k]) for k in slices],
        pixel_array=pixels,
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=[
            _description(number, mask, annotation)
            for number, mask in enumerate(annotation.masks, start=1)
        ],
        series_instance_uid=derived_uid("SEG series", *content),
        series_number=SERIES_NUMBER,
        sop_instance_uid=derived_uid("SEG", *content, hashlib.sha256(pixels.tobytes()).hexdigest()),
        instance_number=1,
        manufacturer="medlib",
        manufacturer_model_name="medlib",
        software_versions=version("medlib"),
        device_serial_number="0",
        content_label="LUNG_LESIONS",
        content_description="Lung lesions as outlined or marked",
    )
    if annotation.grid.frame_numbers:
        _refer_to_frames(segmentation, images, annotation.grid)
    save(segmentation, whose, path)


def _single(image: Dataset) -> Dataset:
    """Let a frame pass for an image of its own: highdicom takes one multi-frame file, and whole."""
    if "ReferencedFrameNumber" not in image:
        return image
    single = deepcopy(image)
    single.SOPClassUID = CTImageStorage
    single.SOPInstanceUID = derived_uid(image.SOPInstanceUID, str(image.ReferencedFrameNumber))
    return single


def _refer_to_frames(segmentation: Dataset, images: list[Dataset], grid: SeriesGrid) -> None:
    """Name a multi-frame file once, and the frame that each mask was drawn on."""
    for series in segmentation.ReferencedSeriesSequence:
        series.ReferencedInstanceSequence = references(images)
        for item in series.ReferencedInstanceSequence:
            del item.ReferencedFrameNumber
    for frame in segmentation.PerFrameFunctionalGroupsSequence:
        k = grid.slice_at(float(frame.PlanePositionSequence[0].ImagePositionPatient[2]))
        for source in frame.DerivationImageSequence[0].SourceImageSequence:
            source.update(references([images[k or 0]])[0])


def _frames(annotation: Annotation) -> tuple[list[int], NDArray[np.uint8]]:
    """Slices that hold anything, and the masks there as stored: (slice, row, column, segment)."""
    filled = [np.flatnonzero(mask.mask.any(axis=(1, 2))) for mask in annotation.masks]
    first = [mask.start_zyx[0] for mask in annotation.masks]
    slices = np.unique(np.concatenate([k + own for k, own in zip(first, filled, strict=True)]))
    shape = (len(slices), *annotation.grid.shape_zyx[1:], len(filled))
    pixels = np.zeros(shape, dtype=np.uint8)
    for number, (mask, own) in enumerate(zip(annotation.masks, filled, strict=True)):
        rows = np.searchsorted(slices, own + mask.start_zyx[0])
        pixels[rows, *mask.block[1:], number] = mask.mask[own]
    turned = [as_stored(pixels[..., number], annotation.grid) for number in range(len(filled))]
    return slices.tolist(), np.stack(turned, axis=-1)


def _description(
    number: int, mask: LesionMask, annotation: Annotation
) -> hd.seg.SegmentDescription:
    category, kind = (CodedConcept(*code) for code in code_of(annotation, mask.lesion))
    author, name = annotation.author(mask.reader), annotation.names.get(mask.lesion, "")
    types, algorithm = hd.seg.SegmentAlgorithmTypeValues, None
    if author.kind == "algorithm":
        weights = {WEIGHTS: author.weights_sha256} if author.weights_sha256 else None
        algorithm = hd.AlgorithmIdentificationSequence(
            author.name[:64], FAMILY, author.version[:64] or NOT_STATED, parameters=weights
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
        tracking_id=name or f"Lesion {mask.lesion}",
    )
    if name:
        description.SegmentDescription = name
    return description


def read_seg(path: Path, grid: SeriesGrid, rois: Sequence[str] = ()) -> Annotation:
    """Read segments that `choose` takes onto the grid of their series, by geometry.

    GridMismatchError if it belongs to another series, its voxels do not coincide with those of the
    series, or a frame lies elsewhere than the image that it was drawn on.
    """
    with reading(path, "DICOM SEG"):
        dataset = pydicom.dcmread(path, force=True)
        if "TransferSyntaxUID" not in dataset.file_meta:
            implicit, _ = dataset.original_encoding
            found = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
            dataset.file_meta.TransferSyntaxUID = found
        check_series(path, dataset.get("ReferencedSeriesSequence", ()), grid)
        choice = choose(path, list_structures(dataset), rois)
        voxels = marked_voxels(path, dataset, list(choice.keys), grid)
        masks = [_mask(*key, voxels[number]) for number, key in choice.keys.items()]
        return choice.label(Annotation.gather(grid, masks), *level_notes(dataset))


def _mask(lesion: int, reader: int, index_zyx: NDArray[np.int64]) -> LesionMask:
    if not len(index_zyx):
        return LesionMask(lesion, reader, (0, 0, 0), np.zeros((0, 0, 0), dtype=bool))
    z, y, x = index_zyx.min(axis=0).tolist()
    block = np.zeros(index_zyx.max(axis=0) + 1 - (z, y, x), dtype=bool)
    block[tuple((index_zyx - (z, y, x)).T)] = True
    return LesionMask(lesion, reader, (z, y, x), block)


def list_structures(dataset: Dataset) -> list[Structure]:
    """Return what a segmentation holds."""
    frames = Counter(segment_numbers(dataset))
    found = []
    for segment in dataset.SegmentSequence:
        number, label = int(segment.SegmentNumber), str(segment.get("SegmentLabel", ""))
        category, kind = (
            _code(segment.get(f"SegmentedProperty{what}CodeSequence"))
            for what in ("Category", "Type")
        )
        code = (category, kind) if category and kind else None
        author = author_in(label, _author(segment))
        own = str(segment.get("SegmentDescription", ""))
        meaning = kind[2] if kind else ""
        found.append(Structure(number, label, meaning, author, frames[number], code, own))
    return found


def _code(sequence: Sequence[Dataset] | None) -> Code | None:
    """Return a code that is whole, and can be written again."""
    [item, *_] = sequence or [Dataset()]
    value = str(item.get("CodeValue") or item.get("LongCodeValue") or "")
    scheme, meaning = str(item.get("CodingSchemeDesignator", "")), str(item.get("CodeMeaning", ""))
    fits = value and 0 < len(scheme) <= 16 and 0 < len(meaning) <= 64
    return (value, scheme, meaning) if fits else None


def _author(segment: Dataset) -> Author:
    kind = str(segment.get("SegmentAlgorithmType", ""))
    if kind == "MANUAL":
        return READER
    if kind not in ("AUTOMATIC", "SEMIAUTOMATIC"):
        return UNKNOWN
    [said, *_] = segment.get("SegmentationAlgorithmIdentificationSequence") or [Dataset()]
    name = str(said.get("AlgorithmName") or segment.get("SegmentAlgorithmName") or NOT_STATED)
    stated = str(said.get("AlgorithmVersion") or "")
    weights = str(said.get("AlgorithmParameters") or "").partition(f"{WEIGHTS}=")[2].split(",")[0]
    version = "" if stated == NOT_STATED else stated
    return Author("algorithm", name, version, weights, kind == "SEMIAUTOMATIC")
