"""What makes tissue uneven: lobules, patches, the finest vessels, fissures, emphysema."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medlib.phantom.body import Build
from medlib.phantom.sites import Grid

# Distance over which the lines wind in mm, their radius in mm, their density above the lung's.
_FINE_VESSELS = ((6.0, 0.35, 1000.0), (4.0, 0.25, 1000.0))
_SLICE_WIDENS = 0.05  # of the slice distance: a line seen through a thick slice is wider, fainter
_FISSURE_HU = 230.0


def textures(
    build: Build, grid: Grid, rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Draw differences in HU from the mean density, of the lung and of the other tissues.

    Lung: lobules, patches, the finest vessels, fissures, emphysema.
    """
    spacing = np.array(grid.spacing_mm)
    step = np.maximum(1, np.floor(2.0 / spacing)).astype(int)
    coarse = tuple((-(-np.array(grid.shape_zyx) // step) + 1).tolist())

    def noise(sigma_mm: float) -> NDArray[np.float32]:
        drawn = rng.standard_normal(coarse, dtype=np.float32)
        sigma_px = sigma_mm / (spacing * step)
        drawn[...] = ndimage.gaussian_filter(drawn, sigma_px, mode="wrap", truncate=3.0)
        drawn /= drawn.std()
        return drawn

    lobules, patches = noise(3.0), noise(14.0)
    lung = 8.0 * lobules + 14.0 * patches
    if build.emphysema > 0:
        holes = noise(4.0) + 0.6 * patches
        lung -= 60.0 * np.clip(2 * (holes - 1.3 + 1.8 * build.emphysema), 0, 1)
    lung = _enlarge(lung, step, grid.shape_zyx)
    # The finest vessels: two random surfaces meet in a random line.
    for sigma_mm, radius_mm, rise_hu in _FINE_VESSELS:
        off_line = sum(
            _enlarge(noise(sigma_mm), step, grid.shape_zyx) ** 2 for _ in range(2)
        ) * np.float32(-0.5 * (sigma_mm / (radius_mm + _SLICE_WIDENS * spacing[0])) ** 2)
        thinned = (radius_mm / (radius_mm + _SLICE_WIDENS * spacing[0])) ** 0.5
        lung += np.float32(rise_hu * thinned) * np.exp(off_line)
    lung += _fissures(build, grid, patches, step)
    return lung, 8.0 * _enlarge(lobules, step, grid.shape_zyx)


def _fissures(
    build: Build, grid: Grid, waves: NDArray[np.float32], step: NDArray[np.int_]
) -> NDArray[np.float32]:
    """Major fissures of both lungs: sheets that rise from the front of the base to the back."""
    z, y, x = grid.centers_mm()
    slope = 0.8
    height = z[:, None, None] - slope * y[None, :, None]
    level = np.where(x < 0, -28.0, -18.0)[None, None, :] * build.scale
    off = (height - level) / np.hypot(1, slope) + 3.0 * _enlarge(waves, step, grid.shape_zyx)
    # A sheet of 0.5 mm keeps its mass where the voxels are larger.
    width = np.hypot(0.5, 0.25 * grid.spacing_mm[0])
    sheet = np.float32(_FISSURE_HU * 0.5 / width) * np.exp(-0.5 * (off / width) ** 2)
    return np.asarray(sheet, dtype=np.float32)


def _enlarge(
    values: NDArray[np.float32], step: NDArray[np.int_], shape: tuple[int, ...]
) -> NDArray[np.float32]:
    """Interpolate linearly along each axis to a grid `step` times as fine."""
    for axis, (factor, size) in enumerate(zip(step.tolist(), shape, strict=True)):
        index, part = np.divmod(np.arange(size), factor)
        weight = np.expand_dims(part / np.float32(factor), [k for k in range(3) if k != axis])
        low = values.take(index, axis)
        values = low + weight.astype(np.float32) * (values.take(index + 1, axis) - low)
    return values
