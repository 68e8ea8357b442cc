"""What a split by image claims: one small model, trained under two ways to divide the same images.

Lesions are cut out slice by slice, a small network learns what the readers thought of them, and is
judged on images held out: single images (slices of the same lesion on both sides), or all images
of some patients. Both trainings see the same number of images. The difference of the two results
is the inflation.

The measure can fail, and has to: `unrelated_patients` deals the images out to patients that
share nothing. Then a split by patient is a split by image, and the inflation is 0 but for chance.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.ndimage import find_objects, map_coordinates
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.neighbors import NearestNeighbors
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from medlib.errors import DataError
from medlib.images.volume import Volume

BY_IMAGE, BY_PATIENT = "by image", "by patient"
CROP_PX = 32  # of 1 mm
HU_RANGE = (-1000.0, 400.0)
COMPONENTS = 30
HIDDEN = 16
STEPS = 40
TEST_SHARE = 0.3
REPEATS = 10
_TRIES = 100


def lesion_crops(
    volume: Volume, labels: NDArray[np.integer[Any]]
) -> Iterator[tuple[int, int, NDArray[np.float32]]]:
    """Cut out every lesion (k where `labels` is k) in every slice that it reaches.

    Yields
    ------
    label : int
    slice : int
    crop : ndarray of float32, shape (CROP_PX, CROP_PX)
        1 mm a pixel whatever the scanner, about the centre of the lesion's outline in that
        slice; `HU_RANGE` as 0 to 1.
    """
    _, dy, dx = volume.spacing_mm
    offset_mm = np.arange(CROP_PX) - (CROP_PX - 1) / 2
    low, high = HU_RANGE
    for label, place in enumerate(find_objects(labels), start=1):
        if place is None:
            continue
        for k in range(place[0].start, place[0].stop):
            rows, columns = np.nonzero(labels[k][place[1:]] == label)
            if not len(rows):
                continue
            row, column = rows.mean() + place[1].start, columns.mean() + place[2].start
            at = np.meshgrid(row + offset_mm / dy, column + offset_mm / dx, indexing="ij")
            hu = map_coordinates(volume.hu[k], at, order=1, mode="nearest")
            yield label, k, ((np.clip(hu, low, high) - low) / (high - low)).astype(np.float32)


def judge_splits(
    images: NDArray[np.float32],
    labels: NDArray[np.bool_],
    patients: NDArray[np.generic],
    repeats: int = REPEATS,
    seed: int = 0,
) -> pd.DataFrame:
    """Train the same model on as many images, split by image and split by patient.

    Parameters
    ----------
    images : ndarray, shape (images, rows, columns)
    labels, patients : ndarray, shape (images,)
    repeats : int
        Divisions of each kind, each with its own model.

    Returns
    -------
    DataFrame
        A row a repeat, split and test image: `split` (`BY_IMAGE` or `BY_PATIENT`), `repeat`,
        `image`, `patient_id`, `label`, `score`, and `n_train`, alike for both splits of a repeat.

    Raises
    ------
    DataError
        If no division leaves both labels on both sides.
    """
    flat = images.reshape(len(images), -1)
    rows = []
    # Small matrices: more threads only wait for each other.
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the number of steps is the rule
        for repeat in range(repeats):
            rng = np.random.default_rng([seed, repeat])
            n_patients = len(np.unique(patients))
            n_held = min(max(1, round(TEST_SHARE * n_patients)), n_patients - 1)
            held_patients = _hold_out(patients, n_held, labels, rng)
            single = np.arange(len(labels))
            held_images = _hold_out(single, int(held_patients.sum()), labels, rng)
            for split, test in ((BY_IMAGE, held_images), (BY_PATIENT, held_patients)):
                model = small_network(int((~test).sum()), seed + repeat)
                model.fit(flat[~test], labels[~test])
                rows.append(
                    pd.DataFrame(
                        {
                            "split": split,
                            "repeat": repeat,
                            "image": np.flatnonzero(test),
                            "patient_id": patients[test],
                            "label": labels[test],
                            "score": model.predict_proba(flat[test])[:, 1],
                            "n_train": int((~test).sum()),
                        }
                    )
                )
    return pd.concat(rows, ignore_index=True)


def small_network(n_train: int, seed: int) -> Pipeline:
    """Return an untrained network: principal components, one hidden layer, trained by L-BFGS.

    It takes `STEPS` steps, whether or not it would gain by more. Its settings were chosen once, by
    hand, and are those of both splits.
    """
    return make_pipeline(
        PCA(min(COMPONENTS, n_train - 1), whiten=True, random_state=seed),
        MLPClassifier((HIDDEN,), solver="lbfgs", alpha=1.0, max_iter=STEPS, random_state=seed),
    )


def mean_auroc(judged: pd.DataFrame, split: str) -> float:
    """Return the area under the ROC curve of one split, the mean of its repeats.

    Of what `judge_splits` found, or of rows drawn from it. Repeats whose rows are all of one label
    are left out; NaN if all are.
    """
    rows = judged[judged["split"] == split]
    repeat, label, score = (rows[name].to_numpy() for name in ("repeat", "label", "score"))
    areas = [_auroc(label[repeat == k], score[repeat == k]) for k in np.unique(repeat)]
    defined = [area for area in areas if not np.isnan(area)]
    return float(np.mean(defined)) if defined else float("nan")


def inflation(judged: pd.DataFrame) -> float:
    """Return by how much the split by image exceeds the split by patient, in `mean_auroc`."""
    return mean_auroc(judged, BY_IMAGE) - mean_auroc(judged, BY_PATIENT)


def unrelated_patients(patients: NDArray[np.generic], seed: int) -> NDArray[np.generic]:
    """Deal the images out to patients at random: as many for each, with nothing in common."""
    return np.random.default_rng(seed).permutation(patients)


def nearest_is_own(pictures: NDArray[np.float32], groups: NDArray[np.generic]) -> NDArray[np.bool_]:
    """Say for each picture whether the other picture most like it is of the same group."""
    flat = pictures.reshape(len(pictures), -1)
    with threadpool_limits(1):
        nearest = NearestNeighbors(n_neighbors=2).fit(flat).kneighbors(flat)[1]
    own = np.where(nearest[:, 0] == np.arange(len(flat)), nearest[:, 1], nearest[:, 0])
    same: NDArray[np.bool_] = groups[own] == groups
    return same


def _hold_out(
    units: NDArray[np.generic], n_held: int, labels: NDArray[np.bool_], rng: np.random.Generator
) -> NDArray[np.bool_]:
    """Draw units to hold out, until both labels stand on both sides."""
    for _ in range(_TRIES):
        test: NDArray[np.bool_] = np.isin(units, rng.permutation(np.unique(units))[:n_held])
        if all(len(np.unique(labels[side])) == 2 for side in (test, ~test)):
            return test
    raise DataError(
        f"{len(labels)} images, {int(labels.sum())} positive: no division has both labels on both "
        "sides; expected several patients of each; take more patients"
    )


def _auroc(label: NDArray[np.bool_], score: NDArray[np.float64]) -> float:
    """Return the share of pairs that are in order, ties counted half: the area under the curve.

    Many times as fast as scikit-learn's, which a bootstrap would call thousands of times.
    """
    positive, negative = score[label], np.sort(score[~label])
    if not len(positive) or not len(negative):
        return float("nan")
    below = np.searchsorted(negative, positive, side="left")
    not_above = np.searchsorted(negative, positive, side="right")
    return float((below + not_above).mean() / 2 / len(negative))
