"""The lung field: where a lung lesion can be."""

from __future__ import annotations

from typing import NamedTuple

import cc3d
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

_COARSE_MM = 2.4
_AIR_BELOW_HU = -400.0
_AIRWAY_BELOW_HU = -930.0
_AIRWAY_MAX_AREA_MM2 = 700.0
_SMALLEST_PART_ML = 20.0
_THIN_STACK_MM = 10.0  # of a stack thinner than this, parts of 20 cm2 in a slice are large enough
_CLOSING_MM = 50.0
_RIM_MM = 2.5


def lung_field(
    hu: NDArray[np.float32], spacing_mm: tuple[float, float, float]
) -> NDArray[np.bool_]:
    """Find the lungs with everything in them, by thresholds and shape alone; False where none is.

    On a grid of about 2 mm: what holds air and does not reach the side of the image is lung or
    airway; small spots of pure air in a slice (trachea, main bronchi) are left out; what remains
    is closed over 50 mm in each slice, left and right by themselves, and filled, so that vessels,
    nodules and masses on the pleura up to about 100 mm belong to it, and given a rim of 2.5 mm.
    The price is the heart's border and the hilum, a tenth of the volume. A mass that leaves no air
    in a slice, and lungs cut off by the side of the image, are not found.
    """
    coarse = CoarseScan.of(hu, spacing_mm)
    return field_around(coarse.air(), coarse)


class CoarseScan(NamedTuple):
    """A scan on a grid of about 2 mm, on which air is looked for."""

    hu: NDArray[np.float32]
    spacing_mm: list[float]
    source_shape: tuple[int, ...]
    step: list[int]  # voxels of the scan in one of the grid, along each axis

    @classmethod
    def of(cls, hu: NDArray[np.float32], spacing_mm: tuple[float, float, float]) -> CoarseScan:
        """Average a scan over blocks."""
        step = [max(1, int(_COARSE_MM / spacing)) for spacing in spacing_mm]
        spacing = [s * k for s, k in zip(spacing_mm, step, strict=True)]
        return cls(_block_mean(hu, step), spacing, hu.shape, step)

    def air(self, *, at_side: bool = False) -> NDArray[np.bool_]:
        """Return what holds air and is no airway, inside of the image or at its side."""
        air = _large_air(self.hu < _AIR_BELOW_HU, self.spacing_mm, at_side)
        return air & ~_airways(self.hu, air, self.spacing_mm)

    def tissue(self, axis: int) -> NDArray[np.float64]:
        """Count the voxels along an axis that hold no air."""
        others = tuple({0, 1, 2} - {axis})
        return np.asarray((self.hu > _AIR_BELOW_HU).sum(axis=others) + 1e-9)

    def litres(self, inside: NDArray[np.bool_]) -> float:
        """Return the volume of a region."""
        return float(inside.sum() * np.prod(self.spacing_mm) / 1e6)

    def middle(self) -> int:
        """Return the column of the body's centre of mass: to its left is the patient's right."""
        return round(float(np.average(np.arange(self.hu.shape[2]), weights=self.tissue(2))))


def field_around(air: NDArray[np.bool_], coarse: CoarseScan) -> NDArray[np.bool_]:
    """Close the lungs' air to the lungs, on the grid of the scan."""
    field = np.zeros_like(air)
    middle = coarse.middle()
    # Each side of the body's centre of mass: closing both at once would close the heart between.
    for side in (slice(None, middle), slice(middle, None)):
        for k in np.flatnonzero(air[:, :, side].any(axis=(1, 2))):
            field[k, :, side] = _close(air[k, :, side], coarse.spacing_mm[1:])
    # Back to the fine grid; what did not fill a block goes with the last one.
    for axis, (size, factor) in enumerate(zip(coarse.source_shape, coarse.step, strict=True)):
        block = np.minimum(np.arange(size) // factor, field.shape[axis] - 1)
        field = field.take(block, axis=axis)
    return field


def _block_mean(hu: NDArray[np.float32], step: list[int]) -> NDArray[np.float32]:
    """Average over blocks; what does not fill a block at the far end is left out."""
    for axis, factor in enumerate(step):
        if factor > 1 and hu.shape[axis] >= factor:
            size = hu.shape[axis] // factor
            parts = (np.take(hu, range(k, size * factor, factor), axis=axis) for k in range(factor))
            hu = np.mean(list(parts), axis=0, dtype=np.float32)
    return hu


def _large_air(air: NDArray[np.bool_], spacing: list[float], at_side: bool) -> NDArray[np.bool_]:
    """Parts of the air that are large enough and do not reach the side of the image, or do."""
    labels = cc3d.connected_components(air, connectivity=6)
    size = np.bincount(labels.ravel())
    thin = min(1.0, len(air) * spacing[0] / _THIN_STACK_MM)
    keep = size * np.prod(spacing) / 1000.0 >= thin * _SMALLEST_PART_ML
    sides = np.concatenate([np.unique(s) for s in (labels[:, [0, -1]], labels[:, :, [0, -1]])])
    keep &= np.isin(np.arange(len(size)), sides) == at_side
    keep[0] = False
    return keep[labels]


def _airways(
    coarse: NDArray[np.float32], air: NDArray[np.bool_], spacing: list[float]
) -> NDArray[np.bool_]:
    """Small parts of a slice that hold mostly pure air."""
    airways = np.zeros_like(air)
    for k in range(len(air)):
        labels, _ = ndimage.label(air[k])
        n_pixels = np.bincount(labels.ravel())
        small = n_pixels * spacing[1] * spacing[2] < _AIRWAY_MAX_AREA_MM2
        n_pure = np.bincount(labels.ravel(), coarse[k].ravel() < _AIRWAY_BELOW_HU)
        airways[k] = (small & (2 * n_pure > n_pixels))[labels] & air[k]
    return airways


def _close(mask: NDArray[np.bool_], spacing: list[float]) -> NDArray[np.bool_]:
    """Close a slice, fill its holes and add the rim."""
    room = [int(np.ceil(_CLOSING_MM / step)) + 1 for step in spacing]
    padded = np.pad(mask, [(n, n) for n in room])
    near = ndimage.distance_transform_edt(~padded, sampling=spacing) <= _CLOSING_MM
    inside = ndimage.distance_transform_edt(near, sampling=spacing) > _CLOSING_MM - _RIM_MM
    filled: NDArray[np.bool_] = ndimage.binary_fill_holes(inside | padded)
    return filled[room[0] : -room[0], room[1] : -room[1]]
