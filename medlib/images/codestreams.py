"""Compressed pixel data through pydicom's decoders, once their own headers are believed."""

from __future__ import annotations

import os
import struct
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from importlib import import_module
from typing import Any

import pydicom
from numpy.typing import NDArray
from pydicom.encaps import generate_frames
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import (
    JPEG2000,
    JPEG2000MC,
    UID,
    JPEG2000Lossless,
    JPEG2000MCLossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from medlib.images.dicom_header import Header
from medlib.images.image_errors import ImpossibleSizeError, TruncatedPixelsError

_ALWAYS_LOSSY = (JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless)
_LOSSY_UNLESS_SAID = (JPEG2000, JPEG2000MC)
_PREFERRED_PLUGIN = {
    JPEG2000: "pylibjpeg",
    JPEG2000Lossless: "pylibjpeg",
    JPEG2000MC: "pylibjpeg",
    JPEG2000MCLossless: "pylibjpeg",
    JPEGLSLossless: "pyjpegls",
    JPEGLSNearLossless: "pyjpegls",
    RLELossless: "pydicom",
}
_MOST_GROWTH = 1.5  # a lossless codestream of noise is a little longer than the noise
_END = b"\xff\xd9"  # of JPEG, JPEG-LS and JPEG 2000 alike
_J2K_START = b"\xff\x4f\xff\x51"
_ONE_AT_A_TIME = threading.Lock()
_NOT_SOF = (0xC4, 0xC8, 0xCC)  # tables among the frame markers of JPEG


def is_lossy(transfer_syntax: str, stated: object) -> bool:
    """Whether pixels have been through lossy compression, as far as the header tells."""
    stated = str(stated or "")
    if stated == "01" or transfer_syntax in _ALWAYS_LOSSY:
        return True
    return transfer_syntax in _LOSSY_UNLESS_SAID and stated != "00"


def decoded_frames(
    header: Header, matrix: tuple[int, int], bits: int, indices: list[int]
) -> Iterator[NDArray[Any]]:
    """Decode frames of one file.

    A decoder takes the memory that the codestream asks for, so that is compared with the header
    before.

    Parameters
    ----------
    header : Header
    matrix : tuple of int
        Rows and columns by the header.
    bits : int
        Allocated for a pixel.
    indices : list of int
        Which frames, ascending.

    Yields
    ------
    ndarray of integer, shape (rows, columns)

    Raises
    ------
    ImpossibleSizeError
        If a codestream is of another size than the header says.
    TruncatedPixelsError
        If there are fewer frames.
    Exception
        Whatever a damaged codestream makes the decoder raise.
    """
    dataset = pydicom.dcmread(header.path, force=True)
    syntax = UID(header.transfer_syntax)
    frames = header.whole("NumberOfFrames") or 1
    most = int(_MOST_GROWTH * matrix[0] * matrix[1] * bits / 8) + 4096
    coded = list(generate_frames(dataset.PixelData, number_of_frames=frames))
    if len(coded) < frames:
        raise TruncatedPixelsError(
            f"{header.name} holds {len(coded)} of {frames} images; expected all; fetch the series "
            "again"
        )
    for frame in coded:
        if syntax != RLELossless and not frame.rstrip(b"\0").endswith(_END):
            raise TruncatedPixelsError(
                f"{header.name} holds a compressed image without its end; expected a whole image; "
                "fetch the series again"
            )
        size = coded_size(frame, syntax)
        if len(frame) > most or size not in (None, (*matrix, 1)):
            raise ImpossibleSizeError(
                f"{header.name} holds a compressed image of {size or len(frame)} where the header "
                f"says {matrix[0]} x {matrix[1]}; expected the same; export the series again"
            )
    decoder = get_decoder(syntax)
    plugin = _PREFERRED_PLUGIN.get(syntax, "")
    for index in indices:
        with nullcontext() if plugin in decoder.available_plugins else _complaints_raised():
            array, _ = decoder.as_array(
                dataset,
                index=index,
                raw=True,
                decoding_plugin=plugin if plugin in decoder.available_plugins else "",
            )
        yield array


def coded_size(frame: bytes, transfer_syntax: str) -> tuple[int, int, int] | None:
    """Return rows, columns and components by a codestream's own header.

    Parameters
    ----------
    frame : bytes
        JPEG (ISO/IEC 10918-1), JPEG-LS (14495-1) or JPEG 2000 (15444-1).
    transfer_syntax : str

    Returns
    -------
    tuple of int, or None
        None for RLE, which has no size of its own.

    Raises
    ------
    ValueError
        If there is no such header.
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
    nobody has measured. The file descriptor belongs to the whole process, so one thread at a time.
    """
    trace = import_module("gdcm").Trace
    with _ONE_AT_A_TIME, tempfile.TemporaryFile() as complaints:
        trace.WarningOff()
        trace.ErrorOff()
        sys.stderr.flush()
        kept = os.dup(2)
        os.dup2(complaints.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
        complaints.seek(0)
        if said := complaints.read(200):
            raise ValueError(said.decode("ascii", "replace"))
