"""Readers' outlines turned into masks.

LIDC readers drew on the first voxel OUTSIDE the nodule, so the voxels of the line itself do not
belong to it. The masks equal pylidc's ``Annotation.boolean_mask`` voxel for voxel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medlib.annotation.lidc import Contour


@dataclass(frozen=True)
class Box:
    """A block of voxels: `start_zyx` is inside, `stop_zyx` is the first outside."""

    start_zyx: tuple[int, int, int]
    stop_zyx: tuple[int, int, int]

    @property
    def shape_zyx(self) -> tuple[int, int, int]:
        """Slices, rows, columns."""
        (z0, y0, x0), (z1, y1, x1) = self.start_zyx, self.stop_zyx
        return z1 - z0, y1 - y0, x1 - x0


def bounding_box(contours: Sequence[Contour]) -> Box:
    """Return the smallest block that holds every contour point."""
    slices = [contour.slice_index for contour in contours]
    low_yx = np.min([contour.points_yx.min(axis=0) for contour in contours], axis=0)
    high_yx = np.max([contour.points_yx.max(axis=0) for contour in contours], axis=0)
    return Box(
        (min(slices), int(low_yx[0]), int(low_yx[1])),
        (max(slices) + 1, int(high_yx[0]) + 1, int(high_yx[1]) + 1),
    )


def enclosed(lines_yx: Sequence[NDArray[np.int64]], shape_yx: tuple[int, int]) -> NDArray[np.bool_]:
    """Mark the voxels that each of some polygons encloses.

    Parameters
    ----------
    lines_yx : sequence of ndarray of int, shape (n, 2)
        Vertices of each polygon; an open line is closed.
    shape_yx : tuple of int
        Rows and columns of the grid; every vertex lies on it.

    Returns
    -------
    ndarray of bool, shape (polygon, y, x)
        By the even-odd rule: a voxel is inside where a ray along its column crosses the line an
        odd number of times. Voxels on the line fall as in `matplotlib.path.Path.contains_points`,
        which pylidc calls: on an edge that runs to greater x they count, on the others not.
    """
    n_rows, n_columns = shape_yx
    lengths = np.array([len(line) for line in lines_yx])
    stops = np.cumsum(lengths)
    polygon = np.repeat(np.arange(len(lengths)), lengths)
    following = np.arange(stops[-1]) + 1
    following[stops - 1] = stops - lengths
    y0, x0 = np.concatenate(lines_yx).T
    y1, x1 = y0[following], x0[following]
    # Each edge crosses the columns above its lower x, up to and with its greater x.
    crossed = np.abs(x1 - x0)
    edge = np.repeat(np.arange(len(crossed)), crossed)
    nth = np.arange(len(edge)) - np.repeat(np.cumsum(crossed) - crossed, crossed)
    column = np.minimum(x0, x1)[edge] + 1 + nth
    rise, run = (y1 - y0)[edge], (x1 - x0)[edge]
    crossing = y0[edge] * run + (column - x0[edge]) * rise  # its row, times run
    last_row = np.where(run > 0, crossing // run, -(-crossing // run) - 1)
    voxel = (polygon[edge] * n_rows + last_row) * n_columns + column
    flips = np.bincount(voxel[last_row >= 0], minlength=len(lengths) * n_rows * n_columns)
    # A crossing turns every row up to its own.
    upwards = flips.reshape(len(lengths), n_rows, n_columns)[:, ::-1]
    return np.bitwise_and(np.cumsum(upwards, axis=1), 1).astype(bool)[:, ::-1]


def outline_mask(contours: Sequence[Contour], box: Box) -> NDArray[np.bool_]:
    """Rasterise one reader's outline of one nodule.

    Voxels strictly inside an inclusion contour belong to the nodule, the contour's own voxels do
    not; then everything inside or on an exclusion contour is taken out.

    Parameters
    ----------
    contours : sequence of Contour
    box : Box
        The grid to draw on; it must hold every contour.

    Returns
    -------
    ndarray of bool, shape `box.shape_zyx`
    """
    mask = np.zeros(box.shape_zyx, dtype=bool)
    z0, y0, x0 = box.start_zyx
    # Inclusions first and in their own order: a later one may cover an earlier one's line.
    ordered = sorted(contours, key=lambda contour: not contour.inclusion)
    lines = [contour.points_yx - (y0, x0) for contour in ordered]
    for contour, line, inside in zip(
        ordered, lines, enclosed(lines, box.shape_zyx[1:]), strict=True
    ):
        plane = mask[contour.slice_index - z0]
        if contour.inclusion:
            plane |= inside
        else:
            plane &= ~inside
        plane[line[:, 0], line[:, 1]] = False
    return mask
