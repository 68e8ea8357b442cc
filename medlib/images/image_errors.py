"""Why a folder, an archive or a file cannot be read safely as CT."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from medlib.errors import InputError


@contextmanager
def naming(source: str) -> Iterator[None]:
    """Put the name of what is read before the message of a refusal."""
    try:
        yield
    except InputError as error:
        raise type(error)(f"{source}: {error}") from error


class NotDicomError(InputError):
    """There is nothing, or nothing in DICOM format."""


class ArchiveError(InputError):
    """A zip archive is damaged, encrypted, or names files outside itself."""


class NoCTError(InputError):
    """There is DICOM, but no CT image that can be read."""


class NotAnImageError(NoCTError):
    """There is DICOM, but only documents: an encapsulated PDF, a report, a plan."""


class MissingSlicesError(InputError):
    """A gap between slices is a multiple of their distance."""


class DuplicateSlicesError(InputError):
    """Two images lie at the same position."""


class UnevenSpacingError(InputError):
    """The distance between slices changes within the series."""


class ObliqueError(InputError):
    """The slices are tilted, oblique or not axial."""


class InconsistentSeriesError(InputError):
    """The images of a series do not belong on one grid, or not to one patient."""


class MixedAcquisitionsError(InconsistentSeriesError):
    """Acquisitions whose slices lie between each other are in one series."""


class MixedOrientationsError(InconsistentSeriesError):
    """The images of a series are turned against each other."""


class InconsistentMatrixError(InconsistentSeriesError):
    """The images of a series differ in rows, columns or the size of a pixel."""


class SpacingError(InputError):
    """The size of a pixel or the position of a slice is absent or impossible."""


class ImpossibleSizeError(InputError):
    """A header claims more data than there can be; refused before memory is taken."""


class PixelDataError(InputError):
    """The pixel data are not one grey image, or cannot be decoded."""


class NoPixelsError(PixelDataError):
    """An image has no pixel data."""


class TruncatedPixelsError(PixelDataError):
    """The pixel data end before the image does."""


class NotHounsfieldError(PixelDataError):
    """The stored values cannot become Hounsfield units."""


class ResearchVolumeError(InputError):
    """A NIfTI, NRRD or MetaImage file is damaged, or holds no CT in Hounsfield units."""
