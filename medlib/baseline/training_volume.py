"""A patient on the working grid, with what a network learns there and what is left out.

Voxels of a lesion that one reader alone marked are left out of the loss. To call them background
would teach the network to deny what a radiologist saw; to call them lesion, what three others did
not. The evaluation treats them in the same way: neither a miss nor a false alarm.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medlib.annotation.case import Case
from medlib.annotation.reference import lesion_status, reference_mask
from medlib.baseline.blob_filter import HU_RANGE, dot_enhancement
from medlib.baseline.config import TrainConfig
from medlib.baseline.grid import Spacing, WorkingGrid
from medlib.errors import DataError, OverlapError
from medlib.images.lungs import lung_field
from medlib.parallel import in_order

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


def prepare(case: Case, config: TrainConfig) -> TrainingVolume:
    """Bring a case to the working grid and mark lesion, background and what is left out."""
    grid = WorkingGrid.of(case.volume.hu.shape, case.volume.spacing_mm, config)
    hu = grid.from_source(case.volume.hu)
    lung = lung_field(hu, grid.spacing_mm)
    reference = reference_mask(case.readers)
    target = np.full(grid.shape, BACKGROUND, dtype=np.uint8)
    required = []
    for label, n_readers in zip(case.lesions["label"], case.lesions["n_readers"], strict=True):
        union = case.lesion_labels == label
        if lesion_status(int(n_readers)) == "required":
            voxels = grid.from_source(union & reference) >= 0.5
            target[voxels] = LESION
            if voxels.any():
                required.append(np.argwhere(voxels))
        else:
            target[(grid.from_source(union) > 0) & (target == BACKGROUND)] = IGNORED
    return TrainingVolume(
        patient_id=case.patient_id,
        hu=np.rint(hu).astype(np.int16),
        target=target,
        lesions=tuple(required),
        lung=flat_indices(lung),
        dense=dense_voxels(hu, grid.spacing_mm, lung, target != BACKGROUND, config),
        aerated=flat_indices(lung & (hu <= DENSE_HU)),
    )


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
    dots = dot_enhancement(np.clip(hu, *HU_RANGE), spacing_mm, free)
    hard = flat_indices(dots > config.hard_hu)
    return hard if len(hard) >= ENOUGH_VOXELS else flat_indices(free)


def training_volumes(
    cases: Iterable[Case], config: TrainConfig, split: str, other_patients: set[str]
) -> list[TrainingVolume]:
    """Prepare the cases of one split; `other_patients` stand in the other splits.

    Raises
    ------
    OverlapError
        If a case belongs to another split, or its patient stands in another split too.
    """

    def checked(case: Case) -> TrainingVolume:
        if case.split != split or case.patient_id in other_patients:
            raise OverlapError(
                f"patient {case.patient_id} (case {case.case_id}, split '{case.split}') came as "
                f"'{split}' data: a patient belongs to one split; mend the cohort's table"
            )
        return prepare(case, config)

    volumes = list(in_order(checked, cases))
    if not volumes:
        raise DataError(f"the cohort has no case in its '{split}' part: give it at least one")
    return volumes
