"""What can be wrong with lines, whatever they enclose."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from medlib.annotation.drawings import Line

Points = NDArray[np.float64]
REPEATED = 0.3  # of a voxel: lines that run no farther apart are one, rounded or sampled anew
_STEP = 0.2


def repeated(lines: Sequence[Line]) -> set[int]:
    """Which lines run as an earlier one does, round or back, wherever their points lie."""
    boxes = [
        (*line.points_yx.min(axis=0), *line.points_yx.max(axis=0), line.inclusion) for line in lines
    ]
    pairs = cKDTree(boxes).query_pairs(REPEATED, p=np.inf)
    return {
        later for first, later in pairs if _same(lines[first].points_yx, lines[later].points_yx)
    }


def _same(one: Points, other: Points) -> bool:
    dense = [_along(points) for points in (one, other)]
    return all(cKDTree(a).query(b)[0].max() <= REPEATED for a, b in permutations(dense))


def _along(points_yx: Points) -> Points:
    following = np.roll(points_yx, -1, axis=0)
    n = (np.abs(following - points_yx).max(axis=1) / _STEP).clip(0, 1000).astype(int) + 1
    edges = zip(points_yx, following, n, strict=True)
    return np.concatenate([np.linspace(a, b, k, endpoint=False) for a, b, k in edges])


def closing_gap_mm(points_yx: Points, pixel_mm: tuple[float, float]) -> float:
    """Return how far the end of a line lies from its start, or 0 where that is no gap.

    A polygon of few corners closes with a long edge; a gap is longer than twice any other step.
    """
    steps = np.linalg.norm(np.diff(points_yx, axis=0) * pixel_mm, axis=1)
    gap = float(np.linalg.norm((points_yx[-1] - points_yx[0]) * pixel_mm))
    return gap if gap > 2 * steps.max() else 0.0


def crosses_itself(points_yx: Points) -> bool:
    """Whether a closed line crosses itself; touching itself is no crossing.

    Two edges cross in their middles, or the line winds around a voxel's centre twice or both ways,
    as it does where it crosses at a voxel that it visits twice.
    """
    return _edges_cross(points_yx) or _winds_wrongly(points_yx)


def _edges_cross(points_yx: Points) -> bool:
    start, stop = points_yx, np.roll(points_yx, -1, axis=0)
    # side[i, j]: on which side of edge i point j lies
    side_of_start = np.sign(_turn(start[:, None], stop[:, None], start[None]))
    side_of_stop = np.sign(_turn(start[:, None], stop[:, None], stop[None]))
    parted = side_of_start * side_of_stop < 0
    return bool((parted & parted.T).any())


def _winds_wrongly(points_yx: Points) -> bool:
    low = np.floor(points_yx.min(axis=0)).astype(int)
    high = np.ceil(points_yx.max(axis=0)).astype(int) + 1
    rows, columns = np.mgrid[low[0] : high[0], low[1] : high[1]]
    centres = np.stack([rows.ravel(), columns.ravel()], axis=1).astype(np.float64)
    winding = np.zeros(len(centres), dtype=int)
    for start, stop in zip(points_yx, np.roll(points_yx, -1, axis=0), strict=True):
        turn = _turn(start, stop, centres)
        up = (start[0] <= centres[:, 0]) & (centres[:, 0] < stop[0]) & (turn > 0)
        down = (stop[0] <= centres[:, 0]) & (centres[:, 0] < start[0]) & (turn < 0)
        winding += up.astype(int) - down.astype(int)
    return bool(winding.max(initial=0) - winding.min(initial=0) > 1)


def _turn(start: Points, stop: Points, point: Points) -> Points:
    """Twice the signed area of the triangle of three points."""
    along, towards = stop - start, point - start
    area: Points = along[..., 0] * towards[..., 1] - along[..., 1] * towards[..., 0]
    return area
