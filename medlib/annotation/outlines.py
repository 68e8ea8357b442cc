"""Readers' lines turned into masks.

LIDC readers drew on the first voxel OUTSIDE the nodule, so the voxels of the line itself do not
belong to it (`outline_plane`). The masks equal pylidc's ``Annotation.boolean_mask`` voxel for
voxel. In a structure set a voxel belongs to a line where its centre lies inside, or on it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.path import Path as Polygon
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from medlib.annotation.lidc import Contour

Block = tuple[slice, slice, slice]  # of a grid: z, y, x
ON_LINE = 1e-5  # of a voxel: a line that passes a centre this near runs through it


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


def on_line(line_yx: NDArray[np.float64], shape_yx: tuple[int, int]) -> NDArray[np.bool_]:
    """Mark the voxels whose centre a closed line runs through."""
    mask = np.zeros(shape_yx, dtype=bool)
    for start, step in zip(line_yx, np.roll(line_yx, -1, axis=0) - line_yx, strict=True):
        axis = int(np.abs(step).argmax())
        low, high = sorted((start[axis], start[axis] + step[axis]))
        first, last = max(np.ceil(low - ON_LINE), 0), min(high + ON_LINE, shape_yx[axis] - 1)
        along = np.arange(first, last + ON_LINE) - start[axis]
        points = start + along[:, None] * (step / (step[axis] or 1.0))
        centres = points.round()
        on = (np.abs(points - centres) <= ON_LINE) & (centres >= 0) & (centres < shape_yx)
        mask[tuple(centres[on.all(axis=1)].astype(int).T)] = True
    return mask


def overlap_in_part(areas: Sequence[NDArray[np.integer]]) -> csr_array:
    """Which of areas, each the numbers of its voxels, overlap which without lying inside it."""
    sizes = np.array([len(area) for area in areas], dtype=int)
    voxels = np.concatenate([*areas, [0]])[:-1].astype(int)
    area_of = np.repeat(np.arange(len(areas)), sizes)
    shape = len(areas), voxels.max(initial=0) + 1
    holds = csr_array((np.ones(len(voxels), dtype=int), (area_of, voxels)), shape)
    common = (holds @ holds.T).tocoo()
    one, other = common.coords
    partly = common.data < np.minimum(sizes[one], sizes[other])
    return csr_array((partly[partly], (one[partly], other[partly])), common.shape)


def structure_plane(
    lines: Sequence[NDArray[np.float64]], shape_yx: tuple[int, int]
) -> tuple[NDArray[np.bool_], int, int]:
    """Rasterise the lines of a structure on one slice; count those that overlap, or hold nothing.

    A line wholly inside another is a hole, and lines that overlap in part are one area. Voxels
    with their centre on a line belong to the structure, also around a hole: whoever draws through
    centres draws through the outermost voxels.
    """
    plane, border = np.zeros(shape_yx, dtype=bool), np.zeros(shape_yx, dtype=bool)
    areas, n_empty = [], 0
    for line in lines:
        own = on_line(line, shape_yx)
        areas.append(np.flatnonzero(enclosed(line, shape_yx) & ~own))
        n_empty += not len(areas[-1]) and not own.any()
        border |= own
    partly = overlap_in_part(areas)
    n, part_of = connected_components(partly, directed=False)
    for part in range(n):
        joined = np.concatenate([areas[i] for i in np.flatnonzero(part_of == part)])
        plane.flat[np.unique(joined)] ^= True
    return plane | border, len(np.unique(partly.nonzero()[0])), n_empty


def outline_mask(contours: Sequence[Contour], block: Block) -> NDArray[np.bool_]:
    """Rasterise one reader's outline of one nodule on a block of the scan that holds it."""
    z, y, x = block
    shape_yx = y.stop - y.start, x.stop - x.start
    lines: list[list[tuple[bool, NDArray[np.int64]]]] = [[] for _ in range(z.stop - z.start)]
    for contour in contours:
        line = contour.points_yx - (y.start, x.start)
        lines[contour.slice_index - z.start].append((contour.inclusion, line))
    return np.stack([outline_plane(some, shape_yx) for some in lines])
