"""The frames of a DICOM SEG on the grid of its series.

Frames are put back by their position in the patient and never by their order: empty frames are
left out of a file, and some writers of the format store the others from the top down.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from medlib.annotation.drawings import GridMismatchError, SeriesGrid

Voxels = NDArray[np.int64]  # shape (n, 3): z, y, x

LEVEL = 0.5  # of MaximumFractionalValue: from there on a voxel of a FRACTIONAL file is inside
# How far a voxel may lie from one of the series: a share of it, or what rounding to 0.1 mm does.
_SHARE, _ROUNDED_MM = 0.1, 0.06
_SLICE_SHARE = 0.25


def _group(dataset: Dataset, number: int, keyword: str) -> Dataset:
    """Return a frame's functional group: its own, else the shared one, else nothing."""
    own = dataset.PerFrameFunctionalGroupsSequence[number]
    for groups in (own, *dataset.get("SharedFunctionalGroupsSequence", ())[:1]):
        for item in groups.get(keyword, ())[:1]:
            return Dataset(item)
    return Dataset()


def segment_numbers(dataset: Dataset) -> list[int]:
    """Return the segment of each frame; a LABELMAP has those of a frame's values in one."""
    if dataset.SegmentationType == "LABELMAP":
        frames = dataset.pixel_array.reshape(-1, dataset.Rows, dataset.Columns)
        return [number for frame in frames for number in np.unique(frame).tolist()]
    return [
        int(_group(dataset, k, "SegmentIdentificationSequence").ReferencedSegmentNumber)
        for k in range(len(dataset.get("PerFrameFunctionalGroupsSequence", ())))
    ]


def level_notes(dataset: Dataset) -> list[str]:
    """Say how a FRACTIONAL file became a mask."""
    if dataset.SegmentationType != "FRACTIONAL":
        return []
    kind = str(dataset.get("SegmentationFractionalType", "")).lower() or "fraction"
    return [f"FRACTIONAL ({kind}): inside is what has {LEVEL:g} of the highest value or more"]


def marked_voxels(
    path: Path, dataset: Dataset, segments: Sequence[int], grid: SeriesGrid
) -> dict[int, Voxels]:
    """Return the voxels of the series that each of these segments holds.

    GridMismatchError if any of them is no voxel of the series.
    """
    pixels = dataset.pixel_array.reshape(-1, dataset.Rows, dataset.Columns)
    found: dict[int, list[Voxels]] = {number: [] for number in segments}
    outside: Counter[int] = Counter()
    for k, number, plane in _planes(dataset, pixels, segments):
        if number in found and plane.any():
            voxels = _on_grid(path, dataset, k, np.argwhere(plane), grid)
            inside = ((voxels >= 0) & (voxels < grid.shape_zyx)).all(axis=1)
            found[number].append(voxels[inside])
            outside[number] += int((~inside).sum())
    for number, count in outside.items():
        if count:
            raise GridMismatchError(
                f"{path}: {count} voxels of segment {number} lie outside the series; give the "
                "whole series, or the segmentation of this one"
            )
    nothing = np.zeros((0, 3), dtype=np.int64)
    return {number: np.concatenate([nothing, *some]) for number, some in found.items()}


def _planes(
    dataset: Dataset, pixels: NDArray[Any], segments: Sequence[int]
) -> Iterator[tuple[int, int, NDArray[np.bool_]]]:
    """Yield frame, segment and what is inside there."""
    if dataset.SegmentationType == "LABELMAP":
        for k, frame in enumerate(pixels):
            yield from ((k, number, frame == number) for number in segments)
        return
    fractional = dataset.SegmentationType == "FRACTIONAL"
    least = LEVEL * float(dataset.MaximumFractionalValue) if fractional else 1
    for k, number in enumerate(segment_numbers(dataset)):
        yield k, number, pixels[k] >= least


def _on_grid(
    path: Path, dataset: Dataset, number: int, rows_columns: Voxels, grid: SeriesGrid
) -> Voxels:
    """Return the voxels of the series at these pixels of a frame."""
    to_index = np.linalg.inv(grid.affine) @ _frame_affine(dataset, number)
    ends = np.array([dataset.Columns - 1, dataset.Rows - 1])
    steps = to_index[:3, :2].round()
    corner = to_index[:3, 3].round()
    far = np.abs(to_index[:3, 3] - corner), np.abs((to_index[:3, :2] - steps) * ends).max(axis=1)
    allowed = np.maximum(_SHARE, _ROUNDED_MM / np.array(grid.spacing_mm[::-1]))
    allowed[2] = _SLICE_SHARE
    if (np.sum(far, axis=0) > allowed).any() or not np.array_equal(steps.T @ steps, np.eye(2)):
        raise GridMismatchError(
            f"{path}: frame {number + 1} does not lie on the voxels of the series; give the "
            "segmentation of this series"
        )
    index_xyz = rows_columns[:, ::-1] @ steps.T + corner
    voxels = index_xyz[:, ::-1].astype(np.int64)
    _check_drawn_on(path, dataset, number, set(voxels[:, 0].tolist()), grid)
    return voxels


def _frame_affine(dataset: Dataset, number: int) -> NDArray[np.float64]:
    """Map column and row of a frame to patient coordinates in mm."""
    to_patient = hd.spatial.PixelToReferenceTransformer(
        _group(dataset, number, "PlanePositionSequence").ImagePositionPatient,
        _group(dataset, number, "PlaneOrientationSequence").ImageOrientationPatient,
        _group(dataset, number, "PixelMeasuresSequence").PixelSpacing,
    )
    return np.asarray(to_patient.affine)


def _check_drawn_on(
    path: Path, dataset: Dataset, number: int, lies_on: set[int], grid: SeriesGrid
) -> None:
    """Compare where a frame lies with the image that it says it was drawn on."""
    images = [
        image
        for item in dataset.PerFrameFunctionalGroupsSequence[number].get(
            "DerivationImageSequence", ()
        )
        for image in item.get("SourceImageSequence", ())
    ]
    drawn_on = {k for image in images for k in _slices_of(image, grid)}
    if drawn_on and drawn_on.isdisjoint(lies_on):
        raise GridMismatchError(
            f"{path}: frame {number + 1} was drawn on slice {min(drawn_on)} and lies on "
            f"{min(lies_on)}: flipped or misplaced; export it again"
        )


def _slices_of(image: Dataset, grid: SeriesGrid) -> list[int]:
    uid, frames = image.ReferencedSOPInstanceUID, image.get("ReferencedFrameNumber")
    numbers = () if frames is None else np.atleast_1d(frames).astype(int)
    return [
        k
        for k, own in enumerate(grid.sop_instance_uids)
        if own == uid
        and (not grid.frame_numbers or not len(numbers) or grid.frame_numbers[k] in numbers)
    ]
