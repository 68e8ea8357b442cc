"""What a network learns from, on its working grid: windows, whole scans and phantom patients.

Windows around LIDC nodules show what a nodule looks like and how far readers draw it. Whole real
scans and the phantom's lungs show what is no nodule.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from medlib.annotation.case import Case
from medlib.baseline.config import TrainConfig
from medlib.baseline.enlarged_nodules import NODULES_MM, enlarged
from medlib.baseline.grafts import Graft
from medlib.baseline.grid import Box, WorkingGrid
from medlib.baseline.training_sources import origins
from medlib.baseline.training_volume import (
    BACKGROUND,
    DENSE_HU,
    IGNORED,
    LESION,
    TrainingVolume,
    dense_voxels,
    flat_indices,
    prepare,
)
from medlib.cohorts.cohort import Cohort
from medlib.cohorts.project_split import lidc_patients
from medlib.images.lungs import lung_field
from medlib.images.volume import sphere_diameter_mm

BOX_MARGIN_PX = 8
BOX_MARGIN_SLICES = 1


def prepare_window(
    window: Case, config: TrainConfig, slice_spacing_mm: float, *, by_share: bool = False
) -> TrainingVolume:
    """Bring a window to the working grid; the target is the readers' reference.

    Thinner slices than `slice_spacing_mm` are averaged to about this. With `by_share` the target is
    the share of readers who marked a voxel instead: where they disagree, the network is asked how
    much.
    """
    grid = WorkingGrid.of(
        window.volume.hu.shape,
        window.volume.spacing_mm,
        config.model_copy(update={"slice_spacing_mm": slice_spacing_mm}),
    )
    hu = grid.from_source(window.volume.hu)
    lesion = grid.from_source(window.reference) >= 0.5
    seen = grid.from_source(window.readers > 0) > 0
    return TrainingVolume(
        patient_id=window.patient_id,
        hu=np.rint(hu).astype(np.int16),
        target=(
            grid.from_source(window.drawn_masks().mean(axis=0))
            if by_share
            else np.where(lesion, LESION, BACKGROUND).astype(np.uint8)
        ),
        lesions=(np.argwhere(lesion),) if lesion.any() else (),
        lung=np.arange(hu.size, dtype=np.int32),
        dense=dense_voxels(hu, grid.spacing_mm, ~lesion, seen, config),
        aerated=flat_indices(hu <= DENSE_HU),
        is_window=True,
    )


def prepare_scan(scan: Case, config: TrainConfig) -> TrainingVolume:
    """Bring a whole scan to the working grid; boxes and what is doubtful are left out of the loss.

    A tumour is one lesion, in however many pieces.
    """
    grid = WorkingGrid.of(scan.volume.hu.shape, scan.volume.spacing_mm, config)
    hu = grid.from_source(scan.volume.hu)
    lung = lung_field(hu, grid.spacing_mm)
    target = np.full(grid.shape, BACKGROUND, dtype=np.uint8)
    tumour = grid.from_source(scan.reference) >= 0.5
    if scan.doubtful is not None:
        target[grid.from_source(scan.doubtful) > 0] = IGNORED
    is_outlined = scan.label_kind != "boxes"
    if is_outlined:
        target[tumour] = LESION
    else:
        for box in _boxes(tumour):
            target[box] = IGNORED
    looked_at = lung & (target == BACKGROUND)
    return TrainingVolume(
        patient_id=scan.case_id,
        hu=np.rint(hu).astype(np.int16),
        target=target,
        lesions=(np.argwhere(tumour),) if is_outlined else (),
        lung=flat_indices(looked_at),
        dense=dense_voxels(hu, grid.spacing_mm, looked_at, target != BACKGROUND, config),
        aerated=flat_indices(looked_at & (hu <= DENSE_HU)),
    )


def _boxes(inside: NDArray[np.bool_]) -> Iterator[Box]:
    """Yield the box of each marked slice, widened, and a slice more at both ends."""
    for z in np.flatnonzero(inside.any(axis=(1, 2))):
        rows, columns = (np.flatnonzero(inside[z].any(axis=axis)) for axis in (1, 0))
        yield (
            slice(max(z - BOX_MARGIN_SLICES, 0), z + BOX_MARGIN_SLICES + 1),
            slice(max(rows[0] - BOX_MARGIN_PX, 0), rows[-1] + 1 + BOX_MARGIN_PX),
            slice(max(columns[0] - BOX_MARGIN_PX, 0), columns[-1] + 1 + BOX_MARGIN_PX),
        )


def prepare_phantom(case: Case, config: TrainConfig, known: set[str]) -> TrainingVolume:
    """Prepare a phantom patient; lesions with the outline of a LIDC patient not in `known` go.

    A phantom's lesions have the outlines of real nodules. Those of patients that are kept for
    tuning or testing are left out of the loss.
    """
    volume = prepare(case, config)
    unknown = case.lesions.loc[~origins(case).isin(known), "label"]
    if unknown.empty:
        return volume
    grid = WorkingGrid.of(case.volume.hu.shape, case.volume.spacing_mm, config)
    hidden = grid.from_source(np.isin(case.lesion_labels, unknown.to_numpy())) > 0
    return replace(
        volume,
        target=np.where(hidden, IGNORED, volume.target).astype(np.uint8),
        lesions=tuple(voxels for voxels in volume.lesions if not hidden[tuple(voxels.T)].any()),
    )


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
    return [prepare_phantom(case, grid, known) for case in cases for grid in grids]


def mass_of(window: Case, far: TrainConfig) -> Graft | None:
    """Enlarge the nodule of a window to a mass, for the grid of `far`.

    None if the nodule is too small, too large or not of soft tissue.
    """
    nodule, spacing_mm = window.reference, window.volume.spacing_mm
    smallest, largest = NODULES_MM
    volume_mm3 = float(nodule.sum()) * window.volume.voxel_volume_mm3
    if not smallest <= sphere_diameter_mm(volume_mm3) <= largest:
        return None
    # Thicker slices stay as they are: in them a mass is longer than it should be.
    far_mm = (far.slice_spacing_mm, far.in_plane_spacing_mm, far.in_plane_spacing_mm)
    return enlarged(window.volume.hu, nodule, spacing_mm, far_mm)
