"""A synthetic chest: one patient's tissues in HU on a grid, before the scanner."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medlib.phantom.body import Build, draw_build
from medlib.phantom.lung_texture import textures
from medlib.phantom.sites import Grid, Scanner
from medlib.phantom.tissues import draw_level
from medlib.phantom.vessels import Polyline, grow_tree, paint_tubes

_LEVEL_MM = 1.3  # slices thicker than this are averaged over several levels
_COARSE_MM = 6.0
_TARGETS_PER_TREE = 1300
_FREE_RIM_MM = 5.0  # the outermost lung holds no vessel that can be seen
_WALL_HU, _LUMEN_HU = -150.0, -960.0  # of the bronchi


@dataclass(frozen=True)
class Anatomy:
    """A patient without blur and noise: arrays of shape (z, y, x)."""

    hu: NDArray[np.float32]  # z ascends to the head, y to the back, x to the patient's left
    lung: NDArray[np.bool_]  # both, with vessels; without mediastinum, trachea and main bronchi
    vessel: NDArray[np.bool_]  # inside the lung, where it shows against it
    grid: Grid
    scanner: Scanner
    build: Build

    def pleural_depth_mm(self) -> NDArray[np.float32]:
        """Distance of each lung voxel from the outside of the lung in mm; 0 outside."""
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
    """Draw a patient; the same one at another site keeps size and shape.

    The scanner's site shifts the lung's density; blur and noise come with `acquire`. Any grid will
    do, since the anatomy is defined in mm; `site_grid` gives the scanner's own.
    """
    body_rng, tree_rng, texture_rng = _generators(seed)
    build = draw_build(body_rng)
    dz, dy, dx = grid.spacing_mm
    z, y, x = grid.centers_mm()
    per_slice = max(1, round(dz / _LEVEL_MM))
    level_mm = dz / per_slice
    n_slices, *in_plane = grid.shape_zyx
    origin = (z[0] - (dz - level_mm) / 2, float(y[0]), float(x[0]))
    levels = ((n_slices * per_slice, *in_plane), (level_mm, dy, dx), origin)

    vessels, lumens = _trees(build, tree_rng)
    walls = Polyline(lumens.xyz_mm, lumens.radius_mm + 0.35 + 0.12 * lumens.radius_mm)
    vessel_share = paint_tubes(vessels, *levels)
    wall_share, lumen_share = paint_tubes(walls, *levels), paint_tubes(lumens, *levels)

    hu, lung_share, vessel, back = (np.zeros(grid.shape_zyx, np.float32) for _ in range(4))
    columns, rows = x[None, :].astype(np.float32), y[:, None].astype(np.float32)
    for level in range(n_slices * per_slice):
        k = level // per_slice
        height = origin[0] + level * level_mm
        drawn, lung, back[k] = draw_level(build, height, columns, rows, dx)
        for share, tube_hu in (
            (wall_share, _WALL_HU),
            (vessel_share, build.blood_hu),
            (lumen_share, _LUMEN_HU),
        ):
            drawn += lung * share[level] * (np.float32(tube_hu) - drawn)
        hu[k] += drawn
        lung_share[k] += lung
        vessel[k] += lung * vessel_share[level]
    for total in (hu, lung_share, vessel):
        total /= per_slice
    parenchyma = lung_share * np.maximum(0, 1 - 1.5 * vessel)
    lung_texture, tissue_texture = textures(build, grid, texture_rng)
    hu += parenchyma * (lung_texture + np.float32(scanner.site.lung_shift_hu))
    hu += parenchyma * (np.float32(0.5 * build.gravity_hu) * back)
    hu += (hu > -200) * tissue_texture
    lung_mask = lung_share > 0.5
    return Anatomy(hu, lung_mask, lung_mask & (vessel > 0.25), grid, scanner, build)


def _trees(build: Build, rng: np.random.Generator) -> tuple[Polyline, Polyline]:
    """Vessels and the lumens of the bronchi, over the whole height of both lungs."""
    axis = np.arange(-174.0, 175.0, _COARSE_MM, dtype=np.float32)
    heights = np.arange(-190.0, 120.0, _COARSE_MM)
    lung = np.stack(
        [draw_level(build, h, axis[None, :], axis[:, None], _COARSE_MM)[1] > 0.5 for h in heights]
    )
    deep = ndimage.distance_transform_edt(lung, sampling=_COARSE_MM) > _FREE_RIM_MM
    k, j, i = np.nonzero(deep)
    xyz = np.column_stack([axis[i], axis[j], heights[k]]).astype(np.float64)
    vessels: list[Polyline] = []
    for side in (-1.0, 1.0):
        half = xyz[xyz[:, 0] * side > 0]
        hilum = build.scale * np.array([48.0 * side, 6.0, -30.0])
        for shift in ((0, 2, 6), (-4 * side, -4, -16)):  # arteries, veins
            chosen = half[rng.choice(len(half), _TARGETS_PER_TREE, replace=False)]
            chosen = chosen + rng.uniform(-_COARSE_MM / 2, _COARSE_MM / 2, chosen.shape)
            vessels.append(grow_tree(hilum + np.array(shift), chosen, build.vessel_radius_mm))
    return _joined(vessels), _joined([_beside(artery) for artery in vessels[::2]])


def _beside(artery: Polyline) -> Polyline:
    """Bronchi run with the arteries and are about as wide; the small ones cannot be seen."""
    seen = artery.radius_mm > 1.25
    radius = 0.8 * artery.radius_mm[seen]
    shift = np.array([0.45, 0.75, 0.48]) * (artery.radius_mm[seen] + radius + 0.5)[:, None]
    return Polyline(artery.xyz_mm[seen] + shift, radius)


def _joined(lines: list[Polyline]) -> Polyline:
    return Polyline(*map(np.concatenate, zip(*lines, strict=True)))
