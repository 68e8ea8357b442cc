"""From several readers to one reference standard.

A bit field is an array of uint8, shape (z, y, x), in which bit r is set where reader r has the
voxel inside. Every rule by name, for comparison: `medlib.annotation.policies`.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

MIN_READERS = 2

Readers = NDArray[np.uint8]
Mask = NDArray[np.bool_]


def votes(readers: Readers) -> NDArray[np.uint8]:
    """Return how many readers marked each voxel of a bit field."""
    return np.bitwise_count(readers).astype(np.uint8, copy=False)


def reader_masks(readers: Readers) -> Mask:
    """Take a lesion's bit field apart: (reader, z, y, x), as many as the highest bit set."""
    n_readers = int(readers.max(initial=0)).bit_length()
    bits = np.arange(n_readers, dtype=np.uint8).reshape(-1, 1, 1, 1)
    return (readers[None] >> bits & 1).astype(bool)


def reference_mask(readers: Readers, min_readers: int = MIN_READERS) -> Mask:
    """Return the voxels that at least `min_readers` readers marked: this project's standard."""
    if readers.dtype != np.uint8:
        raise ValueError(f"readers must be a uint8 bit field, got {readers.dtype}")
    if not 1 <= min_readers <= 8:
        raise ValueError(f"min_readers must lie between 1 and 8, got {min_readers}")
    return votes(readers) >= min_readers


def more_than_half(masks: Mask) -> Mask:
    """Return the voxels that more than half of these readers marked: (reader, z, y, x) stacked.

    Another policy than `reference_mask`: what it takes depends on how many are asked.
    """
    return np.asarray(2 * masks.sum(axis=0) > len(masks))


def lesion_status(n_readers: int) -> Literal["required", "disputed"]:
    """Say what a lesion that so many readers outlined means for the evaluation.

    Missing a required one is a miss; finding a disputed one is no false alarm, leaving it out no
    miss.
    """
    return "required" if n_readers >= MIN_READERS else "disputed"
