"""How the pixels of a file are stored, held against what the file can hold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from pydicom.uid import (
    JPEG2000,
    JPEG2000MC,
    UID,
    AllTransferSyntaxes,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLSNearLossless,
)

from medlib.images import image_errors as errors
from medlib.images.dicom_find import shown
from medlib.images.dicom_header import Header, text_of

_UNDEFINED_LENGTH = 0xFFFFFFFF  # of what is compressed
_ALWAYS_LOSSY = (JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless)
_LOSSY_UNLESS_SAID = (JPEG2000, JPEG2000MC)


@dataclass(frozen=True)
class Layout:
    """How one frame is stored."""

    rows: int
    columns: int
    frames: int
    dtype: np.dtype[Any]  # of a value as it stands in the file
    used: int  # how many of its bits, the lowest, are stored
    compressed: bool
    offset: int  # of the pixel element's value in the file
    notes: list[str]  # reservations

    @property
    def bits(self) -> int:
        """Allocated for a value."""
        return 8 * self.dtype.itemsize

    @property
    def signed(self) -> bool:
        """Whether values can be negative."""
        return self.dtype.kind == "i"

    @property
    def frame_bytes(self) -> int:
        """Of one frame without compression."""
        return self.rows * self.columns * self.dtype.itemsize


def check_layout(header: Header) -> Layout:
    """Hold what a header claims against the file's size.

    Raises PixelDataError or ImpossibleSizeError if pixels are absent, cut off, not grey, or not
    what the header says.
    """
    notes = _notes_on_values(header)
    if header.pixels is None:
        raise errors.NoPixelsError(
            f"{header.name} has no pixel data; expected an image in every file; fetch the series "
            "again"
        )
    layout = _layout(header, header.pixels.offset, notes)
    if layout.compressed != (header.pixels.length == _UNDEFINED_LENGTH):
        kinds = ("plain", "compressed")
        marked, held = reversed(kinds) if layout.compressed else kinds
        if text_of(header.dataset.file_meta, "TransferSyntaxUID") is None:
            marked = "nothing (no TransferSyntaxUID)"
        raise errors.PixelDataError(
            f"{header.name} is marked as {marked} and holds {held} values; expected one of them; "
            "export the series again"
        )
    if not layout.compressed:
        _check_size(header.name, layout, header.pixels.length, header.size)
    return layout


def _notes_on_values(header: Header) -> list[str]:
    """Refuse what is not one grey value a pixel; return the reservations about it."""
    samples = header.whole("SamplesPerPixel")
    kind = str(header.get("PhotometricInterpretation") or "")
    if samples not in (None, 1) or not kind.startswith("MONOCHROME"):
        raise errors.PixelDataError(
            f"{header.name} is a {shown(kind, 20) or 'nameless'} picture with {samples} values a "
            "pixel; expected one grey image; give the CT images"
        )
    notes = []
    if kind[10:] == "1":
        notes.append("marked MONOCHROME1 (dark is high): HU were taken as they are")
    stated, syntax = str(header.get("LossyImageCompression") or ""), header.transfer_syntax
    if (
        stated == "01"
        or syntax in _ALWAYS_LOSSY
        or (syntax in _LOSSY_UNLESS_SAID and stated != "00")
    ):
        notes.append("compressed with loss: HU and edges are not those of the scanner")
    return notes


def _layout(header: Header, offset: int, notes: list[str]) -> Layout:
    allocated, stored = header.whole("BitsAllocated"), header.whole("BitsStored")
    high, kind = header.whole("HighBit"), header.whole("PixelRepresentation")
    if (
        allocated not in (8, 16, 32)
        or stored is None
        or not 1 <= stored <= allocated
        or high not in (None, stored - 1)
        or kind not in (0, 1)
    ):
        raise errors.PixelDataError(
            f"{header.name} has BitsAllocated {allocated}, BitsStored {stored}, HighBit {high}, "
            f"PixelRepresentation {kind}; expected 8, 16 or 32 bits, the lowest of them stored, "
            "and PixelRepresentation 0 or 1; export the series again"
        )
    syntax = UID(header.transfer_syntax)
    order = ">" if header.dataset.original_encoding[1] is False else "<"
    return Layout(
        rows=int(header.get("Rows")),  # `frames_of` has checked the matrix
        columns=int(header.get("Columns")),
        frames=header.whole("NumberOfFrames") or 1,
        dtype=np.dtype(f"{order}{'ui'[kind]}{allocated // 8}"),
        used=stored,
        compressed=syntax in AllTransferSyntaxes and syntax.is_encapsulated,
        offset=offset,
        notes=notes,
    )


def _check_size(name: str, layout: Layout, stated: int, file_bytes: int) -> None:
    claimed, present = layout.frame_bytes * layout.frames, min(stated, file_bytes - layout.offset)
    if claimed > present and stated > present:
        raise errors.TruncatedPixelsError(
            f"{name} ends after {present} of {stated} bytes of pixel data; expected a whole "
            "image; fetch the series again"
        )
    if claimed > present:
        raise errors.ImpossibleSizeError(
            f"{name} claims {layout.rows} x {layout.columns} pixels of {layout.bits} bits "
            f"and {layout.frames} frame(s), and holds {present} bytes of them; expected {claimed}; "
            "export the series again"
        )
    if present > claimed + 1:
        layout.notes.append("more pixel data than the matrix needs: the rest was passed over")
