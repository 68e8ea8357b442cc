"""How far readers agree: where a lesion ends, whether it is there, and what it looks like."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from medlib.annotation.lidc import PANEL_SIZE
from medlib.annotation.reference import more_than_half

Mask = NDArray[np.bool_]


def dice(first: Mask, second: Mask) -> float:
    """Overlap of two masks, ``2 |A and B| / (|A| + |B|)`` (Dice, Ecology 26:297-302, 1945).

    NaN where both are empty.
    """
    total = int(first.sum()) + int(second.sum())
    return 2.0 * int((first & second).sum()) / total if total else float("nan")


def iou(first: Mask, second: Mask) -> float:
    """Overlap of two masks, ``|A and B| / |A or B|`` (Jaccard), which is ``dice / (2 - dice)``.

    NaN where both are empty.
    """
    union = int((first | second).sum())
    return int((first & second).sum()) / union if union else float("nan")


@dataclass(frozen=True)
class PairAgreement:
    """Two readers' outlines of one nodule; `dice_2d` is the mean over slices that both drew on."""

    dice_3d: float
    dice_2d: float


def pairwise_agreement(masks: Mask) -> list[PairAgreement]:
    """Compare every two readers of one nodule, (0, 1), (0, 2) ...; shape (reader, z, y, x)."""
    found = []
    for first, second in combinations(masks, 2):
        shared = first.any(axis=(1, 2)) & second.any(axis=(1, 2))
        by_slice = [dice(a, b) for a, b in zip(first[shared], second[shared], strict=True)]
        dice_2d = float(np.mean(by_slice)) if by_slice else float("nan")
        found.append(PairAgreement(dice(first, second), dice_2d))
    return found


@dataclass(frozen=True)
class MajorityAgreement:
    """One reader's outline against what most of the others marked.

    The rate is the share of the majority's voxels that the reader left out; NaN where it has none.
    """

    dice_3d: float
    voxel_false_negative_rate: float


def reader_vs_majority(masks: Mask) -> list[MajorityAgreement]:
    """Compare each reader with what more than half of all the others marked.

    `masks` of at least three readers (ValueError): one other is no majority, of three others two.
    """
    if len(masks) < 3:
        raise ValueError(f"a majority of others needs at least 3 readers, got {len(masks)}")
    found = []
    for reader, mask in enumerate(masks):
        majority = more_than_half(np.delete(masks, reader, axis=0))
        missed, positive = int((majority & ~mask).sum()), int(majority.sum())
        rate = missed / positive if positive else float("nan")
        found.append(MajorityAgreement(dice(mask, majority), rate))
    return found


def lesion_detection(n_readers: int, panel_size: int = PANEL_SIZE) -> tuple[int, int, int]:
    """Read one lesion against the rest of the panel, once for each reader of the panel.

    For each reader the reference standard is what the other readers say: a lesion where at least
    two of them marked it. A mark that no other reader shares is a false positive; a mark that one
    other shares is disputed and counts as neither. `n_readers` of the panel marked the lesion.

    Returns
    -------
    hits, misses, false_positives : int
        Summed over the readers of the panel.
    """
    if not 0 < n_readers <= panel_size:
        raise ValueError(f"{n_readers} readers marked it; expected 1 to {panel_size}")
    hits = n_readers if n_readers - 1 >= 2 else 0
    misses = panel_size - n_readers if n_readers >= 2 else 0
    return hits, misses, int(n_readers == 1)


def coincidences(counts: ArrayLike) -> NDArray[np.float64]:
    """Return the coincidence matrix of each unit :cite:p:`krippendorff2018`.

    Matrices of several units add up, so a resample of patients needs no second look at its units.

    Parameters
    ----------
    counts : array_like of int, shape (unit, category)
        How many readers gave each category 1, 2, ...

    Returns
    -------
    ndarray, shape (unit, category, category)
        Pairs of ratings within the unit, each pair weighted by one over its ratings less one;
        zeros for a unit with fewer than two ratings.
    """
    table = np.asarray(counts, dtype=float)
    n_ratings = table.sum(axis=1)
    pairs: NDArray[np.float64] = table[:, :, None] * table[:, None, :]
    pairs -= np.eye(table.shape[1]) * table[:, None, :]
    pairs /= np.where(n_ratings >= 2, n_ratings - 1, np.inf)[:, None, None]
    return pairs


def ordinal_alpha(coincidence: NDArray[np.float64]) -> float:
    """Krippendorff's ordinal alpha: agreement of ratings beyond chance :cite:p:`krippendorff2018`.

    The package `krippendorff` gives the same from counts; this one is fast enough for a thousand
    resamples.

    `coincidence` is the sum of `coincidences` over units. 1 is perfect agreement, 0 is chance; NaN
    where alpha is undefined: no pair of ratings, or one category only.
    """
    given = coincidence.sum(axis=0)
    if (given > 0).sum() < 2:
        return float("nan")
    middle = np.cumsum(given) - given / 2  # rank of a category's middle
    distance = (middle[:, None] - middle[None]) ** 2
    expected = (given[:, None] * given[None] * distance).sum() / (given.sum() - 1)
    return float(1 - (coincidence * distance).sum() / expected)


def percentile_among_readers(
    dice_3d: float, diameter_mm: float, readers: pd.DataFrame, *, n_nearest: int = 400
) -> float:
    """Say where an overlap lies among those that readers reach on nodules of that size.

    Parameters
    ----------
    dice_3d, diameter_mm : float
        Overlap of a model (or of a further reader) with a reference standard; of which lesion.
    readers : DataFrame
        A row a reader and nodule with `dice_3d` and `diameter_mm`: best
        `reader_study.majority_table`, one reader against the majority of the others.
    n_nearest : int
        How many rows, those nearest in the logarithm of the diameter, to compare with.

    Returns
    -------
    float
        Share of those rows below `dice_3d`, ties counted half. NaN where `dice_3d` is; ValueError
        without a reader to compare with, or where the diameter is not positive.
    """
    if not diameter_mm > 0:
        raise ValueError(f"diameter_mm must be positive, got {diameter_mm}")
    known = readers.dropna(subset=["dice_3d"])
    if known.empty:
        raise ValueError("there is no reader's dice_3d to compare with")
    if np.isnan(dice_3d):
        return float("nan")
    away = np.abs(np.log(known["diameter_mm"].to_numpy() / diameter_mm))
    nearest = known["dice_3d"].to_numpy()[np.argsort(away, kind="stable")[:n_nearest]]
    return float(((nearest < dice_3d).sum() + (nearest == dice_3d).sum() / 2) / len(nearest))
