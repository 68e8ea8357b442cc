"""Stored values to Hounsfield units, slice by slice, in a few threads."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.uid import UID

from medlib.errors import InputError
from medlib.images.codestreams import decoded_frames, is_lossy
from medlib.images.dicom_frames import Frame, check_grey
from medlib.images.dicom_header import UNDEFINED_LENGTH, Header
from medlib.images.image_errors import (
    ImpossibleSizeError,
    NoPixelsError,
    NotHounsfieldError,
    PixelDataError,
    TruncatedPixelsError,
)

AIR_HU = -1024.0  # what scanners that clip write outside the field of view
LOWEST_HU = -1500.0  # air is -1000; noise reaches a few hundred further, never this far
HIGHEST_HU = 100_000.0  # far above any metal on an extended scale
_AIR_UP_TO_HU = -900.0
_TISSUE_UP_TO_HU = 3071.0
_MOST_PADDING = 0.8  # a circle leaves 0.21 of its square; beyond this the rescale is wrong
_OVERLAY_BIT = 0x60000102  # OverlayBitPosition
MAX_VOXELS = 2**31  # 8 GiB as float32; 2048 slices of 1024 x 1024
_WORKERS = min(4, (os.cpu_count() or 1) + 1)


@dataclass(frozen=True)
class _Layout:
    """How one frame is stored."""

    rows: int
    columns: int
    bits: int  # allocated
    used: int  # of them stored
    signed: bool
    little: bool
    compressed: bool

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(
            f"{'<' if self.little else '>'}{'i' if self.signed else 'u'}{self.bits // 8}"
        )

    @property
    def frame_bytes(self) -> int:
        return self.rows * self.columns * self.bits // 8


@dataclass
class _Tally:
    """What had to be changed in one slice."""

    to_air: int = 0
    kept_padding: int = 0
    high_bits: int = 0
    lowest: float = 0.0
    highest: float = 0.0


def read_hounsfield(series: str, frames: list[Frame]) -> tuple[NDArray[np.float32], list[str]]:
    """Read the pixels of frames that lie on one grid.

    Every layout is checked against its file before memory is taken. Files are read once; native
    little-endian values go from the file to the volume without a copy in between.

    Parameters
    ----------
    series : str
        What messages call the series.
    frames : list of Frame
        In the order of z, of one matrix.

    Returns
    -------
    hu : ndarray of float32, shape (z, y, x)
    notes : list of str
        Reservations.

    Raises
    ------
    InputError
        If pixels are absent, cut off, not what the header says, or not HU.
    """
    checked: dict[int, tuple[_Layout, list[str]]] = {}
    for frame in frames:
        if id(frame.header) not in checked:
            checked[id(frame.header)] = _check_layout(series, frame.header)
    layouts = {key: layout for key, (layout, _) in checked.items()}
    first = layouts[id(frames[0].header)]
    shape = (len(frames), first.rows, first.columns)
    hu = _allocate(series, shape)
    parts = _parts(frames, layouts)
    with ThreadPoolExecutor(_WORKERS) as pool:
        try:
            jobs = [pool.submit(_read_part, series, part, layouts, hu) for part in parts]
            tallies = [tally for job in jobs for tally in job.result()]
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    notes = [note for _, found in checked.values() for note in found]
    notes += [frame.note for frame in frames if frame.note]
    return hu, [*dict.fromkeys(notes), *_tally_notes(series, tallies, hu.size)]


def _allocate(series: str, shape: tuple[int, int, int]) -> NDArray[np.float32]:
    voxels = shape[0] * shape[1] * shape[2]
    refusal = (
        f"{series}: {shape[0]} slices of {shape[1]} x {shape[2]} need "
        f"{voxels * 4 / 2**30:.1f} GiB; expected a CT of the chest that fits in memory; give a "
        "part of it or a coarser reconstruction"
    )
    if voxels > MAX_VOXELS:
        raise ImpossibleSizeError(refusal)
    try:
        return np.empty(shape, dtype=np.float32)
    except MemoryError as error:
        raise ImpossibleSizeError(refusal) from error


def _parts(frames: list[Frame], layouts: dict[int, _Layout]) -> list[list[tuple[int, Frame]]]:
    """Split the frames into jobs: compressed frames of one file stay together."""
    numbered = list(enumerate(frames))
    native = [[job] for job in numbered if not layouts[id(job[1].header)].compressed]
    packed = [job for job in numbered if layouts[id(job[1].header)].compressed]
    packed.sort(key=lambda job: (str(job[1].header.path), job[1].index))
    return native + [list(part) for _, part in groupby(packed, lambda job: id(job[1].header))]


def _check_layout(series: str, header: Header) -> tuple[_Layout, list[str]]:
    """Hold what a header claims against the file's size."""
    notes = [note] if (note := check_grey(series, header)) else []
    if header.pixels is None:
        raise NoPixelsError(
            f"{series}: {header.name} has no pixel data; expected an image in every file; fetch "
            "the series again"
        )
    layout = _layout(series, header)
    frames = header.whole("NumberOfFrames") or 1
    claimed = layout.frame_bytes * frames
    if is_lossy(header.transfer_syntax, header.get("LossyImageCompression")):
        notes.append("compressed with loss: HU and edges are not those of the scanner")
    if layout.compressed:
        if header.pixels.length != UNDEFINED_LENGTH:
            raise PixelDataError(
                f"{series}: {header.name} is marked as compressed and holds plain values; expected "
                "one of them; export the series again"
            )
        return layout, notes
    if header.pixels.length == UNDEFINED_LENGTH:
        raise PixelDataError(
            f"{series}: {header.name} is marked as plain and holds compressed pixels; expected one "
            "of them; export the series again"
        )
    present = min(header.pixels.length, header.size - header.pixels.offset)
    if header.pixels.length > present and claimed > present:
        raise TruncatedPixelsError(
            f"{series}: {header.name} ends after {present} of {header.pixels.length} bytes of "
            "pixel data; expected a whole image; fetch the series again"
        )
    if claimed > present:
        raise ImpossibleSizeError(
            f"{series}: {header.name} claims {layout.rows} x {layout.columns} pixels of "
            f"{layout.bits} bits and {frames} frame(s), and holds {present} bytes of them; "
            f"expected {claimed}; export the series again"
        )
    if present > claimed + 1:
        notes.append("more pixel data than the matrix needs: the rest was passed over")
    return layout, notes


def _layout(series: str, header: Header) -> _Layout:
    allocated, stored = header.whole("BitsAllocated"), header.whole("BitsStored")
    high, kind = header.whole("HighBit"), header.whole("PixelRepresentation")
    if (
        allocated not in (8, 16, 32)
        or stored is None
        or not 1 <= stored <= allocated
        or high not in (None, stored - 1)
        or kind not in (0, 1)
    ):
        raise PixelDataError(
            f"{series}: {header.name} has BitsAllocated {allocated}, BitsStored {stored}, HighBit "
            f"{high}, PixelRepresentation {kind}; expected 8, 16 or 32 bits, the lowest of them "
            "stored; export the series again"
        )
    rows, columns = header.whole("Rows"), header.whole("Columns")
    assert rows is not None  # frames_of has checked the matrix
    assert columns is not None
    syntax = UID(header.transfer_syntax)
    known = syntax in pydicom.uid.AllTransferSyntaxes
    little = header.dataset.original_encoding[1] is not False
    compressed = known and syntax.is_encapsulated
    return _Layout(rows, columns, allocated, stored, kind == 1, little, compressed)


def _read_part(
    series: str,
    part: list[tuple[int, Frame]],
    layouts: dict[int, _Layout],
    hu: NDArray[np.float32],
) -> list[_Tally]:
    tallies = []
    for (k, frame), stored in zip(part, _stored(series, part, layouts), strict=True):
        layout = layouts[id(frame.header)]
        tallies.append(_to_hounsfield(series, frame, layout, stored, out=hu[k]))
    return tallies


def _stored(
    series: str, part: list[tuple[int, Frame]], layouts: dict[int, _Layout]
) -> Iterator[NDArray[Any]]:
    """Yield the stored values of the frames of one file."""
    header = part[0][1].header
    layout = layouts[id(header)]
    indices = [frame.index for _, frame in part]
    try:
        if layout.compressed:
            yield from decoded_frames(header, (layout.rows, layout.columns), layout.bits, indices)
        else:
            for index in indices:
                yield _native(header, layout, index)
    except InputError:
        raise
    except Exception as error:  # decoders raise many kinds
        raise PixelDataError(
            f"{series}: the pixel data of {header.name} cannot be decoded "
            f"({type(error).__name__}); expected a whole image; fetch the series again or "
            "decompress it"
        ) from error


def _native(header: Header, layout: _Layout, index: int) -> NDArray[Any]:
    assert header.pixels is not None
    with header.path.open("rb", buffering=0) as stream:
        stream.seek(header.pixels.offset + index * layout.frame_bytes)
        raw = stream.read(layout.frame_bytes)
    return np.frombuffer(raw, dtype=layout.dtype).reshape(layout.rows, layout.columns)


def _to_hounsfield(
    series: str,
    frame: Frame,
    layout: _Layout,
    stored: NDArray[Any],
    out: NDArray[np.float32],
) -> _Tally:
    """Rescale one slice into `out`; what lies outside the field of view becomes air."""
    if stored.shape != out.shape or stored.dtype.kind not in "iu":
        raise PixelDataError(
            f"{series}: {frame.name} holds pixels of shape {stored.shape}; expected one grey image "
            f"of {out.shape[0]} x {out.shape[1]}; give the CT images"
        )
    tally = _Tally()
    padding = _padding(frame, layout, stored, tally)
    stored = _within_bits(series, frame, layout, stored, padding, tally)
    if frame.slope == 1:
        np.add(stored, np.float32(frame.intercept), out=out, casting="unsafe")
    else:
        np.multiply(stored, np.float32(frame.slope), out=out, casting="unsafe")
        out += np.float32(frame.intercept)
    if padding is not None:
        tally.to_air += int(np.count_nonzero(out[padding] != AIR_HU))
        out[padding] = AIR_HU
    # The least stored value is found many times faster than the least HU.
    if float(stored.min()) * frame.slope + frame.intercept < LOWEST_HU:
        outside = out < LOWEST_HU
        tally.to_air += int(np.count_nonzero(outside))
        out[outside] = AIR_HU
    if float(stored.max()) * frame.slope + frame.intercept > HIGHEST_HU and out.max() > HIGHEST_HU:
        raise NotHounsfieldError(
            f"{series}: {frame.name} reaches {out.max():g} HU; expected CT; its rescale of "
            f"{frame.slope:g} and {frame.intercept:g} is wrong: export the series again"
        )
    return tally


def _padding(
    frame: Frame, layout: _Layout, stored: NDArray[Any], tally: _Tally
) -> NDArray[np.bool_] | None:
    """Where the stored values say "nothing was measured here"."""
    first = frame.header.whole("PixelPaddingValue")
    if first is None:
        return None
    last = frame.header.whole("PixelPaddingRangeLimit")
    low, high = sorted(_as_stored(v, layout) for v in (first, first if last is None else last))
    padded = (stored >= low) & (stored <= high)
    if not padded.any():
        return None
    hu = [float(value) * frame.slope + frame.intercept for value in (low, high)]
    if hu[0] >= AIR_HU and hu[1] <= _AIR_UP_TO_HU:
        return None  # air already
    if hu[1] < _AIR_UP_TO_HU or hu[0] > _TISSUE_UP_TO_HU:
        return padded
    tally.kept_padding = int(np.count_nonzero(padded))
    return None


def _as_stored(value: int, layout: _Layout) -> int:
    """Return the number that these bits mean in the layout: the VR may promise another sign."""
    span = 1 << layout.bits
    wrapped = value % span
    return wrapped - span if layout.signed and wrapped >= span // 2 else wrapped


def _within_bits(
    series: str,
    frame: Frame,
    layout: _Layout,
    stored: NDArray[Any],
    padding: NDArray[np.bool_] | None,
    tally: _Tally,
) -> NDArray[Any]:
    """Values of fewer bits than are allocated, with their sign."""
    if layout.used == layout.bits:
        return stored
    measured = stored if padding is None else stored[~padding]
    if not measured.size:
        return stored
    low, high = int(measured.min()), int(measured.max())
    least = -(1 << (layout.used - 1)) if layout.signed else 0
    beyond = least + (1 << layout.used)
    if least <= low and high < beyond:
        return stored
    if layout.signed and low >= 0 and high < 1 << layout.used:  # written without their sign
        return np.where(stored >= beyond, stored - (1 << layout.used), stored)
    if _OVERLAY_BIT in frame.header.dataset:  # an overlay in the unused bits
        tally.high_bits = int(np.count_nonzero((measured < least) | (measured >= beyond)))
        spare = layout.bits - layout.used
        return (stored << spare) >> spare
    raise PixelDataError(
        f"{series}: {frame.name} stores values from {low} to {high} in {layout.used} bits; "
        f"expected {least} to {beyond - 1}; export the series again"
    )


def _tally_notes(series: str, tallies: list[_Tally], voxels: int) -> list[str]:
    to_air = sum(tally.to_air for tally in tallies)
    if to_air > _MOST_PADDING * voxels:
        raise NotHounsfieldError(
            f"{series}: {100 * to_air / voxels:.0f} % of the voxels lie outside any CT scale; "
            "expected HU; the rescale or the padding value is wrong: export the series again"
        )
    notes = []
    if to_air:
        notes.append(
            f"{to_air} voxels outside the field of view (padding) were set to {AIR_HU:g} HU"
        )
    if kept := sum(tally.kept_padding for tally in tallies):
        notes.append(
            f"{kept} voxels hold the padding value, which is that of a tissue: they were left as "
            "they are"
        )
    if high := sum(tally.high_bits for tally in tallies):
        notes.append(f"an overlay was cut from the unused bits of {high} pixels")
    return notes
