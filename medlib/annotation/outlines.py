"""Readers' lines turned into masks.

LIDC readers drew on the first voxel OUTSIDE the nodule, so the voxels of the line itself do not
belong to it. The masks equal pylidc's ``Annotation.boolean_mask`` voxel for voxel.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.path import Path as Polygon
from numpy.typing import NDArray

from medlib.annotation.lidc import Contour

Block = tuple[slice, slice, slice]  # of a grid: z, y, x


def block_around(contours: Sequence[Contour]) -> Block:
    """Return the smallest block that holds every contour point."""
    slices = [contour.slice_index for contour in contours]
    points = np.concatenate([contour.points_yx for contour in contours])
    (y0, x0), (y1, x1) = points.min(axis=0).tolist(), points.max(axis=0).tolist()
    return slice(min(slices), max(slices) + 1), slice(y0, y1 + 1), slice(x0, x1 + 1)


def enclosed(line_yx: NDArray[np.number], shape_yx: tuple[int, int]) -> NDArray[np.bool_]:
    """Mark the voxels whose centre a line encloses by the even-odd rule; an open line is closed."""
    low = np.maximum(np.floor(line_yx.min(axis=0)), 0).astype(int)
    high = np.minimum(np.ceil(line_yx.max(axis=0)) + 1, shape_yx).astype(int)
    size = np.maximum(high - low, 0)
    mask = np.zeros(shape_yx, dtype=bool)
    polygon = Polygon(np.concatenate([line_yx, line_yx[:1]]))
    inside = polygon.contains_points(np.argwhere(np.ones(size)) + low)
    mask[low[0] : high[0], low[1] : high[1]] = inside.reshape(size)
    return mask


def outline_plane(
    lines: Sequence[tuple[bool, NDArray[np.int64]]], shape_yx: tuple[int, int]
) -> NDArray[np.bool_]:
    """Rasterise one reader's lines on one slice, each with whether it is an inclusion."""
    mask = np.zeros(shape_yx, dtype=bool)
    # Inclusions first and in their own order: a later one may cover an earlier one's line.
    for inclusion, line in sorted(lines, key=lambda one: not one[0]):
        inside = enclosed(line, shape_yx)
        mask = mask | inside if inclusion else mask & ~inside
        on_grid = np.all((line >= 0) & (line < shape_yx), axis=1)
        mask[tuple(line[on_grid].T)] = False
    return mask


def outline_mask(contours: Sequence[Contour], block: Block) -> NDArray[np.bool_]:
    """Rasterise one reader's outline of one nodule on a block of the scan that holds it."""
    z, y, x = block
    shape_yx = y.stop - y.start, x.stop - x.start
    lines: list[list[tuple[bool, NDArray[np.int64]]]] = [[] for _ in range(z.stop - z.start)]
    for contour in contours:
        line = contour.points_yx - (y.start, x.start)
        lines[contour.slice_index - z.start].append((contour.inclusion, line))
    return np.stack([outline_plane(some, shape_yx) for some in lines])
