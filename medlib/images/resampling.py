"""Another spacing for a volume, and the way there and back for its masks.

A new grid has the same centre as the old one and covers it, so nothing moves, whichever way the
axes run; everything is computed in patient coordinates (mm) by SimpleITK.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import SimpleITK
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from medlib.images.volume import Volume

Spacing = tuple[float, float, float]

sitk: Any = SimpleITK  # it comes without types

_FWHM = float(np.sqrt(8 * np.log(2)))  # full width at half maximum of a normal curve, in sd


def resample(volume: Volume, spacing_mm: Spacing) -> Volume:
    """Bring a volume to another spacing along z, y and x, linearly: no HU is invented.

    Along an axis that becomes coarser the image is smoothed first: by the normal curve that takes
    a slice profile as wide as the old spacing to one as wide as the new. Without it, noise and
    small structures between the new voxels would be left out or counted double. Along an axis
    that becomes finer nothing is smoothed, and no detail is gained.

    A ball keeps its diameter within 1 % where it is 2.4 times as wide as the coarsest spacing, old
    or new. Smaller ones lie between the slices, and linear weights do not add up alike everywhere.

    Values at the border are those of the nearest source voxel. There are no `sop_instance_uids`:
    the slices are not those of the series. Raises ValueError if a spacing is not above 0.
    """
    if len(spacing_mm) != 3 or not all(0 < mm < np.inf for mm in spacing_mm):
        raise ValueError(f"spacing must be three lengths above 0 mm (z, y, x), got {spacing_mm}")
    shape, affine = _covering_grid(volume, spacing_mm)
    hu = volume.hu
    for axis, (old, new) in enumerate(zip(volume.spacing_mm, spacing_mm, strict=True)):
        if new > old * (1 + 1e-6):
            sd_voxels = float(np.sqrt(new**2 - old**2)) / _FWHM / old
            hu = gaussian_filter1d(hu, sd_voxels, axis=axis, mode="nearest")
    resampled = sitk.Resample(
        _placed(sitk.GetImageFromArray(hu), volume.affine),
        _empty(shape, affine),
        interpolator=sitk.sitkLinear,
        useNearestNeighborExtrapolator=True,
    )
    hu = sitk.GetArrayFromImage(resampled)
    return replace(
        volume, hu=hu, affine=affine, sop_instance_uids=(), source_affine=None, frame_numbers=()
    )


def resample_mask(mask: NDArray[Any], source: Volume, target: Volume) -> NDArray[Any]:
    """Bring a mask of bool or labels from the grid of one volume to that of another, by nearest.

    The grids may differ in spacing, shape, orientation and the order of slices; what counts is
    where a voxel lies in the patient. On a grid that is nowhere coarser, every source voxel has a
    voxel whose nearest it is, so the mask returns unchanged. It is 0 outside the field of view of
    the source. Raises ValueError if the mask is not on the grid of the source.
    """
    if mask.shape != source.hu.shape:
        raise ValueError(f"mask is {mask.shape}, its volume {source.hu.shape}: one grid, please")
    stored = mask.astype(np.uint8) if mask.dtype == np.bool_ else mask
    found = sitk.Resample(
        _placed(sitk.GetImageFromArray(stored), source.affine),
        _empty(target.hu.shape, target.affine),
        interpolator=sitk.sitkNearestNeighbor,
    )
    moved: NDArray[Any] = sitk.GetArrayFromImage(found).astype(mask.dtype)
    return moved


def _covering_grid(
    volume: Volume, spacing_mm: Spacing
) -> tuple[tuple[int, ...], NDArray[np.float64]]:
    """Return shape (z, y, x) and affine of the grid with the same axes and centre."""
    old = np.array(volume.spacing_mm[::-1])
    new = np.array(spacing_mm[::-1], dtype=np.float64)
    size = np.array(volume.hu.shape[::-1])
    # The tolerance keeps 40 x 2.5 mm at 40 slices where rounding makes it 40.0000001.
    new_size = np.maximum(1, np.ceil(size * old / new - 1e-6)).astype(int)
    affine = volume.affine.astype(np.float64)
    center = affine[:3, :3] @ ((size - 1) / 2) + affine[:3, 3]
    turned = affine[:3, :3] / old * new
    grid = np.eye(4)
    grid[:3, :3] = turned
    grid[:3, 3] = center - turned @ ((new_size - 1) / 2)
    return tuple(new_size[::-1].tolist()), grid


def _placed(image: Any, affine: NDArray[np.float64]) -> Any:
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    image.SetOrigin(affine[:3, 3].tolist())
    image.SetSpacing(spacing.tolist())
    image.SetDirection((affine[:3, :3] / spacing).ravel().tolist())
    return image


def _empty(shape: tuple[int, ...], affine: NDArray[np.float64]) -> Any:
    return _placed(sitk.Image(shape[::-1], sitk.sitkUInt8), affine)
