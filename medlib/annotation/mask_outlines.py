"""Masks to lines: along the voxels' edges, or on the first voxels outside."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.graph import route_through_array
from skimage.measure import find_contours

Points = NDArray[np.float64]


def border_walks(plane: NDArray[np.bool_]) -> list[Points]:
    """Return the middles (row, column) of the voxel edges along every border, in order.

    The last is not the first again. Voxels that touch at a corner only are two pieces.
    """
    padded = np.pad(plane, 1).astype(np.float64)
    walks = find_contours(padded, 0.5, fully_connected="low")  # type: ignore[no-untyped-call]
    return [walk[:-1] - 1 for walk in walks]


def is_hole(walk: Points, plane: NDArray[np.bool_]) -> bool:
    """Whether a border of `border_walks` runs around a hole."""
    # The edge of lowest row is horizontal; just below it lies what the walk encloses.
    row, column = walk[walk[:, 0].argmin()]
    return not plane[int(np.ceil(row)), int(column)]


def edge_polygon(walk: Points) -> Points:
    """Return the corners (row, column) of the border along voxel edges: they end in one half."""
    following = np.roll(walk, -1, axis=0)
    on_edge = walk % 1 == 0.5
    next_on_edge = following % 1 == 0.5
    corners = np.where(on_edge, walk, np.where(next_on_edge, following, (walk + following) / 2))
    before, after = np.roll(corners, 1, axis=0), np.roll(corners, -1, axis=0)
    turns = np.any((corners - before) != (after - corners), axis=1)
    return np.asarray(corners[turns])


def reader_lines(plane: NDArray[np.bool_]) -> list[tuple[bool, NDArray[np.int64]]]:
    """Draw a mask as LIDC readers do: lines, and whether each is an inclusion.

    Rows and columns reach -1 and the length of the side where the mask touches the edge of the
    image. `outlines.outline_plane` gives the mask back, voxel for voxel.
    """
    outside = ~np.pad(plane, 1)
    parts, _ = ndimage.label(outside, structure=np.ones((3, 3)))
    lines, holes = [], {}
    for walk in border_walks(plane):
        line = _outside_voxels(walk, plane) + 1
        if is_hole(walk, plane):
            holes[int(parts[tuple(line[0])])] = line
        else:
            lines.append(line)
    # An exclusion takes out all that it encloses, so its line goes around what lies in the hole.
    for line in lines:
        part = int(parts[tuple(line[0])])
        if part in holes:
            holes[part] = _with_detour(holes[part], line, parts == part)
    drawn = [(True, line) for line in lines] + [(False, line) for line in holes.values()]
    return [(inclusion, line - 1) for inclusion, line in drawn]


def _outside_voxels(walk: Points, plane: NDArray[np.bool_]) -> NDArray[np.int64]:
    low, high = np.floor(walk).astype(np.int64), np.ceil(walk).astype(np.int64)
    inside = np.pad(plane, 1)[low[:, 0] + 1, low[:, 1] + 1]
    line = np.where(inside[:, None], high, low)
    repeated = np.all(line == np.roll(line, 1, axis=0), axis=1)
    return line[~repeated] if not repeated.all() else line[:1]


def _with_detour(
    line: NDArray[np.int64], island: NDArray[np.int64], free: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """Lead a line over free voxels to an island, around it and back the same way."""
    way, _ = route_through_array(  # type: ignore[no-untyped-call]
        np.where(free, 1.0, -1.0), line[-1], island[0], fully_connected=True
    )
    there = np.array(way)
    return np.concatenate([line, there, island[1:], island[:1], there[::-1]])
