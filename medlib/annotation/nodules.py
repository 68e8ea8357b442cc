"""Which outlines of anonymous readers show the same nodule: a choice, by one stated rule."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from medlib.annotation import lidc
from medlib.annotation.outlines import Block, block_around, outline_mask

TOLERANCE_FACTOR = 0.9
MIN_TOLERANCE_MM = 0.1


@dataclass(frozen=True)
class Nodule:
    """One nodule as its readers drew it."""

    origin: str  # "LIDC-IDRI-0078/3": patient, number in the order of scans, the lowest first
    patient_id: str
    scan_id: int
    annotation_ids: tuple[int, ...]  # one a reader, in the readers' order everywhere else
    spacing_mm: tuple[float, float, float]  # z, y, x; z: median of the scan

    @property
    def n_readers(self) -> int:
        """How many outlines there are."""
        return len(self.annotation_ids)

    @property
    def is_oversized(self) -> bool:
        """Whether it holds more outlines than there were readers: nodules that were not parted."""
        return self.n_readers > lidc.PANEL_SIZE

    @property
    def block(self) -> Block:
        """The part of the scan that holds every reader's outline."""
        return block_around([line for i in self.annotation_ids for line in lidc.contours(i)])

    def reader_masks(self) -> NDArray[np.bool_]:
        """Return every reader's mask on `block`, shape (reader, z, y, x)."""
        block = self.block
        return np.stack([outline_mask(lidc.contours(i), block) for i in self.annotation_ids])

    def slice_positions_mm(self) -> NDArray[np.float64]:
        """Return the z position of each slice of `block` in mm, ascending."""
        return lidc.slice_positions_mm(self.scan_id)[self.block[0]]

    @property
    def ratings(self) -> pd.DataFrame:
        """A row a reader with the nine ratings of `lidc.RATINGS`."""
        return lidc.reader_annotations().loc[list(self.annotation_ids), list(lidc.RATINGS)]


def cluster_outlines(
    points_mm: Sequence[NDArray[np.float64]], tolerance_mm: float
) -> list[list[int]]:
    """Group the outlines of one scan that show the same nodule.

    The rule of pylidc's ``Scan.cluster_annotations`` :cite:p:`hancock2016`, with distances in mm:
    two outlines are neighbours where the smallest distance of their contour points is at most the
    tolerance; groups are the connected parts of that graph. While a group holds more than
    `PANEL_SIZE` outlines, the tolerance shrinks by `TOLERANCE_FACTOR` and ALL groups of the scan
    are formed anew; at `MIN_TOLERANCE_MM` groups still too large stay so. (pylidc itself compares
    distances of voxel indices with a tolerance in mm, which moves three of 2,651 nodules from one
    count of readers to another.)

    Points of an outline have shape (n, 3), height last. Groups come by their mean height.
    """
    if not points_mm:
        return []
    distance = smallest_distances(points_mm, tolerance_mm)
    groups = groups_within(distance, tolerance_mm)
    height = [outline[:, -1].mean() for outline in points_mm]
    return sorted(groups, key=lambda group: np.mean([height[i] for i in group]))


def groups_within(distance_mm: NDArray[np.float64], tolerance_mm: float) -> list[list[int]]:
    """Group outlines as `cluster_outlines` does, from `smallest_distances` that are known."""
    groups = _connected(distance_mm <= tolerance_mm)
    while max(map(len, groups)) > lidc.PANEL_SIZE:
        tolerance_mm *= TOLERANCE_FACTOR
        if tolerance_mm < MIN_TOLERANCE_MM:
            break
        groups = _connected(distance_mm <= tolerance_mm)
    return groups


def _connected(adjacent: NDArray[np.bool_]) -> list[list[int]]:
    count, label = connected_components(adjacent, directed=False)
    return [np.flatnonzero(label == k).tolist() for k in range(count)]


def smallest_distances(
    points_mm: Sequence[NDArray[np.float64]], tolerance_mm: float
) -> NDArray[np.float64]:
    """Return the smallest distance of each pair of point sets; infinite far above the tolerance."""
    low = np.array([outline.min(axis=0) for outline in points_mm])
    high = np.array([outline.max(axis=0) for outline in points_mm])
    gap = np.maximum(np.maximum(low[:, None] - high[None], low[None] - high[:, None]), 0)
    near = np.linalg.norm(gap, axis=-1) <= tolerance_mm
    # Built fast rather than balanced: each tree is asked only once or twice.
    trees = [cKDTree(points, compact_nodes=False, balanced_tree=False) for points in points_mm]
    distance = np.full((len(points_mm), len(points_mm)), np.inf)
    np.fill_diagonal(distance, 0.0)
    for i, j in np.argwhere(np.triu(near, 1)):
        nearest, _ = trees[i].query(points_mm[j], distance_upper_bound=tolerance_mm + 1.0)
        distance[i, j] = distance[j, i] = nearest.min()
    return distance


@functools.cache
def nodules() -> tuple[Nodule, ...]:
    """Return every nodule of the database, by patient and number, oversized ones too."""
    by_scan = lidc.reader_annotations().groupby("scan_id").groups
    found: list[Nodule] = []
    numbered: dict[str, int] = {}
    for scan in lidc.scans().itertuples():
        ids = [int(i) for i in by_scan.get(scan.Index, ())]
        points_mm = [outline_points_mm(i, scan.pixel_spacing_mm) for i in ids]
        groups = cluster_outlines(points_mm, scan.slice_thickness_mm)  # pylidc's tolerance
        spacing = (scan.slice_spacing_mm, scan.pixel_spacing_mm, scan.pixel_spacing_mm)
        for group in groups:
            number = numbered[scan.patient_id] = numbered.get(scan.patient_id, 0) + 1
            origin = f"{scan.patient_id}/{number}"
            annotation_ids = tuple(ids[i] for i in group)
            found.append(Nodule(origin, scan.patient_id, scan.Index, annotation_ids, spacing))
    return tuple(sorted(found, key=lambda nodule: nodule.patient_id))


def outline_points_mm(annotation_id: int, pixel_spacing_mm: float) -> NDArray[np.float64]:
    """Return the contour points of an outline in mm: row, column, height."""
    z_mm = lidc.slice_positions_mm(int(lidc.reader_annotations().at[annotation_id, "scan_id"]))
    lines = lidc.contours(annotation_id)
    in_plane_mm = np.concatenate([line.points_yx for line in lines]) * pixel_spacing_mm
    height_mm = np.repeat(
        z_mm[[line.slice_index for line in lines]], [len(line.points_yx) for line in lines]
    )
    return np.column_stack([in_plane_mm, height_mm])
