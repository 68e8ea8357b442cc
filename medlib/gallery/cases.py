"""A case as the reader of the book sees it: CT, reference standard and prediction side by side."""

from __future__ import annotations

from collections.abc import Iterable
from math import isnan
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medlib.annotation.case import Case
from medlib.annotation.lidc import PANEL_SIZE
from medlib.annotation.reference import reference_mask
from medlib.baseline.candidates import Prediction
from medlib.baseline.stored_predictions import predictions
from medlib.gallery.tiles import PREDICTION_STYLE, REFERENCE_STYLE, Tile, overlay
from medlib.images.windows import WINDOWS
from medlib.risk.evaluation import Evaluation

NARROWEST_MM = 32.0
CROP_OVER_LESION = 2.5  # how much wider than the lesion a picture is
TILE_PX = 360
MIN_TILE_REM = 6.25  # three tiles stand side by side on a phone

TILE_LEGEND = (
    f"Lung window. Outlines: the reference standard ({REFERENCE_STYLE.words}), "
    f"what is reported ({PREDICTION_STYLE.words})."
)


def what_is_shown(dataset: str) -> str:
    """Say what pictures of this dataset are, for the caption below them."""
    if dataset == "phantom":
        return (
            "A phantom, not a patient: the anatomy is synthetic, the lesions have the outlines "
            "that LIDC-IDRI radiologists drew."
        )
    return f"From the dataset {dataset}."


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

    The slice is the one where the lesion's reference mask (else the marked region) is largest,
    cropped to `CROP_OVER_LESION` times its width there, `NARROWEST_MM` at least.

    Parameters
    ----------
    case : Case
    prediction : Prediction
    threshold : float
        The operating point; regions that score lower are not drawn, as the user would not see
        them.
    lesion_id : str
    candidate_id : int
        Used where `lesion_id` is empty.

    Returns
    -------
    list of Tile
        CT; CT with reference mask; CT with reference mask and prediction.
    """
    reference = reference_mask(case.readers)
    reported = np.isin(
        prediction.labels,
        prediction.candidates.loc[prediction.candidates["score"] >= threshold, "candidate_id"],
    )
    if lesion_id:
        label = case.lesions.set_index("lesion_id").at[lesion_id, "label"]
        union = case.lesion_labels == label
        focus = union & reference if (union & reference).any() else union
    else:
        focus = prediction.labels == candidate_id
    z, crop = _largest_slice(focus, case.volume.spacing_mm)
    width_mm = (crop[1].stop - crop[1].start) * case.volume.spacing_mm[2]
    subject = f"lesion {lesion_id}" if lesion_id else f"marked region {candidate_id}"
    where = f"axial CT of {case.case_id}, slice {z}, around {subject}"
    hu, reference, reported = (array[z][crop] for array in (case.volume.hu, reference, reported))
    factor = max(round(TILE_PX / hu.shape[1]), 1)
    tiles = (
        (f"CT, {width_mm:.0f} mm wide", None, None, "no outline"),
        ("Reference standard", reference, None, "the readers' outline"),
        ("Prediction", reference, reported, "the readers' and the predicted outline")
        if reported.any()
        else ("Prediction: nothing marked", reference, None, "the readers' outline alone"),
    )
    return [
        Tile(
            overlay(hu, first, second, WINDOWS["lung"], factor=factor),
            alt=f"{where}: {words}",
            label=name,
        )
        for name, first, second, words in tiles
    ]


def slice_tile(case: Case, prediction: Prediction, threshold: float, lesion_id: str) -> Tile:
    """Show the whole slice through a lesion, for where in the chest it lies."""
    label = case.lesions.set_index("lesion_id").at[lesion_id, "label"]
    z = int((case.lesion_labels == label).sum(axis=(1, 2)).argmax())
    candidates = prediction.candidates
    shown = candidates.loc[candidates["score"] >= threshold, "candidate_id"]
    picture = overlay(
        case.volume.hu[z],
        reference_mask(case.readers[z]),
        np.isin(prediction.labels[z], shown),
        WINDOWS["lung"],
        factor=2,
    )
    words = f"whole axial CT slice {z} of {case.case_id} with lesion {lesion_id}"
    return Tile(
        picture, alt=f"{words}: the readers' and the predicted outline", label="Whole slice"
    )


def reading(row: Any) -> str:
    """Say in one line what the figures of a row are.

    Parameters
    ----------
    row : namedtuple or Series
        With `case_id`, `site`, `diameter_mm`, and where they apply `n_readers`, `score` (or
        `best_score`), `dice`, `reader_dice`, `high_risk`, `cause`.
    """
    parts = [f"{row.case_id}, {row.site}: {row.diameter_mm:.1f} mm"]
    n_readers = getattr(row, "n_readers", np.nan)
    if not _missing(n_readers):
        parts.append(f"drawn by {int(n_readers)} of {PANEL_SIZE} readers")
    if getattr(row, "high_risk", False):
        parts.append("high risk")
    score = getattr(row, "score", getattr(row, "best_score", np.nan))
    parts.append("no score" if _missing(score) else f"score {score:.2f}")
    if not _missing(dice := getattr(row, "dice", np.nan)):
        parts.append(f"Dice {dice:.2f}")
    if not _missing(agreed := getattr(row, "reader_dice", np.nan)):
        parts.append(f"the readers among themselves {agreed:.2f}")
    line = ", ".join(parts)
    return f"{line}. {row.cause.capitalize()}." if hasattr(row, "cause") else f"{line}."


def _missing(value: Any) -> bool:
    return not isinstance(value, (int, float, np.number)) or isnan(value)


def _largest_slice(
    focus: NDArray[np.bool_], spacing_mm: tuple[float, float, float]
) -> tuple[int, tuple[slice, slice]]:
    """Return the slice with the largest area and a square crop around its centre there."""
    z = int(focus.sum(axis=(1, 2)).argmax())
    corners = np.argwhere(focus[z])
    first, last = corners.min(axis=0), corners.max(axis=0) + 1
    widest_mm = float(((last - first) * spacing_mm[1:]).max())
    crop_mm = max(NARROWEST_MM, CROP_OVER_LESION * widest_mm)
    sides = []
    for middle, size, step in zip((first + last) / 2, focus.shape[1:], spacing_mm[1:], strict=True):
        length = min(round(crop_mm / step), size)
        start = int(np.clip(round(middle - length / 2), 0, size - length))
        sides.append(slice(start, start + length))
    return z, (sides[0], sides[1])
