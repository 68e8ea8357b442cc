"""Another spacing or orientation for a volume, and the way back for its masks.

Two rules keep sizes true. A new grid has the same centre as the old one and covers it, so nothing
moves, whichever way the axes run. And everything is computed in patient coordinates (mm) by
SimpleITK, so orientation, spacing and the order of slices need no bookkeeping of their own.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import numpy as np
import SimpleITK
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from medlib.images.volume import Volume

Spacing = tuple[float, float, float]
Interpolation = Literal["linear", "bspline"]

sitk: Any = SimpleITK  # it comes without types

_INTERPOLATORS = {"linear": sitk.sitkLinear, "bspline": sitk.sitkBSpline}
_FWHM = float(np.sqrt(8 * np.log(2)))  # full width at half maximum of a normal curve, in sd


def resample(
    volume: Volume, spacing_mm: Spacing, interpolation: Interpolation = "linear"
) -> Volume:
    """Bring a volume to another spacing.

    Along an axis that becomes coarser the image is smoothed first: by the normal curve that takes
    a slice profile as wide as the old spacing to one as wide as the new. Without it, noise and
    small structures between the new voxels would be left out or counted double. Along an axis
    that becomes finer nothing is smoothed, and no detail is gained.

    A ball keeps its diameter within 1 % where it is 2.4 times as wide as the coarsest spacing, old
    or new (twice for ``bspline``). Smaller ones lie between the slices, and linear weights do not
    add up alike everywhere.

    Parameters
    ----------
    spacing_mm : tuple of float
        Along z, y and x.
    interpolation : {"linear", "bspline"}
        ``linear`` never leaves the range of the neighbours, so no HU is invented; it blurs a
        little. ``bspline`` (cubic) keeps edges sharper and overshoots beside them: for
        display and measurement, not where a threshold follows.

    Returns
    -------
    Volume
        With exactly this spacing, on a grid with the same axes and the same centre that covers the
        field of view; the values at the border are those of the nearest source voxel. It has no
        `sop_instance_uids`: its slices are not those of the series.

    Raises
    ------
    ValueError
        If a spacing is not above 0, or there is no such interpolation.
    """
    if len(spacing_mm) != 3 or not all(0 < mm < np.inf for mm in spacing_mm):
        raise ValueError(f"spacing must be three lengths above 0 mm (z, y, x), got {spacing_mm}")
    if interpolation not in _INTERPOLATORS:
        raise ValueError(
            f"there is no interpolation {interpolation!r}; expected one of "
            f"{', '.join(_INTERPOLATORS)}"
        )
    shape, affine = _covering_grid(volume, spacing_mm)
    hu = volume.hu
    for axis, (old, new) in enumerate(zip(volume.spacing_mm, spacing_mm, strict=True)):
        if new > old * (1 + 1e-6):
            sd_voxels = float(np.sqrt(new**2 - old**2)) / _FWHM / old
            hu = gaussian_filter1d(hu, sd_voxels, axis=axis, mode="nearest")
    resampled = _onto(_image(hu, volume.affine), shape, affine, _INTERPOLATORS[interpolation])
    return replace(volume, hu=resampled, affine=affine, sop_instance_uids=())


def resample_mask(
    mask: NDArray[Any],
    source: Volume,
    target: Volume,
    interpolation: Literal["nearest", "linear"] = "nearest",
) -> NDArray[Any]:
    """Bring a mask from the grid of one volume to that of another: there and back alike.

    The grids may differ in spacing, shape, orientation and the order of slices; what counts is
    where a voxel lies in the patient.

    Parameters
    ----------
    mask : ndarray of bool or integer, shape (z, y, x)
        On the grid of `source`; of the volumes only the grids are used.
    interpolation : {"nearest", "linear"}
        ``nearest`` for labels and for the way back. It invents no label, and it is exact to the
        voxel: on a grid that is nowhere coarser, every source voxel has a voxel whose nearest it
        is, so the mask returns unchanged. ``linear``, of a yes-no mask, takes a voxel where
        the interpolated mask is at least one half: smoother outlines on a finer grid, with the
        volume kept better; not the identity on a round trip.

    Returns
    -------
    ndarray, shape of `target`
        Of the type of `mask`; 0 outside the field of view of `source`.

    Raises
    ------
    ValueError
        If the mask is not on the grid of `source`, or labels are to be mixed by ``linear``.
    """
    if mask.shape != source.hu.shape:
        raise ValueError(f"mask is {mask.shape}, its volume {source.hu.shape}: one grid, please")
    nearest = interpolation == "nearest"
    if not nearest and mask.dtype != np.bool_:
        raise ValueError(f"linear is for masks of bool, got {mask.dtype}; labels need nearest")
    stored = (np.uint8 if mask.dtype == np.bool_ else mask.dtype) if nearest else np.float32
    found = _onto(
        _image(mask.astype(stored), source.affine),
        target.hu.shape,
        target.affine,
        sitk.sitkNearestNeighbor if nearest else sitk.sitkLinear,
        outside=0.0,
    )
    return found.astype(mask.dtype) if nearest else found >= 0.5


def _covering_grid(
    volume: Volume, spacing_mm: Spacing
) -> tuple[tuple[int, int, int], NDArray[np.float64]]:
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
    x, y, z = (int(n) for n in new_size)
    return (z, y, x), grid


def _placed(affine: NDArray[np.float64]) -> tuple[list[float], list[float], list[float]]:
    """Origin, spacing and direction as SimpleITK wants them."""
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    return affine[:3, 3].tolist(), spacing.tolist(), (affine[:3, :3] / spacing).ravel().tolist()


def _image(values: NDArray[Any], affine: NDArray[np.float64]) -> Any:
    image = sitk.GetImageFromArray(values)
    origin, spacing, direction = _placed(affine)
    image.SetOrigin(origin)
    image.SetSpacing(spacing)
    image.SetDirection(direction)
    return image


def _onto(
    image: Any,
    shape: tuple[int, ...],
    affine: NDArray[np.float64],
    interpolator: int,
    outside: float | None = None,
) -> NDArray[Any]:
    """Resample onto a grid; beyond the source `outside`, or the nearest source voxel."""
    origin, spacing, direction = _placed(affine)
    values: NDArray[Any] = sitk.GetArrayFromImage(
        sitk.Resample(
            image,
            size=[int(n) for n in shape[::-1]],
            interpolator=interpolator,
            outputOrigin=origin,
            outputSpacing=spacing,
            outputDirection=direction,
            defaultPixelValue=outside or 0.0,
            useNearestNeighborExtrapolator=outside is None,
        )
    )
    return values
