"""Training data: crops of three neighbouring slices, drawn where there is something to learn.

Half of the crops lie near a lesion that at least two readers marked: every lesion is drawn equally
often, so a large one does not outweigh the small ones, and the slices just beyond its ends are
drawn too. The other half lies anywhere in the lung field, and half of that on vessels and walls,
the natural false alarms.

Voxels of a lesion that one reader alone marked are left out of the loss. To call them background
would teach the network to deny what a radiologist saw; to call them lesion, what three others did
not. The evaluation treats them in the same way: neither a miss nor a false alarm.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from medlib.annotation.case import Case
from medlib.annotation.reference import lesion_status, reference_mask
from medlib.baseline.augment import Augmentation
from medlib.baseline.config import TrainConfig
from medlib.baseline.grid import WorkingGrid, neighbour_slices, network_input
from medlib.errors import DataError, OverlapError
from medlib.images.lungs import lung_field

BACKGROUND, LESION, IGNORED = 0, 1, 255
DENSE_HU = -500  # vessels, walls and lesions lie above it, aerated lung below
AIR_HU = -1000


@dataclass(frozen=True)
class TrainingVolume:
    """One patient on the working grid.

    Attributes
    ----------
    patient_id : str
    hu : ndarray of int16, shape (z, y, x)
    target : ndarray of uint8, shape (z, y, x)
        `BACKGROUND`, `LESION` or `IGNORED`.
    lesions : tuple of ndarray of int, shape (n, 3)
        The voxels (z, y, x) of each required lesion.
    lung, dense : ndarray of int
        Flat indices of the lung field and of its part above `DENSE_HU`.
    """

    patient_id: str
    hu: NDArray[np.int16]
    target: NDArray[np.uint8]
    lesions: tuple[NDArray[np.intp], ...]
    lung: NDArray[np.intp]
    dense: NDArray[np.intp]


class Place(NamedTuple):
    """Where a crop is centred: volume, slice, row, column."""

    volume: int
    z: int
    y: int
    x: int


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
        lung=np.flatnonzero(lung),
        dense=np.flatnonzero(lung & (hu > DENSE_HU)),
    )


def training_volumes(
    cases: Iterable[Case], config: TrainConfig, split: str, other_patients: set[str]
) -> list[TrainingVolume]:
    """Prepare the cases of one split.

    Parameters
    ----------
    cases : iterable of Case
    config : TrainConfig
    split : str
        The only split whose cases may come: ``"train"`` or ``"tune"``.
    other_patients : set of str
        Patients of every other split.

    Raises
    ------
    OverlapError
        If a case belongs to another split, or its patient stands in another split too.
    """
    volumes = []
    for case in cases:
        if case.split != split or case.patient_id in other_patients:
            raise OverlapError(
                f"patient {case.patient_id} (case {case.case_id}, split '{case.split}') came as "
                f"'{split}' data: a patient belongs to one split; mend the cohort's table"
            )
        volumes.append(prepare(case, config))
    if not volumes:
        raise DataError(f"the cohort has no case in its '{split}' part: give it at least one")
    return volumes


class Crops(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """Crops of `n_slices` slices and the target of the middle one.

    Crop i of a seed is always the same crop, whatever the order or the number of workers.

    Parameters
    ----------
    volumes : list of TrainingVolume
    config : TrainConfig
    length : int
        How many crops.
    seed : int
    augmentation : Augmentation, optional
    """

    def __init__(
        self,
        volumes: list[TrainingVolume],
        config: TrainConfig,
        length: int,
        seed: int,
        augmentation: Augmentation | None = None,
    ) -> None:
        self.volumes = volumes
        self.config = config
        self.length = length
        self.seed = seed
        self.augmentation = augmentation
        self.lesions = [
            (v, voxels) for v, volume in enumerate(volumes) for voxels in volume.lesions
        ]

    def __len__(self) -> int:
        return self.length

    def place(self, rng: np.random.Generator) -> Place:
        """Draw the centre of a crop."""
        if self.lesions and rng.random() < self.config.lesion_share:
            v, voxels = self.lesions[rng.integers(len(self.lesions))]
            z = rng.integers(voxels[:, 0].min() - 1, voxels[:, 0].max() + 2)
            jitter = rng.integers(-self.config.jitter_px, self.config.jitter_px + 1, size=2)
            y, x = voxels[:, 1:].mean(axis=0).astype(int) + jitter
        else:
            v = int(rng.integers(len(self.volumes)))
            volume = self.volumes[v]
            dense = volume.dense.size > 0 and rng.random() < self.config.dense_share
            pool = volume.dense if dense else volume.lung
            flat = pool[rng.integers(pool.size)] if pool.size else rng.integers(volume.hu.size)
            z, y, x = np.unravel_index(flat, volume.hu.shape)
        return Place(v, int(np.clip(z, 0, len(self.volumes[v].hu) - 1)), int(y), int(x))

    def crop(self, place: Place) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """Cut a crop.

        Returns
        -------
        image : ndarray of float32, shape (y, x, n_slices)
            Scaled to -1..1; air beyond the field of view.
        target : ndarray of uint8, shape (y, x)
        """
        volume, size = self.volumes[place.volume], self.config.crop_px
        slices = volume.hu[neighbour_slices(place.z, len(volume.hu), self.config)]
        image = np.full((len(slices), size, size), AIR_HU, dtype=np.int16)
        target = np.full((size, size), BACKGROUND, dtype=np.uint8)
        y0, x0 = place.y - size // 2, place.x - size // 2
        rows = slice(max(y0, 0), max(min(y0 + size, slices.shape[1]), 0))
        columns = slice(max(x0, 0), max(min(x0 + size, slices.shape[2]), 0))
        inside = (
            slice(rows.start - y0, rows.stop - y0),
            slice(columns.start - x0, columns.stop - x0),
        )
        image[(slice(None), *inside)] = slices[:, rows, columns]
        target[inside] = volume.target[place.z, rows, columns]
        return np.moveaxis(network_input(image, self.config), 0, -1), target

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        rng = np.random.default_rng((self.seed, index))
        image, target = self.crop(self.place(rng))
        if self.augmentation is not None:
            image, target = self.augmentation(image, target, seed=int(rng.integers(2**31)))
        channels_first = np.ascontiguousarray(np.moveaxis(image, -1, 0))
        return torch.from_numpy(channels_first), torch.from_numpy(target.astype(np.float32))[None]
