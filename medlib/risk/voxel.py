"""Agreement of two masks, voxel by voxel.

One policy for empty masks, everywhere: a ratio whose denominator is zero is undefined. It is NaN,
stays out of means, and is counted. Two empty masks have no Dice; an empty reference with a
non-empty prediction has a Dice of 0, because there is a region and none of it is right.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

EMPTY_POLICY = (
    "A ratio whose denominator is zero is undefined: it is NaN, stays out of means, and is counted."
)

Mask = NDArray[np.bool_]


class VoxelCounts(NamedTuple):
    """The four fields of the confusion matrix: of one pair of masks, or a column for many."""

    true_positive: Any
    false_positive: Any
    false_negative: Any
    true_negative: Any

    def metrics(self) -> dict[str, Any]:
        """Return the ratios made of them, by the empty policy.

        Accuracy is nearly 1 for whoever marks nothing, where lesions are rare.
        """
        tp, fp, fn, tn = self
        return {
            "dice": _ratio(2 * tp, 2 * tp + fp + fn),
            "iou": _ratio(tp, tp + fp + fn),
            "sensitivity": _ratio(tp, tp + fn),
            "false_negative_rate": _ratio(fn, tp + fn),
            "specificity": _ratio(tn, tn + fp),
            "accuracy": _ratio(tp + tn, tp + fp + fn + tn),
        }


def _ratio(part: Any, whole: Any) -> Any:
    with np.errstate(invalid="ignore"):
        return np.true_divide(part, whole)


def count_voxels(reference: Mask, prediction: Mask, ignored: Mask | None = None) -> VoxelCounts:
    """Count how two masks agree; ignored voxels are neither right nor wrong.

    ValueError where the masks are not boolean or differ in shape.
    """
    masks = [mask for mask in (reference, prediction, ignored) if mask is not None]
    for mask in masks:
        if mask.dtype != bool:
            raise ValueError(
                f"a mask must be boolean, got {mask.dtype}; compare it with a threshold"
            )
        if mask.shape != reference.shape:
            raise ValueError(f"masks must share one grid, got {[m.shape for m in masks]}")
    if ignored is not None:
        reference, prediction = reference[~ignored], prediction[~ignored]
    return VoxelCounts(
        true_positive=int((reference & prediction).sum()),
        false_positive=int((~reference & prediction).sum()),
        false_negative=int((reference & ~prediction).sum()),
        true_negative=int((~reference & ~prediction).sum()),
    )
