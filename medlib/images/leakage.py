"""What a split by image claims: the same predictor, judged with and without its patients apart."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.model_selection import (
    StratifiedGroupKFold,
    StratifiedKFold,
    cross_val_predict,
)
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors
from sklearn.pipeline import make_pipeline
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from medlib.images.volume import Volume
from medlib.images.windows import WINDOWS, apply_window

FOLDS = 5
NEIGHBOURS = 3
COMPONENTS = 40
THUMBNAIL_PX = 40


def slice_thumbnails(volume: Volume) -> NDArray[np.float32]:
    """Return each slice as a small picture in the lung window.

    Returns
    -------
    ndarray of float32, shape (slices, THUMBNAIL_PX ** 2)
        Means over blocks of pixels; what does not fill a block at the far side is left out.
    """
    grey = apply_window(volume.hu, WINDOWS["lung"])
    slices, rows, columns = grey.shape
    high, wide = rows // THUMBNAIL_PX, columns // THUMBNAIL_PX
    blocks = grey[:, : high * THUMBNAIL_PX, : wide * THUMBNAIL_PX].reshape(
        slices, THUMBNAIL_PX, high, THUMBNAIL_PX, wide
    )
    thumbnails: NDArray[np.float32] = blocks.mean(axis=(2, 4))
    return thumbnails.reshape(slices, -1)


def nearest_neighbour_scores(
    pictures: NDArray[np.float32],
    labels: NDArray[np.bool_],
    groups: NDArray[np.generic] | None,
    seed: int,
) -> NDArray[np.float64]:
    """Score every picture by the labels of the pictures most like it in the other folds.

    Parameters
    ----------
    pictures : ndarray, shape (images, features)
    labels : ndarray of bool, shape (images,)
    groups : ndarray, shape (images,), or None
        The patient of each image: images of one patient share a fold. None: images are dealt out
        one by one, which is the mistake.
    seed : int
        Of the dealing.

    Returns
    -------
    ndarray of float64, shape (images,)
        Share of positive images among the nearest `NEIGHBOURS`, 0..1, out of fold.
    """
    kind = StratifiedKFold if groups is None else StratifiedGroupKFold
    folds = kind(n_splits=FOLDS, shuffle=True, random_state=seed)
    model = make_pipeline(
        PCA(min(COMPONENTS, *pictures.shape), random_state=seed),
        KNeighborsClassifier(n_neighbors=NEIGHBOURS),
    )
    with threadpool_limits(1):  # small matrices: more threads only wait for each other
        scores = cross_val_predict(
            model, pictures, labels, groups=groups, cv=folds, method="predict_proba"
        )
    return np.asarray(scores[:, 1], dtype=np.float64)


def nearest_is_own(pictures: NDArray[np.float32], groups: NDArray[np.generic]) -> NDArray[np.bool_]:
    """Say for each picture whether the other picture most like it is of the same patient.

    Parameters
    ----------
    pictures : ndarray, shape (images, features)
    groups : ndarray, shape (images,)
        The patient of each image.

    Returns
    -------
    ndarray of bool, shape (images,)
    """
    with threadpool_limits(1):
        nearest = NearestNeighbors(n_neighbors=2).fit(pictures).kneighbors(pictures)[1]
    own = np.where(nearest[:, 0] == np.arange(len(pictures)), nearest[:, 1], nearest[:, 0])
    same: NDArray[np.bool_] = groups[own] == groups
    return same
