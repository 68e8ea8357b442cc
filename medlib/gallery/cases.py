"""A case as the reader of the book sees it: CT, reference standard and prediction side by side."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import ndimage

from medlib.annotation.case import Case
from medlib.annotation.lidc import PANEL_SIZE
from medlib.annotation.reference import reference_mask
from medlib.baseline.candidates import Prediction
from medlib.baseline.stored_predictions import predictions
from medlib.gallery.tiles import PREDICTION_STYLE, REFERENCE_STYLE, Tile, overlay
from medlib.images.windows import WINDOWS
from medlib.risk.evaluation_files import Evaluation

NARROWEST_MM = 32.0
CROP_OVER_LESION = 2.5  # how much wider than the lesion a picture is
TILE_PX = 360
PHANTOM_WORDS = (
    "A phantom, not a patient: the anatomy is synthetic, the lesions have the outlines that "
    "LIDC-IDRI radiologists drew."
)
OUTLINE_WORDS = (
    f"Lung window. Outlines: the reference standard ({REFERENCE_STYLE.words}), what is reported "
    f"({PREDICTION_STYLE.words}). "
)


def what_is_shown(dataset: str, *, outlines: bool = False) -> str:
    """Say what pictures of this dataset are, and their outlines, for the caption below them."""
    words = PHANTOM_WORDS if dataset == "phantom" else f"From the dataset {dataset}."
    return OUTLINE_WORDS + words if outlines else words


def load_cases(
    evaluation: Evaluation, case_ids: Iterable[str], method: str = "network"
) -> dict[str, tuple[Case, Prediction]]:
    """Read the named cases with one method's prediction."""
    wanted = set(case_ids)
    table = evaluation.cohort.table
    splits = tuple(table.loc[table["case_id"].isin(wanted), "split"].unique())
    found = predictions(evaluation.run, evaluation.cohort, method, splits)
    return {case.case_id: (case, marked) for case, marked in found if case.case_id in wanted}


def lesion_tiles(
    case: Case,
    prediction: Prediction,
    threshold: float,
    *,
    lesion_id: str = "",
    candidate_id: int = 0,
) -> list[Tile]:
    """Show one lesion, or one marked region where there is no lesion, in three tiles.

    CT; CT with reference mask; CT with reference mask and prediction. The slice is the one where
    the lesion's reference mask (else the marked region) is largest, cropped to `CROP_OVER_LESION`
    times its width there, `NARROWEST_MM` at least. Regions that score below the operating point
    `threshold` are not drawn, as the user would not see them.
    """
    reference, reported = reference_mask(case.readers), _reported(prediction, threshold)
    subject, focus = f"marked region {candidate_id}", prediction.labels == candidate_id
    if lesion_id:
        subject, focus = f"lesion {lesion_id}", _outlined(case, lesion_id)
        focus = focus & reference if (focus & reference).any() else focus
    z, crop = _largest_slice(focus, case.volume.spacing_mm)
    width_mm = (crop[1].stop - crop[1].start) * case.volume.spacing_mm[2]
    hu, reference, reported = (array[z][crop] for array in (case.volume.hu, reference, reported))
    marked = reported.any()
    tiles = (
        (f"CT, {width_mm:.0f} mm wide", None, None, "no outline"),
        ("Reference standard", reference, None, "the readers' outline"),
        (
            "Prediction" if marked else "Prediction: nothing marked",
            reference,
            reported,
            f"the readers' {'and the predicted outline' if marked else 'outline alone'}",
        ),
    )
    factor = max(round(TILE_PX / hu.shape[1]), 1)
    return [
        Tile(
            overlay(hu, first, second, WINDOWS["lung"], factor=factor),
            alt=f"axial CT of {case.case_id}, slice {z}, around {subject}: {words}",
            label=label,
        )
        for label, first, second, words in tiles
    ]


def slice_tile(case: Case, prediction: Prediction, threshold: float, lesion_id: str) -> Tile:
    """Show the whole slice through a lesion, for where in the chest it lies."""
    z = int(_outlined(case, lesion_id).sum(axis=(1, 2)).argmax())
    reference, reported = reference_mask(case.readers[z]), _reported(prediction, threshold)[z]
    return Tile(
        overlay(case.volume.hu[z], reference, reported, WINDOWS["lung"], factor=2),
        alt=f"whole axial CT slice {z} of {case.case_id} with lesion {lesion_id}: "
        "the readers' and the predicted outline",
        label="Whole slice",
    )


def reading(row: Any) -> str:
    """Say in one line what the figures of a row of a lesion or an error table are."""

    def known(name: str) -> Any:
        value = getattr(row, name, None)
        return None if pd.isna(value) else value

    parts = [f"{row.case_id}, {row.site}: {row.diameter_mm:.1f} mm"]
    if n_readers := known("n_readers"):
        parts.append(f"drawn by {n_readers:.0f} of {PANEL_SIZE} readers")
    if known("high_risk"):
        parts.append("high risk")
    score = known("score" if hasattr(row, "score") else "best_score")
    parts.append("no score" if score is None else f"score {score:.2f}")
    if (dice := known("dice")) is not None:
        parts.append(f"Dice {dice:.2f}")
    if (agreed := known("reader_dice")) is not None:
        parts.append(f"the readers among themselves {agreed:.2f}")
    cause = f" {row.cause.capitalize()}." if hasattr(row, "cause") else ""
    return f"{', '.join(parts)}.{cause}"


def _reported(prediction: Prediction, threshold: float) -> NDArray[np.bool_]:
    candidates = prediction.candidates
    shown = candidates.loc[candidates["score"] >= threshold, "candidate_id"]
    return np.isin(prediction.labels, shown)


def _outlined(case: Case, lesion_id: str) -> NDArray[np.bool_]:
    label = case.lesions.set_index("lesion_id").at[lesion_id, "label"]
    outlined: NDArray[np.bool_] = case.lesion_labels == label
    return outlined


def _largest_slice(
    focus: NDArray[np.bool_], spacing_mm: tuple[float, float, float]
) -> tuple[int, tuple[slice, slice]]:
    """Return the slice with the largest area and a square crop around its centre there."""
    z = int(focus.sum(axis=(1, 2)).argmax())
    box = ndimage.find_objects(focus[z].astype(np.uint8))[0]
    steps_mm = spacing_mm[1:]
    widest_mm = max(
        (side.stop - side.start) * step for side, step in zip(box, steps_mm, strict=True)
    )
    crop_mm = max(NARROWEST_MM, CROP_OVER_LESION * widest_mm)
    crop = []
    for side, size, step in zip(box, focus.shape[1:], steps_mm, strict=True):
        length = min(round(crop_mm / step), size)
        start = int(np.clip(round((side.start + side.stop - length) / 2), 0, size - length))
        crop.append(slice(start, start + length))
    return z, (crop[0], crop[1])
