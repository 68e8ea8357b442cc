"""From four readers to one reference standard: the rules, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from medlib.annotation.lidc import PANEL_SIZE

MIN_READERS = 2

Readers = NDArray[np.uint8]
Mask = NDArray[np.bool_]
LesionStatus = Literal["required", "disputed"]


def votes(readers: Readers) -> NDArray[np.uint8]:
    """Return how many readers marked each voxel.

    Parameters
    ----------
    readers : ndarray of uint8, shape (z, y, x)
        Bit field: bit r is set where reader r has the voxel inside.

    Returns
    -------
    ndarray of uint8, shape (z, y, x)
    """
    return np.bitwise_count(readers).astype(np.uint8, copy=False)


def reader_masks(readers: Readers) -> Mask:
    """Take the bit field of one lesion apart.

    Returns
    -------
    ndarray of bool, shape (reader, z, y, x)
        As many as the highest bit that is set; none where no bit is.
    """
    n_readers = int(readers.max(initial=0)).bit_length()
    bits = np.arange(n_readers, dtype=np.uint8).reshape(-1, 1, 1, 1)
    return (readers[None] >> bits & 1).astype(bool)


def more_than_half(masks: Mask) -> Mask:
    """Return the voxels that more than half of these readers marked; (reader, z, y, x) stacked."""
    return np.asarray(2 * masks.sum(axis=0) > len(masks))


def reference_mask(readers: Readers, min_readers: int = MIN_READERS) -> Mask:
    """Return the voxels that at least `min_readers` readers marked: this project's standard.

    Parameters
    ----------
    readers : ndarray of uint8, shape (z, y, x)
        Bit field.
    min_readers : int
        1 to 8.

    Returns
    -------
    ndarray of bool, shape (z, y, x)

    Raises
    ------
    ValueError
        If `readers` is no bit field, or `min_readers` cannot be met.
    """
    if readers.dtype != np.uint8:
        raise ValueError(f"readers must be a uint8 bit field, got {readers.dtype}")
    if not 1 <= min_readers <= 8:
        raise ValueError(f"min_readers must lie between 1 and 8, got {min_readers}")
    return votes(readers) >= min_readers


def any_reader(readers: Readers) -> Mask:
    """Return the voxels that one reader or more marked: generous, and never misses a reader."""
    return reference_mask(readers, 1)


def at_least_two(readers: Readers) -> Mask:
    """Return the voxels that two readers or more marked."""
    return reference_mask(readers, 2)


def majority(readers: Readers) -> Mask:
    """Return the voxels that more than half of the panel of four marked."""
    return reference_mask(readers, PANEL_SIZE // 2 + 1)


def all_readers(readers: Readers) -> Mask:
    """Return the voxels that the whole panel of four marked: the part nobody disputes."""
    return reference_mask(readers, PANEL_SIZE)


POLICIES: Mapping[str, Callable[[Readers], Mask]] = MappingProxyType(
    {
        "any": any_reader,
        "at least two": at_least_two,
        "majority": majority,
        "all": all_readers,
    }
)


def lesion_status(n_readers: int) -> LesionStatus:
    """Say what a lesion means for the evaluation.

    Parameters
    ----------
    n_readers : int
        Readers who outlined it.

    Returns
    -------
    str
        ``"required"`` where at least `MIN_READERS` outlined it: missing it is a miss.
        ``"disputed"`` where one reader alone did: finding it is no false alarm, and leaving it
        out is no miss.

    Raises
    ------
    ValueError
        Where nobody outlined it.
    """
    if n_readers < 1:
        raise ValueError(f"a lesion has at least one reader, got {n_readers}")
    return "required" if n_readers >= MIN_READERS else "disputed"
