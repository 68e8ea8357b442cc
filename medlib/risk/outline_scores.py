"""How a mask drawn in a window stands among the readers of its nodule.

The reference of most figures is what more than half of the readers marked; beside it stands the
project's own standard, at least two of them. A reader has a part in such a majority and a model has
none; so both are also held against the majority of the *other* readers, each left out in turn.
"""

from __future__ import annotations

from typing import Any

import cc3d
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medlib.annotation.agreement import dice, iou
from medlib.annotation.case import Case
from medlib.annotation.reference import MIN_READERS, more_than_half, reference_mask
from medlib.annotation.surface import surface_voxels
from medlib.images.volume import sphere_diameter_mm
from medlib.risk.matching import MIN_IOU

REFERENCE = "majority of readers: voxels that more than half of them marked"
OUTLINE_METRICS = {  # name: unit, words
    "dice": ("", "3D Dice of all that is marked against what more than half of the readers marked"),
    "dice_at_least_two": (
        "",
        "3D Dice of all that is marked against what at least two readers marked, the standard",
    ),
    "model_dice_left_out": (
        "",
        "3D Dice of the model against the majority of the other readers, mean over readers",
    ),
    "reader_dice_left_out": (
        "",
        "3D Dice of the reader left out against the majority of the other readers, mean",
    ),
    "model_minus_reader": ("", "difference of the two, volume by volume"),
    "missed": ("", f"share of nodules without a marked region of IoU at least {MIN_IOU:g}"),
    "false_alarms": ("per volume", "marked regions that touch no reader's outline"),
    "surface_distance_mm": (
        "mm",
        "mean distance of the two surfaces, both ways; undefined where nothing is marked",
    ),
}


def score_outline(case: Case, marked: NDArray[np.bool_]) -> dict[str, Any]:
    """Score what is marked in a window, on its own grid, by `OUTLINE_METRICS`; NaN where undefined.

    The diameter is that of the majority.
    """
    readers = case.drawn_masks()
    reference = more_than_half(readers)
    voxel_mm3 = case.volume.voxel_volume_mm3
    regions = cc3d.connected_components(marked, connectivity=26)
    touched = [iou(reference, regions == k) for k in np.unique(regions[reference]) if k]
    near_any = np.unique(regions[case.readers > 0])
    # Each reader is left out in turn: who reads alone is held against nobody.
    others = [more_than_half(np.delete(readers, k, axis=0)) for k in range(len(readers))]
    pairs = [pair for pair in zip(readers, others, strict=True) if pair[1].any()]
    held = [(dice(majority, marked), dice(majority, one)) for one, majority in pairs]
    model, reader = np.mean(held or [(np.nan, np.nan)], axis=0).tolist()
    return {
        "voi_id": case.case_id,
        "patient_id": case.patient_id,
        "n_readers": len(readers),
        "diameter_mm": sphere_diameter_mm(float(reference.sum()) * voxel_mm3),
        "marked_mm3": float(marked.sum()) * voxel_mm3,
        "dice": dice(reference, marked),
        "dice_at_least_two": dice(reference_mask(case.readers, MIN_READERS), marked),
        "model_dice_left_out": model,
        "reader_dice_left_out": reader,
        "model_minus_reader": model - reader,
        "missed": float(max(touched, default=0.0) < MIN_IOU) if reference.any() else np.nan,
        "false_alarms": int(regions.max()) - int((near_any > 0).sum()),
        "surface_distance_mm": surface_distance_mm(reference, marked, case.volume.spacing_mm),
    }


def surface_distance_mm(
    a: NDArray[np.bool_], b: NDArray[np.bool_], spacing_mm: tuple[float, float, float]
) -> float:
    """Return the mean distance from each surface to the other, both ways; NaN if one is empty."""
    if not a.any() or not b.any():
        return float("nan")
    surfaces = [surface_voxels(mask) for mask in (a, b)]
    distances = [
        ndimage.distance_transform_edt(~to, sampling=spacing_mm)[of]
        for of, to in (surfaces, surfaces[::-1])
    ]
    return float(np.concatenate(distances).mean())
