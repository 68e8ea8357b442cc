"""Compressed frames through pydicom's decoders, once their own headers are believed."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from importlib import import_module
from typing import Any

from numpy.typing import NDArray
from pydicom.encaps import encapsulate, get_frame
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import RLELossless

from medlib.images.complaints import complaints_held
from medlib.images.dicom_header import Header
from medlib.images.dicom_layout import Layout
from medlib.images.image_errors import ImpossibleSizeError, TruncatedPixelsError

_QUIET_PLUGINS = ("pydicom", "pyjpegls", "pylibjpeg")  # they raise what they have to say
_MOST_GROWTH = 1.5  # a lossless codestream of noise is a little longer than the noise
_END = b"\xff\xd9"  # of JPEG, JPEG-LS and JPEG 2000 alike
_J2K_START = b"\xff\x4f\xff\x51"
_NOT_SOF = (0xC4, 0xC8, 0xCC)  # tables among the frame markers of JPEG


def decoded_frame(header: Header, layout: Layout, index: int) -> NDArray[Any]:
    """Decode one frame of a file to its stored values, shape (rows, columns).

    A decoder takes the memory that the codestream asks for, so that is compared with the header
    before. Raises InputError if it is of another size or ends too early, else whatever a damaged
    codestream makes the decoder raise.
    """
    frame = _codestream(header, layout, index)
    decoder: Any = get_decoder(header.transfer_syntax)
    quiet = [plugin for plugin in _QUIET_PLUGINS if plugin in decoder.available_plugins]
    with nullcontext() if quiet else _complaints_raised():
        values: NDArray[Any] = decoder.as_array(
            encapsulate([frame]),
            index=0,
            raw=True,
            decoding_plugin=quiet[0] if quiet else "",
            rows=layout.rows,
            columns=layout.columns,
            number_of_frames=1,
            samples_per_pixel=1,
            photometric_interpretation="MONOCHROME2",
            bits_allocated=layout.bits,
            bits_stored=layout.used,
            pixel_representation=int(layout.signed),
            pixel_keyword="PixelData",
        )[0]
    return values


def _codestream(header: Header, layout: Layout, index: int) -> bytes:
    """Read one frame as it is stored."""
    with header.path.open("rb") as stream:
        stream.seek(layout.offset)
        try:
            frame = get_frame(stream, index, number_of_frames=layout.frames)
        except Exception as error:  # pydicom says the same in several kinds
            raise TruncatedPixelsError(
                f"{header.name} holds no image {index + 1} of {layout.frames}; expected all; fetch "
                "the series again"
            ) from error
    if header.transfer_syntax != RLELossless and not frame.rstrip(b"\0").endswith(_END):
        raise TruncatedPixelsError(
            f"{header.name} holds a compressed image without its end; expected a whole image; "
            "fetch the series again"
        )
    size = _coded_size(frame, header.transfer_syntax)
    expected = (layout.rows, layout.columns, 1)
    if len(frame) > _MOST_GROWTH * layout.frame_bytes + 4096 or size not in (None, expected):
        raise ImpossibleSizeError(
            f"{header.name} holds a compressed image of {size or len(frame)} where the header "
            f"says {layout.rows} x {layout.columns}; expected the same; export the series again"
        )
    return frame


def _coded_size(frame: bytes, transfer_syntax: str) -> tuple[int, int, int] | None:
    """Return rows, columns, components by a codestream's own header; None for RLE, without one.

    JPEG (ISO/IEC 10918-1), JPEG-LS (14495-1) and JPEG 2000 (15444-1).
    """
    if transfer_syntax == RLELossless:
        return None
    if (start := frame.find(_J2K_START, 0, 4096)) >= 0:
        # SIZ: length, capabilities, extent of the grid (2), of its offset (2), of tiles (4), parts
        _, _, right, bottom, left, top, *_, components = struct.unpack_from(
            ">HHIIIIIIIIH", frame, start + 4
        )
        return bottom - top, right - left, components
    if frame[:2] != b"\xff\xd8":
        raise ValueError("no JPEG, JPEG-LS or JPEG 2000 codestream")
    at = 2
    while True:
        mark, kind, length = struct.unpack_from(">BBH", frame, at)
        if mark != 0xFF:
            raise ValueError("no marker where one has to be")
        if kind == 0xFF:  # fill bytes may stand before a marker
            at += 1
        elif (0xC0 <= kind <= 0xCF and kind not in _NOT_SOF) or kind == 0xF7:
            rows, columns, components = struct.unpack_from(">HHB", frame, at + 5)
            return rows, columns, components
        else:
            at += 2 + length


@contextmanager
def _complaints_raised() -> Iterator[None]:
    """Turn what the JPEG decoder inside GDCM writes to standard error into an error.

    It says "corrupt data" or "premature end" there and nowhere else, and goes on with pixels that
    nobody has measured.
    """
    trace = import_module("gdcm").Trace
    with complaints_held() as complaints:
        trace.WarningOff()
        trace.ErrorOff()
        yield
        complaints.seek(0)
        if said := complaints.read(200):
            raise ValueError(said.decode("ascii", "replace"))
