"""What the network has to beat: a classical blob detector and an empty answer.

The blob detector is a fair one: it works on the same working grid and in the same lung field as the
network, it looks for dots at several sizes, and it turns tubes, that is vessels, down by the shape
of the intensity around each voxel. Its settings were chosen on train and tune patients of the
phantom only.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medlib.baseline.config import TrainConfig
from medlib.baseline.grid import Spacing, WorkingGrid
from medlib.baseline.prediction import Prediction, find_candidates
from medlib.images.lungs import lung_field
from medlib.images.volume import Volume

TISSUE_HU = -550  # a voxel of a candidate is denser than this
HU_RANGE = (-1000, 100)  # so that bone and calcium do not outshine soft tissue
SIGMAS_MM = (1.2, 1.8, 2.7, 4.0)  # a blob of radius r answers most at about r / sqrt(3)
TRUNCATE = 4.0  # a filter reaches so many sigma
SEED_HU = 100.0  # dot enhancement that starts a candidate
HALF_SCORE_HU = 300.0  # dot enhancement whose score is 0.5
LOWEST_SCORE = 0.9 * SEED_HU / (SEED_HU + HALF_SCORE_HU)  # just below that of the faintest seed
GROWTH_MM = 2.0  # how far a candidate grows from its seed into tissue


def dot_enhancement(
    hu: NDArray[np.float32], spacing_mm: Spacing, where: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """Return how much each voxel looks like the inside of a bright dot, at its best size.

    With the eigenvalues of the Hessian sorted by size, ``|l1| >= |l2| >= |l3|``, a bright dot has
    three large negative ones and a bright tube two. The answer is ``l3**2 / |l1|`` where all three
    are negative, else 0, with derivatives multiplied by ``sigma**2`` so that sizes compare (Li,
    Sone and Doi, Medical Physics 30:2040-2051, 2003).

    Parameters
    ----------
    hu : ndarray, shape (z, y, x)
    spacing_mm : tuple of float
    where : ndarray of bool, shape (z, y, x)
        The voxels to look at; the others are 0.

    Returns
    -------
    ndarray of float32, shape (z, y, x)
        In HU.
    """
    out = np.zeros(hu.shape, dtype=np.float32)
    if not where.any():
        return out
    room = [int(np.ceil(TRUNCATE * SIGMAS_MM[-1] / step)) for step in spacing_mm]
    box = tuple(
        slice(max(side.start - n, 0), side.stop + n)
        for side, n in zip(ndimage.find_objects(where.astype(np.uint8))[0], room, strict=True)
    )
    part, looked_at = hu[box], where[box]
    with ThreadPoolExecutor(2) as pool:  # the filters let go of the interpreter
        sizes = pool.map(lambda s: _dots_of_size(part, spacing_mm, looked_at, s), SIGMAS_MM)
        out[where] = np.max(list(sizes), axis=0)
    return out


def _dots_of_size(
    hu: NDArray[np.float32], spacing_mm: Spacing, where: NDArray[np.bool_], sigma_mm: float
) -> NDArray[np.float32]:
    """Return the dot enhancement at one size, of the voxels to look at."""
    sigma_px = [sigma_mm / step for step in spacing_mm]
    hessian = np.empty((int(where.sum()), 3, 3), dtype=np.float32)
    for i in range(3):
        for j in range(i, 3):
            order = [int(axis == i) + int(axis == j) for axis in range(3)]
            # In voxel units a derivative times sigma_px is the one in mm times sigma_mm.
            derivative = ndimage.gaussian_filter(
                hu, sigma_px, order=order, mode="nearest", truncate=TRUNCATE
            )
            hessian[:, i, j] = hessian[:, j, i] = derivative[where] * sigma_px[i] * sigma_px[j]
    low_to_high = np.linalg.eigvalsh(hessian)
    l1, l3 = low_to_high[:, 0], low_to_high[:, 2]
    dots: NDArray[np.float32] = np.where(l3 < 0, l3**2 / np.maximum(-l1, 1e-6), 0)
    return dots


def predict_threshold(config: TrainConfig, volume: Volume) -> Prediction:
    """Find candidates with a HU threshold and a dot filter inside the lung field.

    Returns
    -------
    Prediction
        Its "probability" is no probability but the score of the candidate, 0..1, rising with its
        best dot enhancement.
    """
    grid = WorkingGrid.of(volume.hu.shape, volume.spacing_mm, config)
    hu = grid.from_source(volume.hu)
    lung = lung_field(hu, grid.spacing_mm)
    tissue = lung & (hu > TISSUE_HU)
    dots = dot_enhancement(np.clip(hu, *HU_RANGE), grid.spacing_mm, tissue)
    seeds, n_seeds = ndimage.label(dots > SEED_HU, structure=np.ones((3, 3, 3)))
    seeded = seeds > 0
    numbers = np.arange(1, n_seeds + 1)
    best = ndimage.maximum(dots[seeded], seeds[seeded], numbers) if n_seeds else []
    peaks = np.concatenate([[0], best])
    score = (peaks / (peaks + HALF_SCORE_HU)).astype(np.float32)
    distance, nearest = ndimage.distance_transform_edt(
        ~seeded, sampling=grid.spacing_mm, return_indices=True
    )
    grown = tissue & (distance <= GROWTH_MM) if n_seeds else np.zeros_like(tissue)
    share = grid.to_source(grown.astype(np.float32))
    weighted = grid.to_source(np.where(grown, score[seeds[tuple(nearest)]], 0).astype(np.float32))
    inside = share >= 0.5
    probability = np.divide(weighted, share, out=np.zeros_like(share), where=inside)
    return find_candidates(
        probability, volume.spacing_mm, config.model_copy(update={"candidate_level": LOWEST_SCORE})
    )


def predict_nothing(config: TrainConfig, volume: Volume) -> Prediction:
    """Answer that there is no lesion, as a method that games plain accuracy would."""
    return find_candidates(np.zeros(volume.hu.shape, dtype=np.float32), volume.spacing_mm, config)
