"""How a mask of a volume of interest stands among the readers of its nodule.

The reference is the readers' majority: the voxels that more than half of them marked. A reader has
a part in that majority and a model has none; so both are also held against the majority of the
*other* readers, each reader left out in turn.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import cc3d
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import ndimage

from medlib.annotation.case import Case
from medlib.annotation.reference import more_than_half
from medlib.baseline.candidates import Prediction
from medlib.images.volume import sphere_diameter_mm
from medlib.risk.bootstrap import Estimate, bootstrap_mean
from medlib.risk.matching import MIN_IOU
from medlib.risk.voxel import dice, iou

REFERENCE = "majority of readers: voxels that more than half of them marked"
SIZES_MM = (0, 5, 7, 10, 15, 20, np.inf)  # bins of the diameter, for the table by size
OUTLINE_METRICS = {
    "dice": ("", "3D Dice of all that is marked against the majority of readers"),
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
METRICS = {
    **OUTLINE_METRICS,
    "not_reported": (
        "",
        "share of nodules that search and close look do not report at the operating point; they "
        "get the block around the nodule and no hint where in it, and use neither lung field nor "
        "search for masses",
    ),
    "search_alarms": (
        "per volume",
        "candidates reported by that search that touch no reader's outline; undefined where the "
        "block holds annotations of other nodules",
    ),
}


def left_out(
    readers: NDArray[np.bool_],
) -> Iterator[tuple[NDArray[np.bool_], NDArray[np.bool_]]]:
    """Yield each reader with the majority of the others; nothing where there are fewer than two."""
    if len(readers) < 2:
        return
    for reader in range(len(readers)):
        yield readers[reader], more_than_half(np.delete(readers, reader, axis=0))


def score_voi(voi: Case, marked: NDArray[np.bool_]) -> dict[str, Any]:
    """Score the mask of one volume of interest.

    Parameters
    ----------
    voi : Case
        A window.
    marked : ndarray of bool, shape (z, y, x)
        On the grid of the volume.

    Returns
    -------
    dict
        ``voi_id``, ``patient_id``, ``n_readers``, ``diameter_mm`` (of the majority),
        ``marked_mm3`` and the names of `OUTLINE_METRICS`; NaN where undefined.
    """
    readers = voi.drawn_masks()
    reference = more_than_half(readers)
    spacing_mm = voi.volume.spacing_mm
    regions = cc3d.connected_components(marked, connectivity=26)
    touched = [iou(reference, regions == k) for k in np.unique(regions[reference]) if k]
    n_regions = int(regions.max())
    near_any = np.unique(regions[voi.readers > 0])
    pairs = [(reader, others) for reader, others in left_out(readers) if others.any()]
    model = _mean([dice(others, marked) for _, others in pairs])
    reader = _mean([dice(others, reader) for reader, others in pairs])
    return {
        "voi_id": voi.case_id,
        "patient_id": voi.patient_id,
        "n_readers": len(readers),
        "diameter_mm": sphere_diameter_mm(float(reference.sum()) * voi.volume.voxel_volume_mm3),
        "marked_mm3": float(marked.sum()) * voi.volume.voxel_volume_mm3,
        "dice": dice(reference, marked),
        "model_dice_left_out": model,
        "reader_dice_left_out": reader,
        "model_minus_reader": model - reader,
        "missed": float(max(touched, default=0.0) < MIN_IOU) if reference.any() else np.nan,
        "false_alarms": n_regions - int((near_any > 0).sum()),
        "surface_distance_mm": surface_distance_mm(reference, marked, spacing_mm),
    }


def search_score(voi: Case, found: Prediction) -> float:
    """Return the highest score of the candidates that overlap the nodule; 0 where none does.

    Overlap is an IoU with the readers' majority of at least `MIN_IOU`; NaN where that is empty.
    """
    reference = more_than_half(voi.drawn_masks())
    if not reference.any():
        return float("nan")
    scores = found.candidates.set_index("candidate_id")["score"]
    touching = [k for k in np.unique(found.labels[reference]) if k]
    hits = [k for k in touching if iou(reference, found.labels == k) >= MIN_IOU]
    return max((float(scores[k]) for k in hits), default=0.0)


def search_alarm_scores(voi: Case, found: Prediction) -> list[float]:
    """Return the scores of the candidates that touch no reader's outline, highest first."""
    touching = np.unique(found.labels[voi.readers > 0])
    others = found.candidates[~found.candidates["candidate_id"].isin(touching)]
    return sorted((round(float(score), 6) for score in others["score"]), reverse=True)


def surface_distance_mm(
    a: NDArray[np.bool_], b: NDArray[np.bool_], spacing_mm: tuple[float, float, float]
) -> float:
    """Return the mean distance from each surface to the other, both ways; NaN if one is empty.

    A surface is the mask's voxels with a face neighbour outside; distances are between voxel
    centres.
    """
    if not a.any() or not b.any():
        return float("nan")
    surfaces = [mask & ~ndimage.binary_erosion(mask) for mask in (a, b)]
    distances = [
        ndimage.distance_transform_edt(~to, sampling=spacing_mm)[of]
        for of, to in (surfaces, surfaces[::-1])
    ]
    return float(np.concatenate(distances).mean())


def summarise(cases: pd.DataFrame) -> dict[str, Estimate]:
    """Estimate the mean of each of `METRICS` over volumes, resampled by patient."""
    return {name: bootstrap_mean(cases, name, unit=unit) for name, (unit, _) in METRICS.items()}


def by_size(cases: pd.DataFrame) -> list[dict[str, Any]]:
    """Count and average by diameter."""
    bins = pd.cut(cases["diameter_mm"], list(SIZES_MM), right=False)
    return [
        {
            "diameter_mm": f"{size.left:g} to {size.right:g}",
            "n": len(group),
            "dice": float(group["dice"].mean()),
            "model_dice_left_out": float(group["model_dice_left_out"].mean()),
            "reader_dice_left_out": float(group["reader_dice_left_out"].mean()),
            "missed": int(group["missed"].sum()),
            "not_reported": int(group["not_reported"].sum()),
        }
        for size, group in cases.groupby(bins, observed=True)
    ]


def _mean(values: list[float]) -> float:
    defined = [value for value in values if not np.isnan(value)]
    return float(np.mean(defined)) if defined else float("nan")
