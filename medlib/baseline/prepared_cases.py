"""What a network learns from, on its working grid: patients, windows and whole scans.

Windows around LIDC nodules show what a nodule looks like and how far readers draw it. Whole real
scans and the phantom's lungs show what is no nodule.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

import numpy as np
from scipy import ndimage

from medlib.annotation.case import Case
from medlib.annotation.reference import lesion_status, reference_mask
from medlib.baseline.config import TrainConfig
from medlib.baseline.enlarged_nodules import NODULES_MM, enlarged
from medlib.baseline.grafts import Graft
from medlib.baseline.grid import WorkingGrid, widened
from medlib.baseline.training_sources import origins
from medlib.baseline.training_volume import (
    BACKGROUND,
    IGNORED,
    LESION,
    TrainingVolume,
    dense_voxels,
)
from medlib.cohorts.cohort import Cohort
from medlib.cohorts.project_split import lidc_patients
from medlib.cohorts.splits import check_disjoint
from medlib.errors import DataError
from medlib.images.lungs import lung_field
from medlib.images.volume import sphere_diameter_mm
from medlib.parallel import in_order

BOX_MARGINS = (1, 8, 8)  # slices, rows and columns around a box that are left out with it


def training_volumes(cohort: Cohort, config: TrainConfig, split: str) -> list[TrainingVolume]:
    """Prepare the cases of one part of a cohort.

    Raises OverlapError if a patient stands in two parts, DataError if this one is empty.
    """
    check_disjoint(cohort.table)
    volumes = list(in_order(lambda case: prepare(case, config), cohort.cases(split)))
    if not volumes:
        raise DataError(f"the cohort has no case in its '{split}' part: give it at least one")
    return volumes


def prepare(case: Case, config: TrainConfig, known: set[str] | None = None) -> TrainingVolume:
    """Bring a patient to the working grid and mark lesion, background and what is left out.

    Voxels of a lesion that one reader alone marked are left out of the loss. To call them
    background would teach the network to deny what a radiologist saw; to call them lesion, what
    three others did not. The evaluation treats them in the same way: neither a miss nor a false
    alarm. A phantom's lesions have the outlines of real nodules: those of LIDC patients that are
    not `known`, as they are kept for tuning or testing, are left out too.
    """
    grid = WorkingGrid.of(case.volume.hu.shape, case.volume.spacing_mm, config)
    hu = grid.from_source(case.volume.hu)
    reference = reference_mask(case.readers)
    target = np.full(grid.shape, BACKGROUND, dtype=np.uint8)
    required = []
    for label, n_readers in zip(case.lesions["label"], case.lesions["n_readers"], strict=True):
        union = case.lesion_labels == label
        if lesion_status(int(n_readers)) == "required":
            required.append(grid.from_source(union & reference) >= 0.5)
            target[required[-1]] = LESION
        else:
            target[(grid.from_source(union) > 0) & (target == BACKGROUND)] = IGNORED
    lung = lung_field(hu, grid.spacing_mm)
    dense = dense_voxels(hu, grid.spacing_mm, lung, target != BACKGROUND, config)
    if known is not None:
        unknown = case.lesions.loc[~origins(case).isin(known), "label"]
        hidden = grid.from_source(np.isin(case.lesion_labels, unknown.to_numpy(int))) > 0
        target[hidden] = IGNORED
        required = [lesion for lesion in required if not (lesion & hidden).any()]
    return TrainingVolume.of(case.patient_id, hu, target, required, lung, dense)


def prepare_window(window: Case, config: TrainConfig, *, by_share: bool = False) -> TrainingVolume:
    """Bring a window to the working grid; the target is the readers' reference.

    With `by_share` it is the share of readers who marked a voxel instead: where they disagree, the
    network is asked how much.
    """
    grid = WorkingGrid.of(window.volume.hu.shape, window.volume.spacing_mm, config)
    hu = grid.from_source(window.volume.hu)
    lesion = grid.from_source(window.reference) >= 0.5
    seen = grid.from_source(window.readers > 0) > 0
    share = grid.from_source(window.drawn_masks().mean(axis=0)) if by_share else None
    target = lesion.astype(np.uint8) if share is None else share
    dense = dense_voxels(hu, grid.spacing_mm, ~lesion, seen, config)
    everywhere = np.ones(grid.shape, dtype=bool)
    return TrainingVolume.of(
        window.patient_id, hu, target, [lesion], everywhere, dense, is_window=True
    )


def prepare_scan(scan: Case, config: TrainConfig) -> TrainingVolume:
    """Bring a whole scan to the working grid; boxes and what is doubtful are left out of the loss.

    A tumour is one lesion, in however many pieces.
    """
    grid = WorkingGrid.of(scan.volume.hu.shape, scan.volume.spacing_mm, config)
    hu = grid.from_source(scan.volume.hu)
    target = np.full(grid.shape, BACKGROUND, dtype=np.uint8)
    tumour = grid.from_source(scan.reference) >= 0.5
    if scan.doubtful is not None:
        target[grid.from_source(scan.doubtful) > 0] = IGNORED
    is_outlined = scan.label_kind != "boxes"
    if is_outlined:
        target[tumour] = LESION
    else:
        for z, inside in enumerate(tumour):
            for rows, columns in ndimage.find_objects(inside.astype(np.uint8)):
                box = (slice(z, z + 1), rows, columns)
                target[widened(box, grid.shape, BOX_MARGINS)] = IGNORED
    healthy = lung_field(hu, grid.spacing_mm) & (target == BACKGROUND)
    dense = dense_voxels(hu, grid.spacing_mm, healthy, target != BACKGROUND, config)
    lesions = [tumour] if is_outlined else []
    return TrainingVolume.of(scan.case_id, hu, target, lesions, healthy, dense)


def phantom_volumes(
    phantom: Cohort,
    split: str,
    config: TrainConfig,
    grids: Sequence[TrainConfig],
    known: set[str] | None = None,
) -> list[TrainingVolume]:
    """Prepare phantom patients of one part, as many as `phantom_patients` allows, on each grid.

    Lesions stay that have the outline of a patient in `known`, by default of the same part.
    """
    known = lidc_patients(split) if known is None else known
    cases = islice(phantom.cases(split), config.phantom_patients)
    return [prepare(case, grid, known) for case in cases for grid in grids]


def mass_of(window: Case, far: TrainConfig) -> Graft | None:
    """Enlarge the nodule of a window to a mass, for the grid of `far`.

    None if the nodule is too small, too large or not of soft tissue.
    """
    nodule, volume = window.reference, window.volume
    smallest, largest = NODULES_MM
    if not smallest <= sphere_diameter_mm(nodule.sum() * volume.voxel_volume_mm3) <= largest:
        return None
    # Thicker slices stay as they are: in them a mass is longer than it should be.
    far_mm = (far.slice_spacing_mm, far.in_plane_spacing_mm, far.in_plane_spacing_mm)
    return enlarged(volume.hu, nodule, volume.spacing_mm, far_mm)
