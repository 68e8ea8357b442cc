"""Stored values to Hounsfield units, slice by slice, in a few threads."""

from __future__ import annotations

import math
import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medlib.errors import InputError
from medlib.images.dicom_codestreams import decoded_frame
from medlib.images.dicom_frames import Frame
from medlib.images.dicom_layout import Layout, check_layout
from medlib.images.image_errors import ImpossibleSizeError, NotHounsfieldError, PixelDataError
from medlib.images.plausible_hu import check_stray, stray_below_air

AIR_HU = -1024.0  # what scanners that clip write outside the field of view
LOWEST_HU = -1500.0  # air is -1000; noise reaches a few hundred further, never this far
HIGHEST_HU = 100_000.0  # far above any metal on an extended scale
_AIR_UP_TO_HU = -900.0
_TISSUE_UP_TO_HU = 3071.0
_MOST_PADDING = 0.8  # a circle leaves 0.21 of its square; beyond this the rescale is wrong
_OVERLAY_BIT = 0x60000102  # OverlayBitPosition
MAX_VOXELS = 2**31  # 8 GiB as float32; 2048 slices of 1024 x 1024
_WORKERS = min(4, (os.cpu_count() or 1) + 1)

Tally = Counter[str]  # how many voxels each of these notes is about
_TO_AIR = f"{{}} voxels outside the field of view (padding) were set to {AIR_HU:g} HU"
_STRAY = "below air"  # and no note
_LEFT = "{} voxels hold the padding value, which is that of a tissue: they were left as they are"
_CUT = "an overlay was cut from the unused bits of {} pixels"


def read_hounsfield(frames: list[Frame]) -> tuple[NDArray[np.float32], list[str]]:
    """Read the pixels of frames that lie on one grid.

    Every layout is checked against its file before memory is taken, and every file is read by
    itself, in one of a few threads.

    Returns HU of shape (z, y, x), and reservations. Raises InputError if pixels are absent, cut
    off, not what the header says, or not HU.
    """
    headers = {id(frame.header): frame.header for frame in frames}
    layouts = {key: check_layout(header) for key, header in headers.items()}
    first = layouts[id(frames[0].header)]
    hu = _allocate((len(frames), first.rows, first.columns))

    def read(k: int) -> Tally:
        return _read_frame(frames[k], layouts[id(frames[k].header)], out=hu[k])

    with ThreadPoolExecutor(_WORKERS) as pool:
        tally = sum(pool.map(read, range(len(frames))), Tally())
    check_stray(tally.pop(_STRAY, 0), hu.size)
    notes = [note for layout in layouts.values() for note in layout.notes]
    notes += [frame.note for frame in frames if frame.note]
    return hu, [*dict.fromkeys(notes), *_tally_notes(tally, hu.size)]


def same_hounsfield(one: Frame, other: Frame) -> bool:
    """Whether two images of one matrix hold the same HU, however they are stored."""
    both = []
    for frame in (one, other):
        layout = check_layout(frame.header)
        [hu] = _allocate((1, layout.rows, layout.columns))
        _read_frame(frame, layout, out=hu)
        both.append(hu)
    return np.array_equal(*both)


def _allocate(shape: tuple[int, int, int]) -> NDArray[np.float32]:
    try:
        if math.prod(shape) > MAX_VOXELS:
            raise MemoryError
        return np.empty(shape, dtype=np.float32)
    except MemoryError as error:
        raise ImpossibleSizeError(
            f"{' x '.join(map(str, shape))} voxels need {math.prod(shape) / 2**28:.1f} GiB; "
            "expected a CT of the chest that fits in memory; give a part of it or a coarser "
            "reconstruction"
        ) from error


def _stored(frame: Frame, layout: Layout) -> NDArray[Any]:
    """Read the stored values of one frame, shape (rows, columns)."""
    try:
        if layout.compressed:
            return decoded_frame(frame.header, layout, frame.index)
        offset = layout.offset + frame.index * layout.frame_bytes
        count = layout.rows * layout.columns
        values = np.fromfile(frame.header.path, layout.dtype, count, offset=offset)
        return values.reshape(layout.rows, layout.columns)
    except InputError:
        raise
    except Exception as error:  # decoders raise many kinds
        raise PixelDataError(
            f"the pixel data of {frame.header.name} cannot be decoded ({type(error).__name__}); "
            "expected a whole image; fetch the series again or decompress it"
        ) from error


def _read_frame(frame: Frame, layout: Layout, out: NDArray[np.float32]) -> Tally:
    """Read one slice in HU into `out`; what lies outside the field of view becomes air."""
    stored = _stored(frame, layout)
    if stored.shape != out.shape or stored.dtype.kind not in "iu":
        raise PixelDataError(
            f"{frame.name} holds pixels of shape {stored.shape}; expected one grey image of "
            f"{out.shape[0]} x {out.shape[1]}; give the CT images"
        )
    tally = Tally()
    padding = _padding(frame, layout, stored, tally)
    stored = _within_bits(frame, layout, stored, padding, tally)
    if frame.slope == 1:
        np.add(stored, np.float32(frame.intercept), out=out, casting="unsafe")
    else:
        np.multiply(stored, np.float32(frame.slope), out=out, casting="unsafe")
        out += np.float32(frame.intercept)
    if padding is not None:
        tally[_TO_AIR] += int(np.count_nonzero(out[padding] != AIR_HU))
        out[padding] = AIR_HU
    # The least stored value is found many times faster than the least HU.
    if float(stored.min()) * frame.slope + frame.intercept < LOWEST_HU:
        outside = out < LOWEST_HU
        tally[_TO_AIR] += int(np.count_nonzero(outside))
        tally[_STRAY] += stray_below_air(out[outside])
        out[outside] = AIR_HU
    if float(stored.max()) * frame.slope + frame.intercept > HIGHEST_HU and out.max() > HIGHEST_HU:
        raise NotHounsfieldError(
            f"{frame.name} reaches {out.max():g} HU; expected CT; its rescale of {frame.slope:g} "
            f"and {frame.intercept:g} is wrong: export the series again"
        )
    return tally


def _padding(
    frame: Frame, layout: Layout, stored: NDArray[Any], tally: Tally
) -> NDArray[np.bool_] | None:
    """Where the stored values say "nothing was measured here"."""
    first = frame.header.whole("PixelPaddingValue")
    if first is None:
        return None
    last = frame.header.whole("PixelPaddingRangeLimit")
    # The VR may promise another sign than the layout has: the bits count.
    low, high = sorted(
        int(np.int64(value % (1 << layout.bits)).astype(layout.dtype))
        for value in (first, first if last is None else last)
    )
    padded = (stored >= low) & (stored <= high)
    if not padded.any():
        return None
    hu = [float(value) * frame.slope + frame.intercept for value in (low, high)]
    if hu[0] >= AIR_HU and hu[1] <= _AIR_UP_TO_HU:
        return None  # air already
    if hu[1] < _AIR_UP_TO_HU or hu[0] > _TISSUE_UP_TO_HU:
        return padded
    tally[_LEFT] = int(np.count_nonzero(padded))
    return None


def _within_bits(
    frame: Frame,
    layout: Layout,
    stored: NDArray[Any],
    padding: NDArray[np.bool_] | None,
    tally: Tally,
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
        tally[_CUT] = int(np.count_nonzero((measured < least) | (measured >= beyond)))
        spare = layout.bits - layout.used
        return (stored << spare) >> spare
    raise PixelDataError(
        f"{frame.name} stores values from {low} to {high} in {layout.used} bits; expected {least} "
        f"to {beyond - 1}; export the series again"
    )


def _tally_notes(tally: Tally, voxels: int) -> list[str]:
    if tally[_TO_AIR] > _MOST_PADDING * voxels:
        raise NotHounsfieldError(
            f"{100 * tally[_TO_AIR] / voxels:.0f} % of the voxels lie outside any CT scale; "
            "expected HU; the rescale or the padding value is wrong: export the series again"
        )
    return [note.format(tally[note]) for note in (_TO_AIR, _LEFT, _CUT) if tally[note]]
