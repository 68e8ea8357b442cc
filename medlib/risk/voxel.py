"""Agreement of two masks, voxel by voxel.

One policy for empty masks, everywhere: a ratio whose denominator is zero is undefined. It is NaN,
stays out of means, and is counted. Two empty masks have no Dice; an empty reference with a
non-empty prediction has a Dice of 0, because there is a region and none of it is right.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

EMPTY_POLICY = (
    "A ratio whose denominator is zero is undefined: it is NaN, stays out of means, and is counted."
)

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class VoxelCounts:
    """Numbers of voxels: the four fields of the confusion matrix, and the ratios made of them.

    Of one pair of masks, or a column of each for many.
    """

    true_positive: Any
    false_positive: Any
    false_negative: Any
    true_negative: Any

    @property
    def dice(self) -> Any:
        """2 TP / (2 TP + FP + FN)."""
        hits = 2 * self.true_positive
        return ratio(hits, hits + self.false_positive + self.false_negative)

    @property
    def iou(self) -> Any:
        """TP / (TP + FP + FN), the Jaccard index."""
        union = self.true_positive + self.false_positive + self.false_negative
        return ratio(self.true_positive, union)

    @property
    def sensitivity(self) -> Any:
        """TP / (TP + FN), also called recall."""
        return ratio(self.true_positive, self.true_positive + self.false_negative)

    @property
    def false_negative_rate(self) -> Any:
        """FN / (TP + FN) = 1 - sensitivity."""
        return ratio(self.false_negative, self.true_positive + self.false_negative)

    @property
    def specificity(self) -> Any:
        """TN / (TN + FP)."""
        return ratio(self.true_negative, self.true_negative + self.false_positive)

    @property
    def accuracy(self) -> Any:
        """(TP + TN) / all: nearly 1 for whoever marks nothing, where lesions are rare."""
        right = self.true_positive + self.true_negative
        return ratio(right, right + self.false_positive + self.false_negative)

    def metrics(self) -> dict[str, Any]:
        """Return every ratio by its name."""
        return {name: getattr(self, name) for name in VOXEL_METRICS}


VOXEL_METRICS = ("dice", "iou", "sensitivity", "false_negative_rate", "specificity", "accuracy")


def ratio(part: Any, whole: Any) -> Any:
    """Divide by the empty policy: NaN where `whole`, and with it `part`, is zero."""
    with np.errstate(invalid="ignore"):
        return np.true_divide(part, whole)


def count_voxels(reference: Mask, prediction: Mask, ignored: Mask | None = None) -> VoxelCounts:
    """Count how two masks agree; ignored voxels are neither right nor wrong.

    Raises
    ------
    ValueError
        Where the masks are not boolean or differ in shape.
    """
    masks = [reference, prediction] if ignored is None else [reference, prediction, ignored]
    for mask in masks:
        if mask.dtype != bool:
            raise ValueError(
                f"a mask must be boolean, got {mask.dtype}; compare it with a threshold"
            )
        if mask.shape != reference.shape:
            raise ValueError(f"masks must share one grid, got {[m.shape for m in masks]}")
    if ignored is not None:
        reference, prediction = reference[~ignored], prediction[~ignored]
    n_both = int(np.count_nonzero(reference & prediction))
    n_reference = int(np.count_nonzero(reference))
    n_prediction = int(np.count_nonzero(prediction))
    return VoxelCounts(
        true_positive=n_both,
        false_positive=n_prediction - n_both,
        false_negative=n_reference - n_both,
        true_negative=reference.size - n_reference - n_prediction + n_both,
    )
