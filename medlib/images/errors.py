"""Why a folder of DICOM files cannot be read safely as CT."""

from __future__ import annotations

from medlib.errors import InputError


class NotDicomError(InputError):
    """There is nothing, or nothing in DICOM format."""


class NoCTError(InputError):
    """There is DICOM, but no CT image that can be read."""


class MissingSlicesError(InputError):
    """A gap between slices is a multiple of their distance."""


class DuplicateSlicesError(InputError):
    """Two images lie at the same position."""


class UnevenSpacingError(InputError):
    """The distance between slices changes within the series."""


class ObliqueError(InputError):
    """The slices are tilted, oblique or not axial."""


class InconsistentSeriesError(InputError):
    """The images of a series do not fit on one grid."""


class SpacingError(InputError):
    """The size of a pixel or the position of a slice is absent or impossible."""


class PixelDataError(InputError):
    """The pixel data are absent, cut off or cannot become Hounsfield units."""
