"""The images of a series on one even, straight, axial grid, or the reason why they are not."""

from __future__ import annotations

import filecmp

import numpy as np
from numpy.typing import NDArray

from medlib.images.dicom_frames import Frame
from medlib.images.image_errors import (
    DuplicateSlicesError,
    InconsistentMatrixError,
    InconsistentSeriesError,
    MissingSlicesError,
    MixedOrientationsError,
    ObliqueError,
    SpacingError,
    UnevenSpacingError,
)

_SAME_POSITION_MM = 0.01
_EVEN_WITHIN_MM = 0.1  # positions in headers are often rounded to a tenth
_EVEN_WITHIN_SHARE = 0.05
_AXIS_TOLERANCE = 0.01  # sine of the angle: about half a degree
_TILT_DEGREES = 0.6
_SLICE_MM = (0.01, 100.0)
_POSITIONS_NAMED = 4


def stack_frames(
    series: str, frames: list[Frame]
) -> tuple[list[Frame], NDArray[np.float64], list[str]]:
    """Put the images of one series, at least one, on their grid.

    Returns
    -------
    frames : list of Frame
        In ascending z.
    affine : ndarray of float64, shape (4, 4)
        As in `medlib.images.volume.Volume`.
    notes : list of str
        Reservations.

    Raises
    ------
    InputError
        If they do not lie on one even, straight, axial grid. Its message calls them `series`.
    """
    frames = sorted(frames, key=lambda frame: frame.z)
    _check_same(series, frames)
    _check_axial(series, frames)
    frames, notes = _without_copies(series, frames)
    step, more = _slice_step(series, frames)
    first = frames[0]
    affine = np.eye(4)
    affine[:3, 0] = np.array(first.orientation[:3]) * first.pixel_spacing_mm[1]
    affine[:3, 1] = np.array(first.orientation[3:]) * first.pixel_spacing_mm[0]
    affine[:3, 2] = step
    affine[:3, 3] = first.position_mm
    return frames, affine, [*notes, *more, *_numbering_notes(frames)]


def _check_same(series: str, frames: list[Frame]) -> None:
    """Refuse images of different patients, matrices, pixel sizes or directions."""
    first = frames[0]
    for keyword in ("PatientID", "FrameOfReferenceUID"):
        expected = first.header.get(keyword)
        for frame in frames:
            if frame.header.get(keyword) != expected:
                raise InconsistentSeriesError(
                    f"{series}: {frame.name} and {first.name} differ in {keyword}; expected one "
                    "patient in one position; separate the files and export the series again"
                )
    for keyword in ("Rows", "Columns"):
        expected = first.header.whole(keyword)
        for frame in frames:
            if frame.header.whole(keyword) != expected:
                raise InconsistentMatrixError(
                    f"{series}: {frame.name} has {keyword} {frame.header.whole(keyword)}, "
                    f"{first.name} {expected}; expected one matrix; separate the reconstructions"
                )
    spacings = np.array([frame.pixel_spacing_mm for frame in frames])
    odd = np.flatnonzero((np.abs(spacings - spacings[0]) > 1e-3 * spacings[0]).any(axis=1))
    if len(odd):
        other = frames[odd[0]]
        raise InconsistentMatrixError(
            f"{series}: {other.name} has pixels of {other.pixel_spacing_mm} mm, {first.name} of "
            f"{first.pixel_spacing_mm}; expected one size; separate the reconstructions"
        )
    axes = np.array([frame.orientation for frame in frames])
    odd = np.flatnonzero((np.abs(axes - axes[0]) > _AXIS_TOLERANCE).any(axis=1))
    if len(odd):
        raise MixedOrientationsError(
            f"{series}: {frames[odd[0]].name} is turned against {first.name}; expected one "
            "orientation; separate the series"
        )


def _check_axial(series: str, frames: list[Frame]) -> None:
    axes = np.abs(np.array([frame.orientation for frame in frames]))
    odd = np.flatnonzero((np.abs(axes - [1, 0, 0, 0, 1, 0]) > _AXIS_TOLERANCE).any(axis=1))
    if len(odd):
        frame = frames[odd[0]]
        shown = [round(value, 3) for value in frame.orientation]
        raise ObliqueError(
            f"{series}: {frame.name} has ImageOrientationPatient {shown}; expected axial slices "
            "without tilt; reconstruct the series axially"
        )
    for frame in frames:
        tilt = frame.header.number("GantryDetectorTilt")
        if tilt is not None and abs(tilt) > _TILT_DEGREES:
            raise ObliqueError(
                f"{series}: {frame.name} states a gantry tilt of {tilt:g} degrees, its position "
                "none: one of them is wrong; expected no tilt; reconstruct the series without tilt"
            )


def _without_copies(series: str, frames: list[Frame]) -> tuple[list[Frame], list[str]]:
    """Drop files that are copies of another; two different images in one place are refused."""
    kept: list[Frame] = []
    for frame in frames:
        before = kept[-1] if kept else None
        if before is None or frame.z - before.z > _SAME_POSITION_MM:
            kept.append(frame)
        elif not _is_copy(frame, before):
            raise DuplicateSlicesError(
                f"{series}: {before.name} and {frame.name} lie both at z = {frame.z:g} mm; "
                "expected one image a position; separate the phases or reconstructions"
            )
    copies = len(frames) - len(kept)
    return kept, [f"{copies} file(s) are copies of another and were passed over"] * (copies > 0)


def _is_copy(frame: Frame, other: Frame) -> bool:
    """Whether two frames are the same one of files that are equal byte for byte."""
    if frame.header is other.header or frame.index != other.index:
        return False
    return filecmp.cmp(frame.header.path, other.header.path, shallow=False)


def _slice_step(series: str, frames: list[Frame]) -> tuple[NDArray[np.float64], list[str]]:
    """Vector from one slice to the next in mm, and notes."""
    if len(frames) == 1:
        return _step_of_single_slice(series, frames[0])
    positions = np.array([frame.position_mm for frame in frames])
    gaps = np.diff(positions[:, 2])
    usual = float(np.quantile(gaps, 0.25, method="lower"))  # the median of few can be a gap
    wide = np.flatnonzero(gaps > 1.5 * usual)
    if len(wide):
        _refuse_gaps(series, positions[:, 2], usual, wide)
    tolerance = max(_EVEN_WITHIN_MM, _EVEN_WITHIN_SHARE * usual)
    mean = (positions[-1] - positions[0]) / (len(frames) - 1)
    even = positions[0] + np.arange(len(frames))[:, None] * mean
    apart = np.abs(positions - even).max(axis=0)
    if apart[2] > tolerance or np.ptp(gaps) > 2 * tolerance:
        raise UnevenSpacingError(
            f"{series}: slices are {gaps.min():g} to {gaps.max():g} mm apart; expected one "
            "distance; reconstruct the series evenly"
        )
    sideways = float(np.hypot(mean[0], mean[1])) / float(mean[2])
    if sideways > _AXIS_TOLERANCE or max(apart[:2]) > 1.0:
        raise ObliqueError(
            f"{series}: the slices move {sideways:.2f} mm sideways for each mm of height; expected "
            "a straight stack (no gantry tilt); reconstruct the series without tilt"
        )
    if not _SLICE_MM[0] <= mean[2] <= _SLICE_MM[1]:
        raise SpacingError(
            f"{series}: slices are {mean[2]:g} mm apart; expected {_SLICE_MM[0]:g} to "
            f"{_SLICE_MM[1]:g} mm; export the series again"
        )
    notes = []
    thickness = frames[0].thickness_mm
    if thickness is not None and mean[2] > 1.5 * thickness > 0:
        notes.append(
            f"slices are {mean[2]:g} mm apart but {thickness:g} mm thick: what lies between them "
            "was not imaged"
        )
    return np.array([0.0, 0.0, mean[2]]), notes


def _refuse_gaps(series: str, z: NDArray[np.float64], usual: float, wide: NDArray[np.intp]) -> None:
    absent = [
        z[k] + n * usual
        for k in wide[:_POSITIONS_NAMED]
        for n in range(1, min(_absent(z, k, usual), _POSITIONS_NAMED) + 1)
    ][:_POSITIONS_NAMED]
    missing = sum(_absent(z, k, usual) for k in wide)
    where = ", ".join(f"{height:g}" for height in absent) + ", ..." * (missing > len(absent))
    raise MissingSlicesError(
        f"{series}: {len(z)} slices {usual:g} mm apart, about {missing} missing at z = {where} mm; "
        "expected no gap; fetch the whole series"
    )


def _absent(z: NDArray[np.float64], k: np.intp, usual: float) -> int:
    """How many slices fit between slice k and the next, at least one."""
    return max(round(float(z[k + 1] - z[k]) / usual) - 1, 1)


def _step_of_single_slice(series: str, frame: Frame) -> tuple[NDArray[np.float64], list[str]]:
    thickness = frame.thickness_mm
    if thickness is None or not _SLICE_MM[0] <= thickness <= _SLICE_MM[1]:
        found = "without SliceThickness" if thickness is None else f"{thickness:g} mm thick"
        raise SpacingError(
            f"{series}: a single slice {found}; expected several slices, or a thickness in mm; "
            "give the whole series"
        )
    note = f"a single slice: its thickness of {thickness:g} mm stands in for the slice distance"
    return np.array([0.0, 0.0, thickness]), [note]


def _numbering_notes(frames: list[Frame]) -> list[str]:
    """Holes in the numbering: slices may be missing at an end, where positions do not tell."""
    known = {frame.instance_number for frame in frames if frame.instance_number is not None}
    if len(known) < len(frames):
        return []
    holes = int(max(known) - min(known)) + 1 - len(known)
    return [f"{holes} of the series' image numbers do not occur: it may be incomplete"] * (
        holes > 0
    )
