"""Readers' outlines turned into masks.

LIDC readers drew on the first voxel OUTSIDE the nodule, so the voxels of the line itself do not
belong to it. The masks equal pylidc's ``Annotation.boolean_mask`` voxel for voxel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.path import Path as Polygon
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


def enclosed(points_yx: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Mark the voxels enclosed by one polygon, on the polygon's own bounding rectangle.

    Parameters
    ----------
    points_yx : ndarray of int, shape (n, 2)
        Vertices; an open line is closed.

    Returns
    -------
    ndarray of bool, shape (y, x)
        By the even-odd rule of `matplotlib.path.Path.contains_points`, which pylidc uses. Whether
        a vertex itself counts is of no consequence: `outline_mask` takes the vertices off.
    """
    origin = points_yx.min(axis=0)
    rows, columns = points_yx.max(axis=0) - origin + 1
    vertices = points_yx - origin
    if (vertices[0] != vertices[-1]).any():
        vertices = np.concatenate([vertices, vertices[:1]])
    grid = np.argwhere(np.ones((rows, columns)))
    inside: NDArray[np.bool_] = Polygon(vertices, closed=True).contains_points(grid)
    return inside.reshape(rows, columns)


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
    for contour in sorted(contours, key=lambda contour: not contour.inclusion):
        plane = mask[contour.slice_index - z0]
        points = contour.points_yx - (y0, x0)
        inside = enclosed(points)
        top, left = points.min(axis=0)
        window = plane[top : top + inside.shape[0], left : left + inside.shape[1]]
        if contour.inclusion:
            window |= inside
        else:
            window &= ~inside
        plane[points[:, 0], points[:, 1]] = False
    return mask
