"""Every rule by which several readers become one label, for comparison side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medlib.annotation.lidc import PANEL_SIZE
from medlib.annotation.reference import Mask, Readers, reader_masks, reference_mask, votes

STAPLE_MARGIN = 1  # voxels of background around the union
STAPLE_ITERATIONS = 100
OURS = "at least two"


def staple(readers: Readers) -> Mask:
    """Return the voxels that STAPLE holds more likely lesion than not :cite:p:`warfield2004`.

    Only readers who drew the lesion take part: one who drew nothing would count as blind. The
    estimate depends on how much background there is, so the grid is always the block of the union
    with `STAPLE_MARGIN` voxels around it.
    """
    import SimpleITK as sitk  # noqa: N813 - its usual name

    drawn = reader_masks(readers)
    drawn = drawn[drawn.any(axis=(1, 2, 3))]
    if len(drawn) < 2:
        return readers > 0
    [block] = ndimage.find_objects((readers > 0).astype(np.uint8))
    images = [
        sitk.GetImageFromArray(np.pad(one[block], STAPLE_MARGIN).astype(np.uint8)) for one in drawn
    ]
    estimate: Any = sitk.STAPLEImageFilter()  # type: ignore[no-untyped-call]
    estimate.SetForegroundValue(1)
    estimate.SetMaximumIterations(STAPLE_ITERATIONS)
    likely = sitk.GetArrayFromImage(estimate.Execute(images)) >= 0.5
    mask = np.zeros(readers.shape, dtype=bool)
    mask[block] = likely[(slice(STAPLE_MARGIN, -STAPLE_MARGIN),) * 3]
    return mask


def soft_mean(readers: Readers) -> NDArray[np.float32]:
    """Return the share of the panel that marked each voxel; a reader who drew nothing says 0."""
    return (votes(readers) / np.float32(PANEL_SIZE)).astype(np.float32)


# Of the panel of four, whether or not all of them drew the lesion.
MASK_POLICIES: Mapping[str, Callable[[Readers], Mask]] = {
    "any": partial(reference_mask, min_readers=1),
    OURS: partial(reference_mask, min_readers=2),
    "at least three": partial(reference_mask, min_readers=3),
    "all": partial(reference_mask, min_readers=PANEL_SIZE),
    "STAPLE": staple,
}


LABEL_POLICIES: Mapping[str, Callable[[Readers], NDArray[Any]]] = {
    **MASK_POLICIES,
    "soft mean": soft_mean,
}


def bit_field(masks: NDArray[np.bool_]) -> Readers:
    """Pack up to eight readers' masks into one bit field: the reverse of `reader_masks`."""
    if len(masks) > 8:
        raise ValueError(f"a bit field holds at most 8 readers, got {len(masks)}")
    bits = np.left_shift(1, np.arange(len(masks))).astype(np.uint8)
    field: Readers = (masks * bits[:, None, None, None]).sum(axis=0, dtype=np.uint8)
    return field
