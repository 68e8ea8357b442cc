"""The images of a series: one a file, or the frames of a multi-frame object."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from medlib.images.dicom_find import shown
from medlib.images.dicom_header import MULTI_FRAME_CT, Header, number, numbers, text_of, value_of
from medlib.images.image_errors import ImpossibleSizeError, NotHounsfieldError, SpacingError

# The finest CT matrix on the market has 2048 pixels a side; twice that is room enough.
MAX_MATRIX = 4096
MAX_FRAMES = 2**15
PIXEL_MM = (0.01, 20.0)
MAX_POSITION_MM = 1e5
_HOUNSFIELD = ("", "HU")
_UNSPECIFIED = ("US", "HU_MOD")
_FRAME_MACROS = {
    "ImagePositionPatient": "PlanePositionSequence",
    "ImageOrientationPatient": "PlaneOrientationSequence",
    "PixelSpacing": "PixelMeasuresSequence",
    "SliceThickness": "PixelMeasuresSequence",
    "RescaleSlope": "PixelValueTransformationSequence",
    "RescaleIntercept": "PixelValueTransformationSequence",
    "RescaleType": "PixelValueTransformationSequence",
    "FrameType": "CTImageFrameTypeSequence",
    "FrameAcquisitionNumber": "FrameContentSequence",
    "FrameAcquisitionDateTime": "FrameContentSequence",
    "TemporalPositionIndex": "FrameContentSequence",
}

Lookup = Callable[[str], Any]


@dataclass(frozen=True)
class Frame:
    """One image: where it lies, and how its stored values become HU."""

    header: Header
    index: int
    position_mm: tuple[float, ...]  # centre of the first pixel: x, y, z; LPS+
    orientation: tuple[float, ...]  # direction along a row, then along a column
    pixel_spacing_mm: tuple[float, ...]  # distance of rows, then of columns
    slope: float
    intercept: float
    thickness_mm: float | None
    instance_number: float | None
    note: str  # a reservation; empty if there is none
    get: Lookup  # any value of this image

    @property
    def z(self) -> float:
        """Height of the slice in mm."""
        return self.position_mm[2]

    @property
    def name(self) -> str:
        """What messages call it."""
        part = self.header.sop_class in MULTI_FRAME_CT
        return f"{self.header.name} frame {self.index + 1}" if part else self.header.name


def frames_of(header: Header) -> list[Frame]:
    """Return the images of a file; localizer frames of a multi-frame object are left out.

    Raises InputError if a position, a size or a rescale is absent or impossible.
    """
    _check_matrix(header)
    frames = header.whole("NumberOfFrames")
    if header.sop_class not in MULTI_FRAME_CT:
        if frames not in (None, 1):
            raise ImpossibleSizeError(
                f"{header.name} claims {frames} frames; expected one in a CT image; export the "
                "series again"
            )
        return [_frame(header, 0, header.get, partial(text_of, header.dataset))]
    shared = _items(header.dataset, "SharedFunctionalGroupsSequence")
    groups = _items(header.dataset, "PerFrameFunctionalGroupsSequence")
    if frames is None or not 1 <= frames <= MAX_FRAMES or len(groups) != frames:
        raise ImpossibleSizeError(
            f"{header.name} claims {frames} frames and describes {len(groups)}; expected as many; "
            "export the series again"
        )
    found = []
    for index, own in enumerate(groups):
        get, text = (
            _frame_values(header, [own, *shared[:1]], read) for read in (value_of, text_of)
        )
        if "LOCALIZER" not in str(get("FrameType")).upper():
            found.append(_frame(header, index, get, text))
    return found


def _check_matrix(header: Header) -> None:
    for keyword in ("Rows", "Columns"):
        found = header.whole(keyword)
        if found is None or not 1 <= found <= MAX_MATRIX:
            raise ImpossibleSizeError(
                f"{header.name} claims {'no' if found is None else found} {keyword}; expected 1 to "
                f"{MAX_MATRIX}; the header is damaged: export the series again"
            )


def _items(dataset: Dataset, keyword: str) -> list[Dataset]:
    value = value_of(dataset, keyword)
    return list(value) if isinstance(value, Sequence) else []


def _frame_values(
    header: Header, groups: list[Dataset], read: Callable[[Dataset, str], Any]
) -> Lookup:
    """Look a value up in a frame's own group, else in the shared one; else at the top."""

    def get(keyword: str) -> Any:
        # Orientation and spacing at the top of a multi-frame object belong to no frame.
        if keyword not in _FRAME_MACROS:
            return header.get(keyword) if read is value_of else read(header.dataset, keyword)
        for group in groups:
            for item in _items(group, _FRAME_MACROS[keyword])[:1]:
                if (value := read(item, keyword)) is not None:
                    return value
        return None

    return get


def _stated(keyword: str, text: Lookup) -> str:
    """Say what stands where a number was looked for."""
    found = text(keyword)
    if found is None:
        return f"no {keyword}"
    comma = " with a decimal comma, where a point has to be" if "," in found else ""
    return f"{keyword} '{shown(found)}'{comma}"


def _frame(header: Header, index: int, get: Lookup, text: Lookup) -> Frame:
    position = numbers(get("ImagePositionPatient"), 3)
    orientation = numbers(get("ImageOrientationPatient"), 6)
    if position is None or orientation is None:
        of = "ImagePositionPatient" if position is None else "ImageOrientationPatient"
        raise SpacingError(
            f"{header.name} has {_stated(of, text)}; expected three numbers of position and six of "
            "orientation in every slice; export the series again"
        )
    if max(map(abs, position)) > MAX_POSITION_MM:
        raise SpacingError(
            f"{header.name} lies at {max(position, key=abs):g} mm; expected a position within the "
            "scanner; export the series again"
        )
    spacing = numbers(get("PixelSpacing"), 2)
    if spacing is None or not all(PIXEL_MM[0] <= part <= PIXEL_MM[1] for part in spacing):
        raise SpacingError(
            f"{header.name} has {_stated('PixelSpacing', text)}; expected two positive "
            "numbers in mm; without them nothing can be measured: export the series again"
        )
    slope, intercept, note = _rescale(header, get, text)
    thickness = number(get("SliceThickness"))
    instance = number(get("InstanceNumber")) if index == 0 else None
    return Frame(
        header,
        index,
        position,
        orientation,
        spacing,
        slope,
        intercept,
        thickness,
        instance,
        note,
        get,
    )


def _rescale(header: Header, get: Lookup, text: Lookup) -> tuple[float, float, str]:
    slope, intercept = number(get("RescaleSlope")), number(get("RescaleIntercept"))
    if slope is None or slope <= 0 or intercept is None:
        found = ", ".join(_stated(of, text) for of in ("RescaleSlope", "RescaleIntercept"))
        raise NotHounsfieldError(
            f"{header.name} has {found}; expected numbers, the slope positive: stored values "
            "cannot become HU; export the series again"
        )
    kind = str(get("RescaleType") or "").strip().upper()
    if kind in _HOUNSFIELD:
        return slope, intercept, ""
    if kind in _UNSPECIFIED:
        return slope, intercept, f"RescaleType {kind}: the values were taken for HU"
    raise NotHounsfieldError(
        f"{header.name} holds values of the type {kind[:16]!r}; expected HU; give the "
        "reconstruction in Hounsfield units"
    )
