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
    """Return ``2 |A and B| / (|A| + |B|)`` (Dice, Ecology 26:297-302, 1945); NaN if both empty."""
    total = int(first.sum()) + int(second.sum())
    return 2.0 * int((first & second).sum()) / total if total else float("nan")


def iou(first: Mask, second: Mask) -> float:
    """Return ``|A and B| / |A or B|`` (Jaccard), ``dice / (2 - dice)``; NaN if both empty."""
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
    """One reader's outline against what most of the others marked."""

    dice_3d: float
    voxel_false_negative_rate: float  # share of the majority's voxels left out; NaN of none


def reader_vs_majority(masks: Mask) -> list[MajorityAgreement]:
    """Compare each reader with what more than half of the others marked: of three others, two."""
    if len(masks) < 3:
        raise ValueError(f"a majority of others needs at least 3 readers, got {len(masks)}")
    found = []
    for reader, mask in enumerate(masks):
        majority = more_than_half(np.delete(masks, reader, axis=0))
        missed, positive = int((majority & ~mask).sum()), int(majority.sum())
        rate = missed / positive if positive else float("nan")
        found.append(MajorityAgreement(dice(mask, majority), rate))
    return found


def lesion_detection(n_readers: int) -> tuple[int, int, int]:
    """Return hits, misses and false positives of a panel, of which `n_readers` marked a lesion.

    Each reader is held against the others: a lesion is what at least two of them marked. A mark
    that no other reader shares is a false positive; one that a single other shares is disputed and
    counts as neither.
    """
    hits = n_readers if n_readers - 1 >= 2 else 0
    misses = PANEL_SIZE - n_readers if n_readers >= 2 else 0
    return hits, misses, int(n_readers == 1)


def coincidences(counts: ArrayLike) -> NDArray[np.float64]:
    """Return the coincidence matrix of each unit :cite:p:`krippendorff2018`.

    `counts`, shape (unit, category): how many readers gave each category. Matrices, shape (unit,
    category, category), hold pairs of ratings within the unit, each weighted by one over its
    ratings less one. Those of several units add up: a resample of patients is a sum.
    """
    table = np.asarray(counts, dtype=float)
    n_ratings = table.sum(axis=1)
    pairs: NDArray[np.float64] = table[:, :, None] * table[:, None, :]
    pairs -= np.eye(table.shape[1]) * table[:, None, :]
    pairs /= np.where(n_ratings >= 2, n_ratings - 1, np.inf)[:, None, None]
    return pairs


def ordinal_alpha(coincidence: NDArray[np.float64]) -> float:
    """Return Krippendorff's ordinal alpha of the summed `coincidences`: 1 perfect, 0 chance.

    The package `krippendorff` gives the same from counts; this one is fast enough for a thousand
    resamples. NaN where alpha is undefined: no pair of ratings, or one category only.
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

    `readers` has a row a reader and nodule with `dice_3d` and `diameter_mm`: best
    `reader_study.majority_table`. Returned is the share of the `n_nearest` rows, in the logarithm
    of the diameter, that lie below `dice_3d`, ties counted half; NaN where `dice_3d` is.
    """
    if np.isnan(dice_3d):
        return float("nan")
    known = readers.dropna(subset=["dice_3d"])
    away = np.abs(np.log(known["diameter_mm"].to_numpy() / diameter_mm))
    nearest = known["dice_3d"].to_numpy()[np.argsort(away, kind="stable")[:n_nearest]]
    return float(((nearest < dice_3d).sum() + (nearest == dice_3d).sum() / 2) / len(nearest))
