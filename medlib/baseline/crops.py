"""Training data: crops of a few neighbouring slices, drawn where there is something to learn.

Half of the crops lie near a lesion that at least two readers marked: every lesion is drawn equally
often, so a large one does not outweigh the small ones, and the slices just beyond its ends are
drawn too. The other half lies anywhere in the lung field, and half of that on vessels and walls,
the natural false alarms.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from medlib.baseline.augment import Augmentation
from medlib.baseline.config import TrainConfig
from medlib.baseline.grafts import Graft, insert, take, vary
from medlib.baseline.grid import neighbour_slices, network_input
from medlib.baseline.training_volume import BACKGROUND, TrainingVolume

AIR_HU = -1000
WINDOW_MM = (30, 76)  # sides of the volumes of interest around LIDC nodules
Crop = tuple[NDArray[np.float32], NDArray[np.uint8]]


class Place(NamedTuple):
    """Where a crop is centred, and the lesion set there, if any."""

    volume: int
    z: int
    y: int
    x: int
    graft: Graft | None = None
    graft_zyx: tuple[int, int, int] = (0, 0, 0)  # its centre
    bounds: tuple[range, ...] | None = None  # rows and columns shown; beyond them it is mirrored


@dataclass(eq=False)
class DrawnCrops(Dataset[tuple[torch.Tensor, torch.Tensor]], ABC):
    """Crops drawn at random: crop i of a seed is always the same, whatever the order."""

    config: TrainConfig
    length: int = 0
    seed: int = 0
    augmentation: Augmentation | None = None

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

    `grafts` are lesions to set elsewhere; by default those of the volumes.
    """

    def __init__(
        self,
        volumes: list[TrainingVolume],
        config: TrainConfig,
        length: int = 0,
        seed: int = 0,
        augmentation: Augmentation | None = None,
        grafts: list[Graft] | None = None,
    ) -> None:
        super().__init__(config, length, seed, augmentation)
        self.volumes = volumes
        self.lesions = [(v, lesion) for v, each in enumerate(volumes) for lesion in each.lesions]
        own = (take(volumes[v].hu, lesion) for v, lesion in self.lesions)
        self.grafts = list(own if grafts is None else grafts)

    def draw(self, rng: np.random.Generator) -> Crop:
        """Draw a place and cut there."""
        place = self.place(rng)
        if self.config.window_share and rng.random() < self.config.window_share:
            place = self._through_a_window(place, rng)
        return self.crop(place)

    def _through_a_window(self, place: Place, rng: np.random.Generator) -> Place:
        """Bound the view as in a volume of interest, so that bounds do not tell of a nodule."""
        volume = self.volumes[place.volume]
        if volume.is_window:
            return place
        ranges = []
        for centre, length in zip((place.y, place.x), volume.hu.shape[1:], strict=True):
            side = int(rng.integers(*WINDOW_MM) / self.config.in_plane_spacing_mm)
            low = int(np.clip(centre - rng.integers(side), 0, max(length - side, 0)))
            ranges.append(range(low, min(low + side, length)))
        return place._replace(bounds=tuple(ranges))

    def place(self, rng: np.random.Generator) -> Place:
        """Draw the centre of a crop."""
        if not (self.lesions or self.grafts) or rng.random() >= self.config.lesion_share:
            v = int(rng.integers(len(self.volumes)))
            dense = rng.random() < self.config.dense_share
            return Place(v, *self._voxel(v, "dense" if dense else "lung", rng))
        graft, set_in = None, (0, 0, 0)
        jitter = rng.integers(-self.config.jitter_px, self.config.jitter_px + 1, size=2)
        if not self.lesions or (self.grafts and rng.random() < self.config.graft_share):
            graft = vary(self.grafts[int(rng.integers(len(self.grafts)))], rng)
            v = int(rng.integers(len(self.volumes)))
            z, y, x = self._voxel(v, "aerated", rng)
            reach = len(graft.mask) // 2
            first, last, center_yx, set_in = z - reach, z + reach, (y, x), (z, y, x)
        else:
            v, voxels = self.lesions[int(rng.integers(len(self.lesions)))]
            first, last = voxels[:, 0].min() - 1, voxels[:, 0].max() + 1
            center_yx = voxels[:, 1:].mean(axis=0).astype(int)
        z = int(np.clip(rng.integers(first, last + 1), 0, len(self.volumes[v].hu) - 1))
        y, x = (center_yx + jitter).tolist()
        return Place(v, z, y, x, graft, set_in)

    def _voxel(self, v: int, kind: str, rng: np.random.Generator) -> tuple[int, int, int]:
        """Draw a voxel of this kind; anywhere in the volume where there is none."""
        volume = self.volumes[v]
        pool: NDArray[np.int32] = getattr(volume, kind)
        flat = pool[rng.integers(pool.size)] if pool.size else rng.integers(volume.hu.size)
        z, y, x = np.unravel_index(flat, volume.hu.shape)
        return int(z), int(y), int(x)

    def crop(self, place: Place) -> Crop:
        """Cut a crop; beyond a scan's field of view lies air, beyond a window its mirror image."""
        volume, size = self.volumes[place.volume], self.config.crop_px
        z = neighbour_slices(place.z, len(volume.hu), self.config)
        y0, x0 = place.y - size // 2, place.x - size // 2
        height, width = volume.hu.shape[1:]
        rows, columns = np.arange(y0, y0 + size), np.arange(x0, x0 + size)
        whole = (range(height), range(width)) if volume.is_window else ()
        if bounds := place.bounds or whole:
            rows, columns = map(mirrored, (rows, columns), bounds)
        shown = np.ix_(z, rows.clip(0, height - 1), columns.clip(0, width - 1))
        hu, target = volume.hu[shown], volume.target[shown]
        outside = ((rows < 0) | (rows >= height))[:, None] | (columns < 0) | (columns >= width)
        hu[:, outside], target[:, outside] = AIR_HU, BACKGROUND
        if place.graft is not None:
            centre = np.subtract(place.graft_zyx, (place.z - self.config.n_slices // 2, y0, x0))
            insert(place.graft, hu, target, centre - np.array(place.graft.mask.shape) // 2)
        return np.moveaxis(network_input(hu, self.config), 0, -1), target[self.config.n_slices // 2]


def mirrored(index: NDArray[np.intp], within: range) -> NDArray[np.intp]:
    """Fold indices into a range as mirrors at both of its ends would."""
    n = len(within)
    folded = np.mod(index - within.start, 2 * n)
    return np.asarray(within.start + np.where(folded < n, folded, 2 * n - 1 - folded))
