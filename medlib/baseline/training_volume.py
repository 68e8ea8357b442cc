"""A patient on the working grid, with what a network learns there and what is left out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medlib.baseline.blob_filter import dot_enhancement
from medlib.baseline.config import TrainConfig
from medlib.baseline.grid import Spacing

BACKGROUND, LESION, IGNORED = 0, 1, 255
LESION_SHARE = 0.5  # from this share of readers on, a voxel is lesion
DENSE_HU = -500  # vessels, walls and lesions lie above it, aerated lung below
CLEAR_VOXELS = 2  # between a lesion and what is drawn as a hard place without one
ENOUGH_VOXELS = 30  # of hard places; a volume with fewer shows all that is dense


@dataclass(frozen=True)
class TrainingVolume:
    """One patient on the working grid [z, y, x].

    `lung`, `dense` and `aerated` are flat indices of the lung field, of its part above `DENSE_HU`
    (see `dense_voxels`) and of the rest.
    """

    patient_id: str
    hu: NDArray[np.int16]
    # `BACKGROUND`, `LESION` or `IGNORED`; or between them the share of readers who marked it.
    target: NDArray[np.uint8] | NDArray[np.float32]
    lesions: tuple[NDArray[np.intp], ...]  # the voxels of each required lesion, shape (n, 3)
    lung: NDArray[np.int32]
    dense: NDArray[np.int32]
    aerated: NDArray[np.int32]
    is_window: bool = False  # cut out around a nodule: what lies beyond is not air but mirrored

    @classmethod
    def of(
        cls,
        patient_id: str,
        hu: NDArray[np.float32],
        target: NDArray[np.uint8] | NDArray[np.float32],
        lesions: Iterable[NDArray[np.bool_]],
        lung: NDArray[np.bool_],
        dense: NDArray[np.int32],
        *,
        is_window: bool = False,
    ) -> TrainingVolume:
        """Keep of masks the voxels."""
        voxels = tuple(np.argwhere(lesion) for lesion in lesions if lesion.any())
        aerated = flat_indices(lung & (hu <= DENSE_HU))
        rounded, inside = np.rint(hu).astype(np.int16), flat_indices(lung)
        return cls(patient_id, rounded, target, voxels, inside, dense, aerated, is_window)


def flat_indices(where: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Return the flat indices of what is true; in half the memory, as a cohort has many."""
    return np.flatnonzero(where).astype(np.int32)


def dense_voxels(
    hu: NDArray[np.float32],
    spacing_mm: Spacing,
    where: NDArray[np.bool_],
    marked: NDArray[np.bool_],
    config: TrainConfig,
) -> NDArray[np.int32]:
    """Return the flat indices of vessels and walls, on which crops without a lesion are centred.

    A voxel of a wall teaches little, a bend of a vessel that looks like a nodule teaches much:
    where the configuration says so, only what answers to the dot filter is taken, and of it
    nothing that touches what is `marked` as lesion or left out of the loss.
    """
    dense = where & (hu > DENSE_HU)
    if not config.hard_hu:
        return flat_indices(dense)
    free = dense & ~ndimage.binary_dilation(marked, iterations=CLEAR_VOXELS)
    hard = flat_indices(dot_enhancement(hu, spacing_mm, free) > config.hard_hu)
    return hard if len(hard) >= ENOUGH_VOXELS else flat_indices(free)
