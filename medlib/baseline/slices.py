"""Training data: crops of a few neighbouring slices, drawn where there is something to learn.

Half of the crops lie near a lesion that at least two readers marked: every lesion is drawn equally
often, so a large one does not outweigh the small ones, and the slices just beyond its ends are
drawn too. The other half lies anywhere in the lung field, and half of that on vessels and walls,
the natural false alarms.

Voxels of a lesion that one reader alone marked are left out of the loss. To call them background
would teach the network to deny what a radiologist saw; to call them lesion, what three others did
not. The evaluation treats them in the same way: neither a miss nor a false alarm.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch.utils.data import Dataset

from medlib.annotation.case import Case
from medlib.annotation.reference import lesion_status, reference_mask
from medlib.baseline.augment import Augmentation
from medlib.baseline.blob_filter import HU_RANGE, dot_enhancement
from medlib.baseline.config import TrainConfig
from medlib.baseline.grafts import Graft, insert, take, vary
from medlib.baseline.grid import Spacing, WorkingGrid, neighbour_slices, network_input
from medlib.errors import DataError, OverlapError
from medlib.images.lungs import lung_field
from medlib.parallel import in_order

BACKGROUND, LESION, IGNORED = 0, 1, 255
LESION_SHARE = 0.5  # from this share of readers on, a voxel is lesion
DENSE_HU = -500  # vessels, walls and lesions lie above it, aerated lung below
AIR_HU = -1000
CLEAR_VOXELS = 2  # between a lesion and what is drawn as a hard place without one
ENOUGH_VOXELS = 30  # of hard places; a volume with fewer shows all that is dense
WINDOW_MM = (30, 76)  # sides of the volumes of interest around LIDC nodules


@dataclass(frozen=True)
class TrainingVolume:
    """One patient on the working grid.

    Attributes
    ----------
    patient_id : str
    hu : ndarray of int16, shape (z, y, x)
    target : ndarray of uint8 or float32, shape (z, y, x)
        `BACKGROUND`, `LESION` or `IGNORED`; or between them the share of readers who marked it.
    lesions : tuple of ndarray of int, shape (n, 3)
        The voxels (z, y, x) of each required lesion.
    lung, dense, aerated : ndarray of int32
        Flat indices of the lung field, of its part above `DENSE_HU` (see `dense_voxels`) and of
        the rest.
    is_window : bool
        Cut out around a nodule: what lies beyond is not air but unknown, and is mirrored in.
    """

    patient_id: str
    hu: NDArray[np.int16]
    target: NDArray[np.uint8] | NDArray[np.float32]
    lesions: tuple[NDArray[np.intp], ...]
    lung: NDArray[np.int32]
    dense: NDArray[np.int32]
    aerated: NDArray[np.int32]
    is_window: bool = False


class Bounds(NamedTuple):
    """The rows and columns that a crop may show; beyond them it is mirrored."""

    rows: range
    columns: range


class Place(NamedTuple):
    """Where a crop is centred, and the lesion set there, if any."""

    volume: int
    z: int
    y: int
    x: int
    graft: Graft | None = None
    graft_zyx: tuple[int, int, int] = (0, 0, 0)  # its centre
    bounds: Bounds | None = None


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
    nothing that touches what is marked.

    Parameters
    ----------
    hu : ndarray, shape (z, y, x)
    spacing_mm : tuple of float
        Along z, y and x.
    where, marked : ndarray of bool, shape (z, y, x)
        Where to look, and what is marked as lesion or left out of the loss.
    config : TrainConfig
        `hard_hu` is used.
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


Crop = tuple[NDArray[np.float32], NDArray[np.uint8]]


class DrawnCrops(Dataset[tuple[torch.Tensor, torch.Tensor]], ABC):
    """Crops drawn at random: crop i of a seed is always the same, whatever the order.

    Parameters
    ----------
    config : TrainConfig
    length : int
        How many crops.
    seed : int
    augmentation : Augmentation, optional
    """

    def __init__(
        self,
        config: TrainConfig,
        length: int,
        seed: int,
        augmentation: Augmentation | None = None,
    ) -> None:
        self.config = config
        self.length = length
        self.seed = seed
        self.augmentation = augmentation

    def __len__(self) -> int:
        return self.length

    @abstractmethod
    def draw(self, rng: np.random.Generator) -> Crop:
        """Draw a crop: image (y, x, n_slices) in -1..1 and target (y, x)."""

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        rng = np.random.default_rng((self.seed, index))
        image, target = self.draw(rng)
        if self.augmentation is not None:
            image, target = self.augmentation(image, target, seed=int(rng.integers(2**31)))
        # One slice mirrored along z counts as contiguous, but its stride is negative: copy always.
        channels_first = np.moveaxis(image, -1, 0).copy()
        return torch.from_numpy(channels_first), torch.from_numpy(target.astype(np.float32))[None]


class Crops(DrawnCrops):
    """Crops of `n_slices` slices and the target of the middle one.

    Parameters
    ----------
    volumes : list of TrainingVolume
    config : TrainConfig
    length, seed, augmentation
        As `DrawnCrops` takes them.
    grafts : list of Graft, optional
        Lesions to set elsewhere; by default those of the volumes.
    """

    def __init__(
        self,
        volumes: list[TrainingVolume],
        config: TrainConfig,
        length: int,
        seed: int,
        augmentation: Augmentation | None = None,
        grafts: list[Graft] | None = None,
    ) -> None:
        super().__init__(config, length, seed, augmentation)
        self.volumes = volumes
        self.lesions = [
            (v, voxels) for v, volume in enumerate(volumes) for voxels in volume.lesions
        ]
        self.grafts = (
            [take(volumes[v].hu, voxels) for v, voxels in self.lesions]
            if grafts is None
            else grafts
        )

    def draw(self, rng: np.random.Generator) -> Crop:
        """Draw a place and cut there."""
        place = self.place(rng)
        if self.config.window_share and rng.random() < self.config.window_share:
            place = place._replace(bounds=self._window(place, rng))
        return self.crop(place)

    def _window(self, place: Place, rng: np.random.Generator) -> Bounds | None:
        """Bound the view as in a volume of interest, so that bounds do not tell of a nodule."""
        volume = self.volumes[place.volume]
        if volume.is_window:
            return None
        ranges = []
        for centre, length in zip((place.y, place.x), volume.hu.shape[1:], strict=True):
            side = int(rng.integers(*WINDOW_MM) / self.config.in_plane_spacing_mm)
            low = int(np.clip(centre - rng.integers(side), 0, max(length - side, 0)))
            ranges.append(range(low, min(low + side, length)))
        return Bounds(*ranges)

    def place(self, rng: np.random.Generator) -> Place:
        """Draw the centre of a crop."""
        if not (self.lesions or self.grafts) or rng.random() >= self.config.lesion_share:
            v = int(rng.integers(len(self.volumes)))
            dense = rng.random() < self.config.dense_share
            return Place(v, *self._voxel(v, "dense" if dense else "lung", rng))
        jitter = rng.integers(-self.config.jitter_px, self.config.jitter_px + 1, size=2)
        if not self.lesions or (self.grafts and rng.random() < self.config.graft_share):
            graft = vary(self.grafts[int(rng.integers(len(self.grafts)))], rng)
            v = int(rng.integers(len(self.volumes)))
            z, y, x = self._voxel(v, "aerated", rng)
            reach = len(graft.mask) // 2
            slice_z = rng.integers(z - reach, z + reach + 1)
            return Place(
                v, self._inside(v, slice_z), y + jitter[0], x + jitter[1], graft, (z, y, x)
            )
        v, voxels = self.lesions[int(rng.integers(len(self.lesions)))]
        slice_z = rng.integers(voxels[:, 0].min() - 1, voxels[:, 0].max() + 2)
        y, x = voxels[:, 1:].mean(axis=0).astype(int) + jitter
        return Place(v, self._inside(v, slice_z), int(y), int(x))

    def _inside(self, v: int, z: np.integer) -> int:
        return int(np.clip(z, 0, len(self.volumes[v].hu) - 1))

    def _voxel(self, v: int, kind: str, rng: np.random.Generator) -> tuple[int, int, int]:
        """Draw a voxel of this kind; anywhere in the volume where there is none."""
        volume = self.volumes[v]
        pool: NDArray[np.int32] = getattr(volume, kind)
        flat = pool[rng.integers(pool.size)] if pool.size else rng.integers(volume.hu.size)
        z, y, x = np.unravel_index(flat, volume.hu.shape)
        return int(z), int(y), int(x)

    def crop(self, place: Place) -> Crop:
        """Cut a crop of `config.crop_px`.

        Returns
        -------
        image : ndarray of float32, shape (y, x, n_slices)
            Scaled to -1..1; beyond a whole scan's field of view lies air, beyond the bounds of a
            window its mirror image.
        target : ndarray of uint8, shape (y, x)
        """
        volume, size = self.volumes[place.volume], self.config.crop_px
        z = neighbour_slices(place.z, len(volume.hu), self.config)
        y0, x0 = place.y - size // 2, place.x - size // 2
        bounds = place.bounds
        if bounds is None and volume.is_window:
            bounds = Bounds(range(volume.hu.shape[1]), range(volume.hu.shape[2]))
        if bounds is not None:
            shown = np.ix_(
                z,
                mirrored(np.arange(y0, y0 + size), bounds.rows),
                mirrored(np.arange(x0, x0 + size), bounds.columns),
            )
            hu, target = volume.hu[shown], volume.target[shown]
        else:
            rows = slice(max(y0, 0), max(min(y0 + size, volume.hu.shape[1]), 0))
            columns = slice(max(x0, 0), max(min(x0 + size, volume.hu.shape[2]), 0))
            inside = (
                slice(None),
                slice(rows.start - y0, rows.stop - y0),
                slice(columns.start - x0, columns.stop - x0),
            )
            hu = np.full((len(z), size, size), AIR_HU, dtype=np.int16)
            target = np.full(hu.shape, BACKGROUND, dtype=np.uint8)
            hu[inside] = volume.hu[z, rows, columns]
            target[inside] = volume.target[z, rows, columns]
        if place.graft is not None:
            centre = np.subtract(place.graft_zyx, (place.z - self.config.n_slices // 2, y0, x0))
            insert(place.graft, hu, target, centre - np.array(place.graft.mask.shape) // 2)
        return np.moveaxis(network_input(hu, self.config), 0, -1), target[self.config.n_slices // 2]


def mirrored(index: NDArray[np.intp], within: range) -> NDArray[np.intp]:
    """Fold indices into a range as mirrors at both of its ends would."""
    n = len(within)
    folded = np.mod(index - within.start, 2 * n)
    return np.asarray(within.start + np.where(folded < n, folded, 2 * n - 1 - folded))
