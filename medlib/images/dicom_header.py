"""Headers of DICOM files, read without their pixels.

pydicom parses; this module only sees to it that no file is read further than its pixels, and that
a value which all slices share is converted once.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydicom.datadict import tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.filereader import data_element_generator, read_dataset, read_partial
from pydicom.tag import BaseTag, Tag
from pydicom.uid import (
    AllTransferSyntaxes,
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    EnhancedCTImageStorage,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    LegacyConvertedEnhancedCTImageStorage,
)

MULTI_FRAME_CT = (EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage)
CT_CLASSES = (CTImageStorage, *MULTI_FRAME_CT)
PIXELS = 0x7FE00010
UNDEFINED_LENGTH = 0xFFFFFFFF
# A header of a slice fits in the first; that of a multi-frame object may need the last.
_FIRST_BYTES = (2**14, 2**18, 2**22, 2**26)

Memo = dict[tuple[object, ...], Any]


@dataclass(frozen=True)
class Pixels:
    """Where the value of the pixel element lies in its file, and how long it says it is."""

    offset: int
    length: int


@dataclass
class Header:
    """One DICOM file without its pixels.

    Attributes
    ----------
    path : Path
    name : str
        What messages call it.
    dataset : Dataset
        As pydicom parsed it.
    transfer_syntax : str
        Its UID; empty where the file does not say.
    size : int
        Bytes of the whole file.
    pixels : Pixels or None
        None if there is no pixel element.
    """

    path: Path
    name: str
    dataset: Dataset
    transfer_syntax: str
    size: int
    pixels: Pixels | None
    _memo: Memo = field(repr=False)

    def get(self, keyword: str) -> Any:
        """Return an element's value; None if it is absent, empty or not what its VR promises."""
        tag = _tag(keyword)
        raw = self.dataset.get_item(tag, keep_deferred=True)
        if not isinstance(raw, RawDataElement):
            return value_of(self.dataset, keyword)
        key = (tag, raw.VR, raw.value)
        if key not in self._memo:
            self._memo[key] = value_of(self.dataset, keyword)
        return self._memo[key]

    def text(self, keyword: str) -> str:
        """Return a value as one string, in the character set of this file."""
        value = value_of(self.dataset, keyword)
        if value is None:
            return ""
        return value if isinstance(value, str) else "\\".join(map(str, _several(value)))

    def number(self, keyword: str) -> float | None:
        """Return a finite number, or None."""
        return number(self.get(keyword))

    def whole(self, keyword: str) -> int | None:
        """Return a whole number, or None."""
        value = number(self.get(keyword))
        return int(value) if value is not None and value == int(value) else None

    def numbers(self, keyword: str, count: int) -> tuple[float, ...] | None:
        """Return so many finite numbers, or None."""
        return numbers(self.get(keyword), count)

    @property
    def image_type(self) -> tuple[str, ...]:
        """Values of ImageType in capitals."""
        return tuple(str(value).upper() for value in _several(self.get("ImageType")))


_TAGS: dict[str, BaseTag] = {}


def _tag(keyword: str) -> BaseTag:
    if keyword not in _TAGS:
        found = tag_for_keyword(keyword)
        if found is None:
            raise KeyError(keyword)
        _TAGS[keyword] = Tag(found)
    return _TAGS[keyword]


def value_of(dataset: Dataset, keyword: str) -> Any:
    """Return an element's value; None if it is absent, empty or not what its VR promises."""
    try:
        value = dataset[_tag(keyword)].value
    except Exception:  # absent, or whatever a damaged value makes the converter raise
        return None
    return None if isinstance(value, str) and not value else value


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


def _several(value: object) -> tuple[Any, ...]:
    if value is None:
        return ()
    if isinstance(value, str | bytes | int | float):
        return (value,)
    try:
        return tuple(value)  # type: ignore[arg-type]
    except TypeError:
        return (value,)


def read_header(path: Path, name: str, memo: Memo) -> Header | None:
    """Read a DICOM file up to its pixels.

    Parameters
    ----------
    path : Path
    name : str
        What messages call it.
    memo : dict
        Shared by all headers of one reading: converted values.

    Returns
    -------
    Header or None
        None if the file does not look like DICOM.

    Raises
    ------
    Exception
        Whatever a damaged file makes the system or the parser raise.
    """
    with path.open("rb", buffering=0) as stream:
        size = stream.seek(0, io.SEEK_END)
        stream.seek(0)
        start = b""
        for first in _FIRST_BYTES:
            start += _read(stream, first - len(start))
            if not looks_like_dicom(start):
                return None
            try:
                header = _parse(path, name, start, size, memo)
            except Exception:
                # Cut where a value stood: read on. At the end of the file it is the file's fault.
                if len(start) >= min(size, _FIRST_BYTES[-1]):
                    raise
                continue
            if header.pixels is not None or len(start) >= size or _is_another_class(header):
                break
    return header


def _read(stream: io.FileIO, count: int) -> bytes:
    """Read so many bytes, or to the end of the file."""
    parts = []
    while count > 0 and (part := stream.read(count)):
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


def looks_like_dicom(start: bytes) -> bool:
    """Preamble and prefix, or, in files without them, a first tag of group 0002 or 0008."""
    return start[128:132] == b"DICM" or start[:2] in (b"\x02\x00", b"\x08\x00")


def _is_another_class(header: Header) -> bool:
    found = header.get("SOPClassUID")
    return found is not None and found not in CT_CLASSES


def _parse(path: Path, name: str, start: bytes, size: int, memo: Memo) -> Header:
    # A parser that reads from memory cannot be made to take more of it than there is.
    stream = io.BytesIO(start)
    found: list[Pixels] = []

    def at_pixels(tag: BaseTag, _vr: str | None, length: int) -> bool:
        if tag >> 16 != 0x7FE0 or int(tag) != PIXELS:
            return False
        found.append(Pixels(stream.tell(), length))
        return True

    syntax = _transfer_syntax(stream) if start[128:132] == b"DICM" else ""
    if syntax == DeflatedExplicitVRLittleEndian:
        raise ValueError("a deflated data set can inflate to any size")
    dataset: Dataset
    if syntax in AllTransferSyntaxes:
        implicit, little = syntax == ImplicitVRLittleEndian, syntax != ExplicitVRBigEndian
        dataset = read_dataset(stream, implicit, little, stop_when=at_pixels)
    else:  # pydicom makes the best of what does not say how it is written
        stream.seek(0)
        whole = read_partial(stream, stop_when=at_pixels, force=True)
        syntax, dataset = str(value_of(whole.file_meta, "TransferSyntaxUID") or ""), whole
    return Header(path, name, dataset, syntax, size, found[0] if found else None, memo)


def _transfer_syntax(stream: io.BytesIO) -> str:
    """Read the file meta information, in half the time that a data set of its own takes."""
    stream.seek(132)
    meta = data_element_generator(stream, False, True, stop_when=_after_meta)
    values = {element.tag: element.value for element in meta}
    value = values.get(_tag("TransferSyntaxUID"))
    return value.decode("ascii").rstrip("\0 ") if isinstance(value, bytes) else ""


def _after_meta(tag: BaseTag, _vr: str | None, _length: int) -> bool:
    return tag >> 16 != 2
