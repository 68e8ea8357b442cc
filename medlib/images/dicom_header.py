"""Headers of DICOM files, read by pydicom up to their pixels and no further."""

from __future__ import annotations

import functools
import io
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset, FileDataset
from pydicom.filereader import read_partial
from pydicom.tag import BaseTag, Tag
from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    EnhancedCTImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    LegacyConvertedEnhancedCTImageStorage,
)

MULTI_FRAME_CT = (EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage)
CT_CLASSES = (CTImageStorage, *MULTI_FRAME_CT)
PIXELS = 0x7FE00010
# A header of a slice fits in the first; that of a multi-frame object may need the last.
_FIRST_BYTES = (2**14, 2**20, 2**26)

Memo = dict[tuple[object, ...], Any]
_tag = functools.cache(Tag)


class Pixels(NamedTuple):
    """Where the value of the pixel element lies in its file, and how long it says it is."""

    offset: int
    length: int


@dataclass
class Header:
    """One DICOM file without its pixels."""

    path: Path
    name: str  # what messages call it
    dataset: FileDataset
    transfer_syntax: str  # as of `syntax_of`
    size: int  # bytes of the whole file
    pixels: Pixels | None
    _memo: Memo = field(repr=False)

    def get(self, keyword: str) -> Any:
        """Return an element's value; None if it is absent, empty or not what its VR promises."""
        raw = self.dataset.get_item(_tag(keyword), keep_deferred=True)
        if not isinstance(raw, RawDataElement):
            return None if raw is None else value_of(self.dataset, keyword)
        key = (raw.tag, raw.VR, raw.value)  # a value that all slices share is converted once
        if key not in self._memo:
            self._memo[key] = value_of(self.dataset, keyword)
        return self._memo[key]

    def text(self, keyword: str) -> str:
        """Return a value as one string, in the character set of this file."""
        return "\\".join(map(str, _several(value_of(self.dataset, keyword))))

    def number(self, keyword: str) -> float | None:
        """Return a finite number, or None."""
        return number(self.get(keyword))

    def whole(self, keyword: str) -> int | None:
        """Return a whole number, or None."""
        value = self.number(keyword)
        return int(value) if value is not None and value == int(value) else None

    @property
    def sop_class(self) -> str:
        """What kind of object this is; the file's meta information may know where it is absent."""
        stated = self.get("SOPClassUID")
        stated = stated or value_of(self.dataset.file_meta, "MediaStorageSOPClassUID")
        ct = self.get("Modality") == "CT" and self.pixels is not None if not stated else False
        return str(stated or (CTImageStorage if ct else ""))

    @property
    def image_type(self) -> tuple[str, ...]:
        """Values of ImageType in capitals."""
        return tuple(str(value).upper() for value in _several(self.get("ImageType")))


def value_of(dataset: Dataset, keyword: str) -> Any:
    """Return an element's value; None if it is absent, empty or not what its VR promises."""
    try:
        value = dataset[_tag(keyword)].value
    except Exception:  # absent, or whatever a damaged value makes the converter raise
        return None
    return None if isinstance(value, str) and not value else value


def syntax_of(dataset: FileDataset) -> str:
    """Return the UID of the transfer syntax that a file states, else of the one it was read in."""
    if stated := value_of(dataset.file_meta, "TransferSyntaxUID"):
        return str(stated)
    implicit, little = dataset.original_encoding
    if implicit:
        return ImplicitVRLittleEndian
    return ExplicitVRLittleEndian if little else ExplicitVRBigEndian


def text_of(dataset: Dataset, keyword: str) -> str | None:
    """Return what stands in an element, readable or not; None if it is absent or empty."""
    element = dataset.get_item(_tag(keyword), keep_deferred=True)
    value = None if element is None else element.value
    text = (
        value.decode("latin-1")
        if isinstance(value, bytes)
        else "\\".join(map(str, _several(value)))
    )
    return text.strip(" \0") or None


def number(value: object) -> float | None:
    """Return a finite number, or None."""
    try:
        converted = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return None
    return converted if math.isfinite(converted) else None


def numbers(value: object, count: int) -> tuple[float, ...] | None:
    """Return so many finite numbers, or None."""
    found = [number(part) for part in _several(value)]
    known = tuple(part for part in found if part is not None)
    return known if len(known) == len(found) == count else None


def _several(value: Any) -> tuple[Any, ...]:
    if isinstance(value, str | bytes) or not hasattr(value, "__iter__"):
        return () if value is None else (value,)
    return tuple(value)


def read_header(path: Path, name: str, memo: Memo) -> Header | None:
    """Read a DICOM file up to its pixels; None if it does not look like DICOM.

    The memo holds converted values and is shared by all headers of one reading. Raises whatever
    a damaged file makes the system or the parser raise.
    """
    size, start = path.stat().st_size, b""
    with path.open("rb") as stream:
        for most in _FIRST_BYTES:
            start += stream.read(most - len(start))
            # Without a preamble and its prefix a file may start with a tag of group 0002 or 0008.
            if start[128:132] != b"DICM" and start[:2] not in (b"\x02\x00", b"\x08\x00"):
                return None
            at_end = len(start) >= min(size, _FIRST_BYTES[-1])
            try:
                dataset, pixels = _parse(start)
            except Exception:
                if at_end:  # else it was cut where a value stood: read on
                    raise
            else:
                if pixels or at_end:
                    return Header(path, name, dataset, syntax_of(dataset), size, pixels, memo)
    raise EOFError(f"{path} became shorter while it was read")


def _parse(start: bytes) -> tuple[FileDataset, Pixels | None]:
    if DeflatedExplicitVRLittleEndian.encode() in start:
        raise ValueError("a deflated data set can inflate to any size")
    # A parser that reads from memory cannot be made to take more of it than there is.
    stream = io.BytesIO(start)
    found: list[Pixels] = []

    def at_pixels(tag: BaseTag, _vr: str | None, length: int) -> bool:
        if tag != PIXELS:
            return False
        found.append(Pixels(stream.tell(), length))
        return True

    dataset = read_partial(stream, stop_when=at_pixels, force=True)
    return dataset, found[0] if found else None
