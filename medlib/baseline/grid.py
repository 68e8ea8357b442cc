"""The grid on which the network works, and the way there and back.

In plane the image is resampled to one pixel size. Along z nothing is invented: slices thinner than
the working distance are averaged in blocks, which also brings their noise near that of the training
slices; thicker slices stay as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch.nn.functional import interpolate

from medlib.baseline.config import TrainConfig

SLAB = 16  # working slices that are averaged and resampled together
Box = tuple[slice, slice, slice]
Shape = tuple[int, int, int]
Spacing = tuple[float, float, float]


@dataclass(frozen=True)
class WorkingGrid:
    """A source grid and the working grid that covers the same field of view, both [z, y, x]."""

    source_shape: Shape
    shape: Shape
    slices_per_block: int  # source slices that are averaged into one working slice
    # Of working voxels. In plane it differs from the configured one by less than a percent, because
    # a whole number of pixels fills the field of view.
    spacing_mm: Spacing

    @classmethod
    def of(
        cls, source_shape: Shape, source_spacing_mm: Spacing, config: TrainConfig
    ) -> WorkingGrid:
        """Find the working grid of a source with this shape and spacing, both [z, y, x]."""
        z, y, x = source_shape
        dz, dy, dx = source_spacing_mm
        per_block = min(max(1, round(config.slice_spacing_mm / dz)), z)
        rows = max(1, round(y * dy / config.in_plane_spacing_mm))
        columns = max(1, round(x * dx / config.in_plane_spacing_mm))
        return cls(
            source_shape=source_shape,
            shape=(-(-z // per_block), rows, columns),
            slices_per_block=per_block,
            spacing_mm=(dz * per_block, y * dy / rows, x * dx / columns),
        )

    def from_source(self, values: NDArray[np.generic]) -> NDArray[np.float32]:
        """Average and resample an image, or the share of a mask in each working voxel.

        In plane the interpolation is linear and anti-aliased.
        """
        if values.shape != self.source_shape:
            raise ValueError(f"values have shape {values.shape}, the grid {self.source_shape}")
        per_block, out = self.slices_per_block, np.empty(self.shape, dtype=np.float32)
        for first in range(0, self.shape[0], SLAB):  # a scan at once would be in memory four times
            last = min(first + SLAB, self.shape[0])
            part = values[first * per_block : last * per_block]
            missing = (last - first) * per_block - len(part)
            if missing:
                part = np.pad(part, ((0, missing), (0, 0), (0, 0)), mode="edge")
            blocks = part.reshape(last - first, per_block, *self.source_shape[1:])
            slices = torch.from_numpy(blocks.mean(axis=1, dtype=np.float32))[:, None]
            out[first:last] = interpolate(
                slices, size=self.shape[1:], mode="bilinear", antialias=True
            )[:, 0].numpy()
        return out

    def to_source(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Bring values back to the source grid by linear interpolation along all three axes."""
        if values.shape != self.shape:
            raise ValueError(f"values have shape {values.shape}, the working grid {self.shape}")
        z, y, x = self.source_shape
        out = interpolate(
            torch.from_numpy(values)[None, None],
            size=(self.shape[0] * self.slices_per_block, y, x),
            mode="trilinear",
            align_corners=False,  # voxels are boxes: the outer faces of both grids coincide
        )
        return np.asarray(out[0, 0, :z].numpy(), dtype=np.float32)

    def box_to_source(self, box: Box) -> tuple[Box, tuple[NDArray[np.intp], ...]]:
        """Find the source voxels that a box of working voxels covers, at least in part.

        Returned with it: an index that brings an array of the box there, ``array[index]``, each
        voxel from the one that holds it or, at the edges, from the nearest.
        """
        z, rows, columns = (
            slice(part.start * size // have, min(-(-part.stop * size // have), source))
            for part, have, size, source in zip(
                box, self.shape, self._filled_shape, self.source_shape, strict=True
            )
        )
        nearest = (
            np.clip(held, part.start, part.stop - 1) - part.start
            for held, part in zip(self.holders((z, rows, columns)), box, strict=True)
        )
        return (z, rows, columns), np.ix_(*nearest)

    def holders(self, box: Box) -> tuple[NDArray[np.intp], ...]:
        """Return along each axis the working voxel that holds each source voxel of a box."""
        return tuple(np.floor(place + 0.5).astype(np.intp) for place in self._places(box))

    def part_to_source(self, values: NDArray[np.float32], box: Box) -> NDArray[np.float32]:
        """Bring values back as `to_source` does, to a box of the source grid alone."""
        places = np.meshgrid(*self._places(box), indexing="ij")
        part = ndimage.map_coordinates(values, places, order=1, mode="nearest")
        return np.asarray(part, dtype=np.float32)

    @property
    def _filled_shape(self) -> Shape:
        """The source's shape if its last block of slices were full."""
        return (self.shape[0] * self.slices_per_block, *self.source_shape[1:])

    def _places(self, box: Box) -> list[NDArray[np.float64]]:
        """Return along each axis where the source voxels of a box lie on the working grid."""
        return [
            (np.arange(part.start, part.stop) + 0.5) * have / size - 0.5
            for part, have, size in zip(box, self.shape, self._filled_shape, strict=True)
        ]


def widened(box: Box, shape: tuple[int, ...], margins: Sequence[int]) -> Box:
    """Add margins along z, y, x on both sides of a box, as far as the image goes."""
    z, y, x = (
        slice(max(part.start - margin, 0), min(part.stop + margin, size))
        for part, size, margin in zip(box, shape, margins, strict=True)
    )
    return z, y, x


def network_input(hu: NDArray[np.generic], config: TrainConfig) -> NDArray[np.float32]:
    """Clip Hounsfield units to the configured range and scale them to -1..1."""
    low, high = config.hu_range
    scaled = (np.clip(hu, low, high) - low) * (2 / (high - low)) - 1
    return np.asarray(scaled, dtype=np.float32)


def neighbour_slices(z: int, n_slices_in_volume: int, config: TrainConfig) -> NDArray[np.intp]:
    """Return the indices of slice z and its neighbours; at the ends the last slice is repeated."""
    half = config.n_slices // 2
    return np.clip(np.arange(z - half, z - half + config.n_slices), 0, n_slices_in_volume - 1)
