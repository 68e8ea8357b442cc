"""What the network has to beat: a classical blob detector and an empty answer.

The blob detector is a fair one: it works on the same working grid and in the same lung field as the
network, it looks for dots at several sizes, and it turns tubes, that is vessels, down by the shape
of the intensity around each voxel. Its settings were chosen on train and tune patients of the
phantom only.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from medlib.baseline.blob_filter import dot_enhancement
from medlib.baseline.candidates import Prediction, find_candidates
from medlib.baseline.config import TrainConfig
from medlib.baseline.grid import WorkingGrid
from medlib.images.lungs import lung_field
from medlib.images.volume import Volume

TISSUE_HU = -550  # a voxel of a candidate is denser than this
SEED_HU = 100.0  # dot enhancement that starts a candidate
HALF_SCORE_HU = 300.0  # dot enhancement whose score is 0.5
LOWEST_SCORE = 0.9 * SEED_HU / (SEED_HU + HALF_SCORE_HU)  # just below that of the faintest seed
GROWTH_MM = 2.0  # how far a candidate grows from its seed into tissue


def predict_threshold(
    config: TrainConfig, volume: Volume, *, is_window: bool = False
) -> Prediction:
    """Find candidates with a HU threshold and a dot filter, in the lung field or in a window.

    Its "probability" is no probability but the score of the candidate, 0..1, rising with the dot
    enhancement of its seeds. With `is_window` the volume was cut out of a scan around a nodule: no
    lung field is looked for.
    """
    grid = WorkingGrid.of(volume.hu.shape, volume.spacing_mm, config)
    hu = grid.from_source(volume.hu)
    tissue = hu > TISSUE_HU
    if not is_window:
        tissue &= lung_field(hu, grid.spacing_mm)
    dots = dot_enhancement(hu, grid.spacing_mm, tissue)
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
