"""DICOM series of CT images to volumes in Hounsfield units.

What cannot be placed on one even, axial grid is refused: a lesion measured on a wrong grid has a
wrong size.
"""

from __future__ import annotations

import warnings
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import FileDataset
from pydicom.uid import CTImageStorage

from medlib.errors import InputError
from medlib.images.dicom_write import write_series
from medlib.images.errors import (
    DuplicateSlicesError,
    InconsistentSeriesError,
    MissingSlicesError,
    NoCTError,
    NotDicomError,
    ObliqueError,
    PixelDataError,
    SpacingError,
    UnevenSpacingError,
)
from medlib.images.volume import SeriesIdentity, Volume

__all__ = ["read_series", "write_series"]

_SAME_POSITION_MM = 0.01
_EVEN_WITHIN_MM = 0.1  # positions in headers are often rounded to a tenth
_EVEN_WITHIN_SHARE = 0.05
_AXIS_TOLERANCE = 0.01  # sine of the angle: about half a degree
_MULTI_FRAME_CT = ("1.2.840.10008.5.1.4.1.1.2.1", "1.2.840.10008.5.1.4.1.1.2.2")


@dataclass(frozen=True)
class _Image:
    """One CT image: its file, header and position."""

    path: Path
    header: FileDataset
    position: NDArray[np.float64]
    orientation: NDArray[np.float64]
    pixel_spacing_mm: tuple[float, float]

    @property
    def z(self) -> float:
        return float(self.position[2])


def read_series(path: Path) -> list[Volume]:
    """Read every CT series in a folder, or the one image of a file.

    Files may lie in any order, in subfolders, without a suffix, and beside others: localizers,
    dose reports and what is not DICOM are passed over. A series that cannot be read safely is
    left out where another can be read, and the other's warnings say so.

    Parameters
    ----------
    path : Path
        Folder or file.

    Returns
    -------
    list of Volume
        Ordered by series number. HU are stored value x RescaleSlope + RescaleIntercept of the
        same slice; slices ascend towards the head.

    Raises
    ------
    InputError
        One of `medlib.images.errors`: nothing to read, or no series that can be read safely.
    """
    images, notes = _ct_images(Path(path))
    volumes: list[Volume] = []
    refused: list[InputError] = []
    for uid in sorted(images, key=lambda uid: (_number(images[uid][0], "SeriesNumber"), uid)):
        try:
            volumes.append(_read_volume(uid, images[uid]))
        except InputError as error:
            refused.append(error)
    if not volumes:
        raise refused[0]
    notes += [f"left out: {error}" for error in refused]
    return [replace(volume, warnings=(*volume.warnings, *notes)) for volume in volumes]


def _ct_images(path: Path) -> tuple[dict[str, list[tuple[Path, FileDataset]]], list[str]]:
    """Headers of the CT images below `path` by series, and notes on what could not be read."""
    if not path.exists():
        raise NotDicomError(f"{path}: nothing there; expected a folder of DICOM files; check it")
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    images: dict[str, list[tuple[Path, FileDataset]]] = defaultdict(list)
    damaged, others, multi_frame = [], 0, 0
    for file in files:
        if not _looks_like_dicom(file):
            continue
        header = _read_header(file)
        kind = None if header is None else header.get("SOPClassUID")
        if header is None or (kind is None and "MediaStorageSOPClassUID" not in header.file_meta):
            damaged.append(file.name)
        elif kind != CTImageStorage or "LOCALIZER" in header.get("ImageType", ()):
            others += 1
            multi_frame += kind in _MULTI_FRAME_CT
        else:
            images[str(header.get("SeriesInstanceUID", ""))].append((file, header))
    if images:
        return images, [
            f"{len(damaged)} damaged DICOM file(s) passed over, first {name}"
            for name in damaged[:1]
        ]
    if damaged:
        raise NotDicomError(
            f"{path}: {len(damaged)} DICOM file(s) that cannot be read, first {damaged[0]}; "
            "expected whole files; copy or export them again"
        )
    if multi_frame:
        raise NoCTError(
            f"{path}: {multi_frame} multi-frame (enhanced) CT object(s); expected single-frame CT "
            "images, one file a slice; convert them first"
        )
    if others:
        raise NoCTError(
            f"{path}: {others} DICOM file(s), none a CT image; expected a CT series of the chest; "
            "choose another folder"
        )
    raise NotDicomError(
        f"{path}: {len(files)} file(s), none in DICOM format; expected a CT series of the chest; "
        "choose another folder"
    )


def _looks_like_dicom(file: Path) -> bool:
    """Preamble and prefix, or, in files without them, a first tag of group 0002 or 0008."""
    try:
        with file.open("rb") as stream:
            start = stream.read(132)
    except OSError:
        return False
    return start[128:] == b"DICM" or start[:2] in (b"\x02\x00", b"\x08\x00")


def _read_header(file: Path) -> FileDataset | None:
    try:
        return _read(file, stop_before_pixels=True)
    except Exception:  # whatever a damaged file makes the parser raise
        return None


def _read(file: Path, *, stop_before_pixels: bool = False) -> FileDataset:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # values outside their VR are common and harmless here
        return pydicom.dcmread(file, force=True, stop_before_pixels=stop_before_pixels)


def _number(image: tuple[Path, FileDataset], keyword: str) -> float:
    try:
        return float(image[1].get(keyword) or 0)
    except (TypeError, ValueError):
        return 0.0


def _read_volume(uid: str, files: list[tuple[Path, FileDataset]]) -> Volume:
    """Put one series on its grid."""
    name = f"series {uid or '(without UID)'}"
    images = sorted((_locate(name, *file) for file in files), key=lambda image: image.z)
    images, notes = _without_copies(name, images)
    _check_one_grid(name, images)
    step, more = _slice_step(name, images)
    notes += more + _numbering_notes(images)
    first = images[0]
    rows_mm, columns_mm = first.pixel_spacing_mm
    affine = np.eye(4)
    affine[:3, 0] = first.orientation[:3] * columns_mm
    affine[:3, 1] = first.orientation[3:] * rows_mm
    affine[:3, 2] = step
    affine[:3, 3] = first.position
    shape = (len(images), int(first.header.Rows), int(first.header.Columns))
    hu = np.empty(shape, dtype=np.float32)
    for k, image in enumerate(images):
        _read_hounsfield(name, image, out=hu[k])
    header = first.header
    identity = SeriesIdentity(
        patient_id=str(header.get("PatientID") or ""),
        study_instance_uid=str(header.get("StudyInstanceUID") or ""),
        series_instance_uid=uid,
        frame_of_reference_uid=str(header.get("FrameOfReferenceUID") or ""),
        manufacturer=str(header.get("Manufacturer") or ""),
        manufacturer_model=str(header.get("ManufacturerModelName") or ""),
        kernel=_text(header.get("ConvolutionKernel")),
    )
    sops = tuple(str(image.header.get("SOPInstanceUID") or "") for image in images)
    return Volume(hu, affine, identity, sops, tuple(notes))


def _text(value: object) -> str:
    """One string of a value that may be several."""
    if value is None:
        return ""
    return value if isinstance(value, str) else "\\".join(map(str, value))  # type: ignore[call-overload]


def _locate(name: str, path: Path, header: FileDataset) -> _Image:
    """Read position, orientation and pixel size of one image."""
    position = _numbers(header, "ImagePositionPatient", 3)
    orientation = _numbers(header, "ImageOrientationPatient", 6)
    if position is None or orientation is None:
        raise SpacingError(
            f"{name}: {path.name} has no ImagePositionPatient or ImageOrientationPatient; "
            "expected both in every slice; export the series again"
        )
    spacing = _numbers(header, "PixelSpacing", 2)
    if spacing is None or not (spacing > 0).all():
        found = "no PixelSpacing" if spacing is None else f"PixelSpacing {spacing.tolist()}"
        raise SpacingError(
            f"{name}: {path.name} has {found}; expected two positive numbers in mm; without them "
            "nothing can be measured: export the series again"
        )
    return _Image(path, header, position, orientation, (float(spacing[0]), float(spacing[1])))


def _numbers(header: FileDataset, keyword: str, count: int) -> NDArray[np.float64] | None:
    """Return a header's numbers; None if absent, not numbers, or not finite."""
    try:
        values = np.array([float(value) for value in header.get(keyword) or ()])
    except (TypeError, ValueError):
        return None
    return values if len(values) == count and np.isfinite(values).all() else None


def _without_copies(name: str, images: list[_Image]) -> tuple[list[_Image], list[str]]:
    """Drop files that are copies of another; two different images in one place are refused."""
    kept: list[_Image] = []
    for image in images:
        before = kept[-1] if kept else None
        if before is None or image.z - before.z > _SAME_POSITION_MM:
            kept.append(image)
        elif image.path.read_bytes() != before.path.read_bytes():
            raise DuplicateSlicesError(
                f"{name}: {before.path.name} and {image.path.name} lie both at z = {image.z:g} mm; "
                "expected one image a position; separate the phases or reconstructions"
            )
    copies = len(images) - len(kept)
    return kept, [f"{copies} file(s) are copies of another and were passed over"] * (copies > 0)


def _check_one_grid(name: str, images: list[_Image]) -> None:
    first = images[0]
    for image in images:
        for keyword in ("Rows", "Columns"):
            found, expected = image.header.get(keyword), first.header.get(keyword)
            if not found or found != expected:
                raise InconsistentSeriesError(
                    f"{name}: {image.path.name} has {keyword} {found}, {first.path.name} "
                    f"{expected}; expected one matrix; separate the reconstructions"
                )
        if not np.allclose(image.pixel_spacing_mm, first.pixel_spacing_mm, rtol=1e-3):
            raise InconsistentSeriesError(
                f"{name}: {image.path.name} has pixels of {image.pixel_spacing_mm} mm, "
                f"{first.path.name} of {first.pixel_spacing_mm}; expected one size; separate the "
                "reconstructions"
            )
        axes = np.array([[1.0, 0, 0], [0, 1.0, 0]])
        if np.abs(np.abs(image.orientation.reshape(2, 3)) - axes).max() > _AXIS_TOLERANCE:
            shown = [round(float(value), 3) for value in image.orientation]
            raise ObliqueError(
                f"{name}: {image.path.name} has ImageOrientationPatient {shown}; expected axial "
                "slices without tilt; reconstruct the series axially"
            )
        if not np.allclose(image.orientation, first.orientation, atol=_AXIS_TOLERANCE):
            raise InconsistentSeriesError(
                f"{name}: {image.path.name} is turned against {first.path.name}; expected one "
                "orientation; separate the series"
            )


def _slice_step(name: str, images: list[_Image]) -> tuple[NDArray[np.float64], list[str]]:
    """Vector from one slice to the next in mm, and notes."""
    if len(images) == 1:
        return _step_of_single_slice(name, images[0])
    positions = np.array([image.position for image in images])
    gaps = np.diff(positions[:, 2])
    usual = float(np.quantile(gaps, 0.25, method="lower"))  # the median of few can be a gap
    wide = np.flatnonzero(gaps > 1.5 * usual)
    if len(wide):
        missing = int(np.sum(np.round(gaps[wide] / usual) - 1))
        raise MissingSlicesError(
            f"{name}: {len(images)} slices {usual:g} mm apart, but {gaps[wide[0]]:g} mm after "
            f"z = {images[wide[0]].z:g} mm: about {max(missing, 1)} missing; expected no gap; "
            "fetch the whole series"
        )
    tolerance = max(_EVEN_WITHIN_MM, _EVEN_WITHIN_SHARE * usual)
    mean = (positions[-1] - positions[0]) / (len(images) - 1)
    even = positions[0] + np.arange(len(images))[:, None] * mean
    apart = np.abs(positions - even).max(axis=0)
    if apart[2] > tolerance or np.ptp(gaps) > 2 * tolerance:
        raise UnevenSpacingError(
            f"{name}: slices are {gaps.min():g} to {gaps.max():g} mm apart; expected one distance; "
            "reconstruct the series evenly"
        )
    sideways = float(np.hypot(mean[0], mean[1])) / float(mean[2])
    if sideways > _AXIS_TOLERANCE or max(apart[:2]) > 1.0:
        raise ObliqueError(
            f"{name}: the slices move {sideways:.2f} mm sideways for each mm of height; expected a "
            "straight stack (no gantry tilt); reconstruct the series without tilt"
        )
    notes = []
    thickness = _numbers_or_none(images[0].header, "SliceThickness")
    if thickness is not None and mean[2] > 1.5 * thickness > 0:
        notes.append(
            f"slices are {mean[2]:g} mm apart but {thickness:g} mm thick: what lies between them "
            "was not imaged"
        )
    return np.array([0.0, 0.0, mean[2]]), notes


def _step_of_single_slice(name: str, image: _Image) -> tuple[NDArray[np.float64], list[str]]:
    thickness = _numbers_or_none(image.header, "SliceThickness")
    if thickness is None or thickness <= 0:
        raise SpacingError(
            f"{name}: a single slice without SliceThickness; expected several slices, or a "
            "thickness in mm; give the whole series"
        )
    note = f"a single slice: its thickness of {thickness:g} mm stands in for the slice distance"
    return np.array([0.0, 0.0, thickness]), [note]


def _numbers_or_none(header: FileDataset, keyword: str) -> float | None:
    try:
        value = float(header.get(keyword))
    except (TypeError, ValueError):
        return None
    return value if np.isfinite(value) else None


def _numbering_notes(images: list[_Image]) -> list[str]:
    """Holes in the numbering: slices may be missing at an end, where positions do not tell."""
    numbers = [_numbers_or_none(image.header, "InstanceNumber") for image in images]
    known = {number for number in numbers if number is not None}
    if len(known) < len(images):
        return []
    holes = int(max(known) - min(known)) + 1 - len(known)
    return [f"{holes} of the series' image numbers do not occur: it may be incomplete"] * (
        holes > 0
    )


def _read_hounsfield(name: str, image: _Image, out: NDArray[np.float32]) -> None:
    """Decode one slice into `out` and apply its own rescale."""
    slope = _numbers_or_none(image.header, "RescaleSlope")
    intercept = _numbers_or_none(image.header, "RescaleIntercept")
    if not slope or intercept is None:
        raise PixelDataError(
            f"{name}: {image.path.name} has RescaleSlope {slope}, RescaleIntercept {intercept}; "
            "expected numbers: stored values cannot become HU; export the series again"
        )
    try:
        dataset = _read(image.path)
        if "PixelData" not in dataset:
            raise PixelDataError(
                f"{name}: {image.path.name} has no pixel data; expected an image in every file; "
                "fetch the series again"
            )
        stored = dataset.pixel_array
    except InputError:
        raise
    except Exception as error:  # decoders raise many kinds
        raise PixelDataError(
            f"{name}: the pixel data of {image.path.name} cannot be decoded "
            f"({type(error).__name__}); expected a whole image; fetch the series again or "
            "decompress it"
        ) from error
    if stored.shape != (image.header.Rows, image.header.Columns):
        raise PixelDataError(
            f"{name}: {image.path.name} holds pixels of shape {stored.shape}; expected one grey "
            f"image of {image.header.Rows} x {image.header.Columns}; give the CT images"
        )
    np.multiply(stored, np.float32(slope), out=out, casting="unsafe")
    out += np.float32(intercept)
