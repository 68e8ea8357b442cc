"""The grid on which the network works, and the way there and back.

In plane the image is resampled to one pixel size. Along z nothing is invented: slices thinner than
the working distance are averaged in blocks, which also brings their noise near that of the training
slices; thicker slices stay as they are.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import interpolate

from medlib.baseline.config import TrainConfig

Shape = tuple[int, int, int]
Spacing = tuple[float, float, float]


@dataclass(frozen=True)
class WorkingGrid:
    """A source grid and the working grid that covers the same field of view.

    Attributes
    ----------
    source_shape : tuple of int
        Shape of the source, [z, y, x].
    shape : tuple of int
        Shape of the working grid, [z, y, x].
    slices_per_block : int
        How many source slices are averaged into one working slice.
    spacing_mm : tuple of float
        Distance of working voxels along z, y and x in mm. In plane it differs from the configured
        one by less than a percent, because a whole number of pixels fills the field of view.
    """

    source_shape: Shape
    shape: Shape
    slices_per_block: int
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

        Parameters
        ----------
        values : ndarray, shape (z, y, x)
            On the source grid.

        Returns
        -------
        ndarray of float32, shape (z, y, x)
            On the working grid; anti-aliased linear interpolation in plane.
        """
        if values.shape != self.source_shape:
            raise ValueError(f"values have shape {values.shape}, the grid {self.source_shape}")
        missing = self.shape[0] * self.slices_per_block - self.source_shape[0]
        padded = np.pad(values, ((0, missing), (0, 0), (0, 0)), mode="edge")
        blocks = padded.reshape(self.shape[0], self.slices_per_block, *self.source_shape[1:])
        slices = torch.from_numpy(blocks.mean(axis=1, dtype=np.float32))[:, None]
        out = interpolate(slices, size=self.shape[1:], mode="bilinear", antialias=True)
        return np.asarray(out[:, 0].numpy(), dtype=np.float32)

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

    def part_to_source(
        self, mask: NDArray[np.bool_], box: tuple[slice, slice, slice]
    ) -> NDArray[np.bool_]:
        """Bring a part of a mask back to the source grid, each voxel from the one that holds it.

        Parameters
        ----------
        mask : ndarray of bool, shape (z, y, x)
            On the working grid.
        box : tuple of slice
            On the source grid.
        """
        z = np.arange(box[0].start, box[0].stop) // self.slices_per_block
        y, x = (
            np.arange(part.start, part.stop) * have // size
            for part, have, size in zip(box[1:], self.shape[1:], self.source_shape[1:], strict=True)
        )
        return np.asarray(mask[np.ix_(z, y, x)])


def network_input(hu: NDArray[np.generic], config: TrainConfig) -> NDArray[np.float32]:
    """Clip Hounsfield units to the configured range and scale them to -1..1."""
    low, high = config.hu_range
    scaled = (np.clip(hu, low, high) - low) * (2 / (high - low)) - 1
    return np.asarray(scaled, dtype=np.float32)


def neighbour_slices(z: int, n_slices_in_volume: int, config: TrainConfig) -> NDArray[np.intp]:
    """Return the indices of slice z and its neighbours; at the ends the last slice is repeated."""
    half = config.n_slices // 2
    return np.clip(np.arange(z - half, z - half + config.n_slices), 0, n_slices_in_volume - 1)
