"""A synthetic chest: one patient's tissues in HU on a grid, before the scanner."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medlib.phantom.body import Build, draw_build
from medlib.phantom.sites import Grid, Scanner
from medlib.phantom.tissues import draw_level
from medlib.phantom.vessels import Polyline, grow_tree, paint_tubes

_LEVEL_MM = 1.3  # slices thicker than this are averaged over several levels
_COARSE_MM = 6.0
_TARGETS_PER_TREE = 1300
# Distance over which the lines wind in mm, their radius in mm, their density above the lung's.
_FINE_VESSELS = ((6.0, 0.35, 1000.0), (4.0, 0.25, 1000.0))
_SLICE_WIDENS = 0.05  # of the slice distance: a line seen through a thick slice is wider, fainter
_FISSURE_HU = 230.0
_FREE_RIM_MM = 5.0  # the outermost lung holds no vessel that can be seen


@dataclass(frozen=True)
class Anatomy:
    """A patient without blur and noise.

    Attributes
    ----------
    hu : ndarray of float32, shape (z, y, x)
        Hounsfield units; z ascends towards the head, y towards the back, x to the patient's left.
    lung : ndarray of bool, shape (z, y, x)
        Both lungs with their vessels; without mediastinum, trachea and main bronchi.
    vessel : ndarray of bool, shape (z, y, x)
        Vessels inside the lung that show against it.
    grid : Grid
    scanner : Scanner
    build : Build
        Sex, age and everything else that was drawn for this patient.
    """

    hu: NDArray[np.float32]
    lung: NDArray[np.bool_]
    vessel: NDArray[np.bool_]
    grid: Grid
    scanner: Scanner
    build: Build

    def pleural_depth_mm(self) -> NDArray[np.float32]:
        """Distance of each lung voxel from the outside of the lung in mm; 0 outside.

        Returns
        -------
        ndarray of float32, shape (z, y, x)
        """
        depth = np.zeros(self.lung.shape, dtype=np.float32)
        for found in ndimage.find_objects(self.lung.astype(np.uint8)):
            # One voxel around the lungs is all that the nearest outside can need.
            box = tuple(slice(max(side.start - 1, 0), side.stop + 1) for side in found)
            depth[box] = ndimage.distance_transform_edt(
                self.lung[box], sampling=self.grid.spacing_mm
            )
        return depth


def patient_build(seed: int) -> Build:
    """Return the build of the patient with this seed, without drawing the patient."""
    return draw_build(_generators(seed)[0])


def _generators(seed: int) -> list[np.random.Generator]:
    """Random numbers for the build, the trees and the textures."""
    return np.random.default_rng([seed, 0]).spawn(3)


def draw_anatomy(seed: int, scanner: Scanner, grid: Grid) -> Anatomy:
    """Draw a patient.

    Parameters
    ----------
    seed : int
        Of the patient; the same patient at another site keeps size and shape.
    scanner : Scanner
        Its site shifts the lung's density; blur and noise come with `acquire`.
    grid : Grid
        Any; the anatomy is defined in mm. `site_grid` gives the scanner's own.

    Returns
    -------
    Anatomy
    """
    body_rng, tree_rng, texture_rng = _generators(seed)
    build = draw_build(body_rng)
    dz, dy, dx = grid.spacing_mm
    z, y, x = _centers_mm(grid)
    per_slice = max(1, round(dz / _LEVEL_MM))
    level_grid = (grid.shape_zyx[0] * per_slice, *grid.shape_zyx[1:])
    level_mm = dz / per_slice
    origin = (z[0] - (dz - level_mm) / 2, float(y[0]), float(x[0]))

    arteries, veins, bronchi = _trees(build, tree_rng)
    levels = (level_grid, (level_mm, dy, dx), origin)
    vessel_share = paint_tubes(_join(arteries, veins), *levels)
    wall_share, lumen_share = _paint_bronchi(bronchi, *levels)

    hu = np.empty(grid.shape_zyx, dtype=np.float32)
    lung_share = np.empty_like(hu)
    vessel = np.empty(grid.shape_zyx, dtype=np.float32)
    front_to_back = np.empty_like(hu)
    columns, rows = x[None, :].astype(np.float32), y[:, None].astype(np.float32)
    for k in range(grid.shape_zyx[0]):
        total_hu = np.zeros(grid.shape_zyx[1:], dtype=np.float32)
        total_lung, total_vessel = np.zeros_like(total_hu), np.zeros_like(total_hu)
        for level in range(k * per_slice, (k + 1) * per_slice):
            height = origin[0] + level * level_mm
            level_hu, lung, back = draw_level(build, height, columns, rows, dx)
            level_hu += lung * wall_share[level] * (np.float32(-150.0) - level_hu)
            level_hu += lung * vessel_share[level] * (np.float32(build.blood_hu) - level_hu)
            level_hu += lung * lumen_share[level] * (np.float32(-960.0) - level_hu)
            total_hu += level_hu
            total_lung += lung
            total_vessel += lung * vessel_share[level]
        hu[k], lung_share[k] = total_hu / per_slice, total_lung / per_slice
        vessel[k], front_to_back[k] = total_vessel / per_slice, back
    parenchyma = lung_share * np.maximum(0, 1 - 1.5 * vessel)
    lung_texture, tissue_texture = _textures(build, grid, texture_rng)
    hu += parenchyma * (lung_texture + np.float32(scanner.site.lung_shift_hu))
    hu += parenchyma * (np.float32(0.5 * build.gravity_hu) * front_to_back)
    hu += (hu > -200) * tissue_texture
    lung_mask = lung_share > 0.5
    return Anatomy(hu, lung_mask, lung_mask & (vessel > 0.25), grid, scanner, build)


def _centers_mm(
    grid: Grid,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Voxel centres along z (above the carina), y and x."""

    def axis(k: int) -> NDArray[np.float64]:
        size = grid.shape_zyx[k]
        return np.linspace(-0.5, 0.5, size) * ((size - 1) * grid.spacing_mm[k])

    z, y, x = axis(0), axis(1), axis(2)
    return z + grid.center_above_carina_mm, y, x


def _trees(
    build: Build, rng: np.random.Generator
) -> tuple[list[Polyline], list[Polyline], list[Polyline]]:
    """Arteries, veins and bronchi of both lungs, over their whole height."""
    axis = np.arange(-174.0, 175.0, _COARSE_MM, dtype=np.float32)
    heights = np.arange(-190.0, 120.0, _COARSE_MM)
    lung = np.stack(
        [draw_level(build, h, axis[None, :], axis[:, None], _COARSE_MM)[1] > 0.5 for h in heights]
    )
    deep = ndimage.distance_transform_edt(lung, sampling=_COARSE_MM) > _FREE_RIM_MM
    k, j, i = np.nonzero(deep)
    xyz = np.column_stack([axis[i], axis[j], heights[k]]).astype(np.float64)
    arteries: list[Polyline] = []
    veins: list[Polyline] = []
    bronchi: list[Polyline] = []
    for side in (-1.0, 1.0):
        half = xyz[xyz[:, 0] * side > 0]
        hilum = build.scale * np.array([48.0 * side, 6.0, -30.0])
        for trees, shift in ((arteries, (0, 2, 6)), (veins, (-4 * side, -4, -16))):
            chosen = half[rng.choice(len(half), _TARGETS_PER_TREE, replace=False)]
            chosen = chosen + rng.uniform(-_COARSE_MM / 2, _COARSE_MM / 2, chosen.shape)
            trees.append(grow_tree(hilum + np.array(shift), chosen, build.vessel_radius_mm))
        bronchi.append(_beside(arteries[-1]))
    return arteries, veins, bronchi


def _beside(artery: Polyline) -> Polyline:
    """Bronchi run with the arteries and are about as wide; the small ones cannot be seen."""
    seen = artery.radius_mm > 1.25
    radius = 0.8 * artery.radius_mm[seen]
    shift = np.array([0.45, 0.75, 0.48]) * (artery.radius_mm[seen] + radius + 0.5)[:, None]
    return Polyline(artery.xyz_mm[seen] + shift, radius)


def _join(*groups: list[Polyline]) -> Polyline:
    lines = [line for group in groups for line in group]
    return Polyline(
        np.concatenate([line.xyz_mm for line in lines]),
        np.concatenate([line.radius_mm for line in lines]),
    )


def _paint_bronchi(
    bronchi: list[Polyline],
    shape_zyx: tuple[int, int, int],
    spacing_zyx: tuple[float, float, float],
    origin_zyx: tuple[float, float, float],
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    lumen = _join(bronchi)
    wall = Polyline(lumen.xyz_mm, lumen.radius_mm + 0.35 + 0.12 * lumen.radius_mm)
    grid = (shape_zyx, spacing_zyx, origin_zyx)
    return paint_tubes(wall, *grid), paint_tubes(lumen, *grid)


def _textures(
    build: Build, grid: Grid, rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Differences in HU from the mean density, of the lung and of the other tissues.

    Lung: lobules, patches, the finest vessels, fissures, emphysema.
    """
    spacing = np.array(grid.spacing_mm)
    step = np.maximum(1, np.floor(2.0 / spacing)).astype(int)
    coarse = tuple((-(-np.array(grid.shape_zyx) // step) + 1).tolist())

    def noise(sigma_mm: float) -> NDArray[np.float32]:
        return _smooth_noise(coarse, sigma_mm / (spacing * step), rng)

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
    z, y, x = _centers_mm(grid)
    slope = 0.8
    height = z[:, None, None] - slope * y[None, :, None]
    level = np.where(x < 0, -28.0, -18.0)[None, None, :] * build.scale
    off = (height - level) / np.hypot(1, slope) + 3.0 * _enlarge(waves, step, grid.shape_zyx)
    # A sheet of 0.5 mm keeps its mass where the voxels are larger.
    width = np.hypot(0.5, 0.25 * grid.spacing_mm[0])
    sheet = np.float32(_FISSURE_HU * 0.5 / width) * np.exp(-0.5 * (off / width) ** 2)
    return np.asarray(sheet, dtype=np.float32)


def _smooth_noise(
    shape: tuple[int, ...], sigma_px: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.float32]:
    """Gaussian noise with unit variance, smooth over `sigma_px`."""
    noise = rng.standard_normal(shape, dtype=np.float32)
    noise[...] = ndimage.gaussian_filter(noise, sigma_px, mode="wrap", truncate=3.0)
    noise /= noise.std()
    return noise


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
