"""The images of a series on one even, straight, axial grid, or the reason why they are not."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from medlib.images import image_errors as errors
from medlib.images.dicom_acquisitions import refuse_interleaved_sets, refuse_mixed_acquisitions
from medlib.images.dicom_find import shown
from medlib.images.dicom_frames import Frame
from medlib.images.dicom_header import text_of
from medlib.images.dicom_pixels import same_hounsfield

_SAME_POSITION_MM = 0.06  # headers round to a tenth
_EVEN_WITHIN_MM = 0.1  # positions in headers are often rounded to a tenth
_EVEN_WITHIN_SHARE = 0.05
_AXIS_TOLERANCE = 0.01  # sine of the angle: about half a degree
_AXIAL = ((1, 0, 0, 0, 1, 0), (0, 1, 0, 1, 0, 0))  # rows along x; or along y, as in decubitus
_TILT_DEGREES = 0.6
_SLICE_MM = (0.01, 100.0)
_POSITIONS_NAMED = 4
_MANY_GAPS = 0.25  # more may also be a part of the patient with twice the slices


def stack_frames(frames: list[Frame]) -> tuple[list[Frame], NDArray[np.float64], list[str]]:
    """Put the images of one series, at least one, on their grid.

    Returns the frames in ascending z, the affine of their pixels as stored (x along the rows), and
    reservations. Raises InputError if they do not lie on one even, straight, axial grid.
    """
    frames = sorted(frames, key=_place)
    for frame in frames:
        _check_frame(frame, frames[0])
    frames, notes = _without_copies(frames)
    refuse_mixed_acquisitions(frames)
    step, more = _slice_step(frames)
    first = frames[0]
    affine = np.eye(4)
    affine[:3, 0] = np.array(first.orientation[:3]) * first.pixel_spacing_mm[1]
    affine[:3, 1] = np.array(first.orientation[3:]) * first.pixel_spacing_mm[0]
    affine[:3, 2] = step
    affine[:3, 3] = first.position_mm
    return frames, affine, [*notes, *more, *_numbering_notes(frames)]


def _place(frame: Frame) -> tuple[object, ...]:
    """Height; and of copies comes first, and is kept, the one with the lowest number or UID."""
    instance = frame.instance_number
    uid = str(frame.header.get("SOPInstanceUID"))
    return frame.z, np.inf if instance is None else instance, uid, frame.index


def _check_frame(frame: Frame, first: Frame) -> None:
    """Refuse an image of another patient, matrix, size or direction than the first, or askew."""
    for keyword in ("PatientID", "FrameOfReferenceUID"):
        if frame.header.get(keyword) != first.header.get(keyword):
            raise errors.InconsistentSeriesError(
                f"{frame.name} and {first.name} differ in {keyword}; expected one patient in one "
                "position; separate the files and export the series again"
            )
    for keyword in ("Rows", "Columns"):
        found, expected = frame.header.whole(keyword), first.header.whole(keyword)
        if found != expected:
            raise errors.InconsistentMatrixError(
                f"{frame.name} has {keyword} {found}, {first.name} {expected}; expected one "
                "matrix; separate the reconstructions"
            )
    size_mm, expected_mm = frame.pixel_spacing_mm, first.pixel_spacing_mm
    if not _near(size_mm, expected_mm, 1e-3 * min(expected_mm)):
        raise errors.InconsistentMatrixError(
            f"{frame.name} has pixels of {size_mm} mm, {first.name} of {expected_mm}; expected one "
            "size; separate the reconstructions"
        )
    if not _near(frame.orientation, first.orientation, _AXIS_TOLERANCE):
        raise errors.MixedOrientationsError(
            f"{frame.name} is turned against {first.name}; expected one orientation; separate the "
            "series"
        )
    if not any(_near(map(abs, frame.orientation), axes, _AXIS_TOLERANCE) for axes in _AXIAL):
        shown = [round(value, 3) for value in frame.orientation]
        raise errors.ObliqueError(
            f"{frame.name} has ImageOrientationPatient {shown}; expected axial slices without "
            "tilt; reconstruct the series axially"
        )
    tilt = frame.header.number("GantryDetectorTilt")
    if tilt is not None and abs(tilt) > _TILT_DEGREES:
        raise errors.ObliqueError(
            f"{frame.name} states a gantry tilt of {tilt:g} degrees, its position none: one of "
            "them is wrong; expected no tilt; reconstruct the series without tilt"
        )


def _near(values: Iterable[float], expected: Iterable[float], within: float) -> bool:
    return all(abs(a - b) <= within for a, b in zip(values, expected, strict=True))


def _without_copies(frames: list[Frame]) -> tuple[list[Frame], list[str]]:
    """Drop images that are copies of another; two different images in one place are refused."""
    kept = frames[:1]
    for frame in frames[1:]:
        before = kept[-1]
        if frame.z - before.z > _SAME_POSITION_MM:
            kept.append(frame)
        elif (
            frame.header is before.header
            or not _near(frame.position_mm, before.position_mm, _SAME_POSITION_MM)
            or not same_hounsfield(frame, before)
        ):
            refuse_mixed_acquisitions(frames)
            raise errors.DuplicateSlicesError(
                f"{before.name} and {frame.name} lie both at z = {frame.z:g} mm; expected one "
                "image a position; separate the phases or reconstructions"
            )
    copies = len(frames) - len(kept)
    return kept, [f"{copies} file(s) are copies of another and were passed over"] * (copies > 0)


def _slice_step(frames: list[Frame]) -> tuple[NDArray[np.float64], list[str]]:
    """Vector from one slice to the next in mm, and notes."""
    if len(frames) == 1:
        return _step_of_single_slice(frames[0])
    positions = np.array([frame.position_mm for frame in frames])
    gaps = np.diff(positions[:, 2])
    usual = float(np.quantile(gaps, 0.25, method="lower"))  # the median of few can be a gap
    wide = np.flatnonzero(gaps > 1.5 * usual)
    if len(wide):
        refuse_interleaved_sets(positions[:, 2])
        _refuse_gaps(positions[:, 2], usual, wide)
    tolerance = max(_EVEN_WITHIN_MM, _EVEN_WITHIN_SHARE * usual)
    mean = (positions[-1] - positions[0]) / (len(frames) - 1)
    even = positions[0] + np.arange(len(frames))[:, None] * mean
    apart = np.abs(positions - even).max(axis=0)
    if apart[2] > tolerance or np.ptp(gaps) > 2 * tolerance:
        refuse_interleaved_sets(positions[:, 2])
        raise errors.UnevenSpacingError(
            f"slices are {gaps.min():g} to {gaps.max():g} mm apart; expected one distance; "
            "reconstruct the series evenly"
        )
    sideways = float(np.hypot(mean[0], mean[1])) / float(mean[2])
    if sideways > _AXIS_TOLERANCE or max(apart[:2]) > 1.0:
        raise errors.ObliqueError(
            f"the slices move {sideways:.2f} mm sideways for each mm of height; expected a "
            "straight stack (no gantry tilt); reconstruct the series without tilt"
        )
    if not _SLICE_MM[0] <= mean[2] <= _SLICE_MM[1]:
        raise errors.SpacingError(
            f"slices are {mean[2]:g} mm apart; expected {_SLICE_MM[0]:g} to {_SLICE_MM[1]:g} mm; "
            "export the series again"
        )
    notes = []
    thickness = frames[0].thickness_mm
    if thickness is not None and mean[2] > 1.5 * thickness > 0:
        notes.append(
            f"slices are {mean[2]:g} mm apart but {thickness:g} mm thick: what lies between them "
            "was not imaged"
        )
    return np.array([0.0, 0.0, mean[2]]), notes


def _refuse_gaps(z: NDArray[np.float64], usual: float, wide: NDArray[np.intp]) -> None:
    counts = [max(round(float(z[k + 1] - z[k]) / usual) - 1, 1) for k in wide]
    absent = [
        z[k] + (n + 1) * usual
        for k, count in zip(wide[:_POSITIONS_NAMED], counts, strict=False)
        for n in range(min(count, _POSITIONS_NAMED))
    ][:_POSITIONS_NAMED]
    where = ", ".join(f"{height:g}" for height in absent) + ", ..." * (sum(counts) > len(absent))
    twice = ", or separate what was acquired twice" * (len(wide) > _MANY_GAPS * len(z))
    raise errors.MissingSlicesError(
        f"{len(z)} slices {usual:g} mm apart, about {sum(counts)} missing at z = {where} mm; "
        f"expected no gap; fetch the whole series{twice}"
    )


def _step_of_single_slice(frame: Frame) -> tuple[NDArray[np.float64], list[str]]:
    thickness = frame.thickness_mm
    if thickness is None or not _SLICE_MM[0] <= thickness <= _SLICE_MM[1]:
        text = text_of(frame.header.dataset, "SliceThickness")
        found = f"with SliceThickness '{shown(text)}'" if text else "without SliceThickness"
        raise errors.SpacingError(
            f"a single slice {found}; expected several slices, or a thickness in mm; give the "
            "whole series"
        )
    note = f"a single slice: its thickness of {thickness:g} mm stands in for the slice distance"
    return np.array([0.0, 0.0, thickness]), [note]


def _numbering_notes(frames: list[Frame]) -> list[str]:
    """Holes in the numbering: slices may be missing at an end, where positions do not tell."""
    known = {frame.instance_number for frame in frames if frame.instance_number is not None}
    holes = int(max(known) - min(known)) + 1 - len(known) if len(known) == len(frames) else 0
    note = f"{holes} of the series' image numbers do not occur: it may be incomplete"
    return [note] * (holes > 0)
