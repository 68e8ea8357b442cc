"""One axial level of a phantom patient: which tissue lies where."""

from __future__ import annotations

import numpy as np

from medlib.phantom.body import FAT, MUSCLE, Build
from medlib.phantom.chest_wall import Spine, cavity_shift_mm, draw_wall
from medlib.phantom.shapes import Field, Level, smooth_union

AIR, LIVER, BRONCHIAL_WALL = -1000.0, 58.0, 20.0
BRONCHIAL_WALL_MM = 1.3


def draw_level(
    build: Build, z: float, x: Field, y: Field, pixel_mm: float
) -> tuple[Field, Field, Field]:
    """Draw the tissues at a height z above the carina; x and y as in `Level.straight_x`.

    Returns fields of shape (rows, columns): HU, the lung filled with the patient's mean density;
    the share of each pixel that is lung; its position in the chest, about -1 at the breast bone to
    1 at the back.
    """
    z = float(z)  # a NumPy scalar would turn every field into float64
    bent_x, bent_y = _bend(build, z, x, y)
    hu = np.full(bent_x.shape, AIR, dtype=np.float32)
    level = Level(z, x, y, bent_x, bent_y, pixel_mm, hu)
    outward = draw_wall(level, build)
    above_diaphragm = _diaphragm(build, level)
    chest = np.minimum(-outward, above_diaphragm)
    _abdomen(level, np.minimum(-outward, -above_diaphragm))

    organs, airways = list(level.near(build.organs)), list(level.near(build.airways))
    spine = Spine(level, build)
    edge = np.full(hu.shape, -60.0, dtype=np.float32)  # of the mediastinum
    edge[spine.at] = around_spine = spine.spared()
    for shape, at, field in (*organs, *airways):
        edge[at] = smooth_union(edge[at], field + np.float32(shape.fat_mm))
    level.paint(np.minimum(chest, edge), FAT)
    level.paint(np.minimum(chest[spine.at], around_spine), MUSCLE, spine.at)
    spine.draw()
    for shape, at, field in organs:
        level.paint(np.minimum(field, chest[at]), shape.hu, at)
    lung = level.share(np.minimum(chest, -edge))
    hu += lung * (np.float32(build.lung_hu) - hu)
    for _, at, field in airways:
        wall = field + np.float32(BRONCHIAL_WALL_MM)
        level.paint(wall, BRONCHIAL_WALL, at)
        lung[at] *= 1 - level.share(wall)
    for shape, at, field in airways:
        level.paint(field, shape.hu, at)
    behind_middle = bent_y - np.float32(cavity_shift_mm(z))
    return hu, lung, behind_middle / np.float32(build.cavity_half_depth_mm)


def _bend(build: Build, z: float, x: Field, y: Field) -> tuple[Field, Field]:
    """Displace the coordinates by long waves: what makes the outlines organic."""
    new_x, new_y = x + np.zeros_like(y), y + np.zeros_like(x)
    for kx, ky, kz, phase, along_x, along_y, lag in build.warp.tolist():
        a, b = kx * x + (phase + kz * z), ky * y
        # sin(a + b) from outer products: two transcendental functions a row and a column
        new_x += along_x * (np.sin(a) * np.cos(b) + np.cos(a) * np.sin(b))
        a = a + lag
        new_y += along_y * (np.sin(a) * np.cos(b) + np.cos(a) * np.sin(b))
    return new_x, new_y


def _diaphragm(build: Build, level: Level) -> Field:
    """Height above the two domes, and what lies between them under the heart, in mm."""
    width = 0.62 * build.cavity_half_width_mm
    right = build.diaphragm_right_mm - 62.0 * ((level.x + 0.8 * width) / width) ** 2
    left = build.diaphragm_left_mm - 62.0 * ((level.x - 0.8 * width) / width) ** 2
    middle = build.diaphragm_right_mm - 12.0 - 62.0 * ((level.x - 4.0) / (0.7 * width)) ** 2
    dome: Field = np.maximum(np.maximum(right, left), middle)
    dome -= 55.0 * ((level.y + 22.0) / build.cavity_half_depth_mm) ** 2
    return 0.75 * (level.z - dome)


def _abdomen(level: Level, field: Field) -> None:
    """Liver on the right, spleen on the left, fat between."""
    level.paint(field, FAT)
    level.paint(np.minimum(field - 2.0, 0.8 * (28.0 - level.x)), LIVER)
    level.paint(np.minimum(field - 2.0, 0.8 * (level.x - 62.0)), LIVER - 8.0)
