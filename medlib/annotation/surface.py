"""How far apart two outlines run, in mm.

Tools differ by more than 100 mm of Hausdorff distance on the same masks :cite:p:`podobnik2024`, so
the rule is pinned here. The surface of a mask is its voxels that have one of their six neighbours
outside; beyond the grid everything is outside. Distances are those of voxel centres in mm, from
each surface voxel to the nearest one of the other mask (`scipy.spatial.cKDTree`, exact).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_erosion
from scipy.spatial import cKDTree


@dataclass(frozen=True)
class SurfaceDistances:
    """Distances of two surfaces; NaN where a mask is empty."""

    mean_surface_distance_mm: float  # over the surface voxels of both masks together
    hausdorff_95_mm: float  # the greater of the two directions' 95th percentiles


def surface_voxels(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Mark the voxels of a mask that have one of their six neighbours outside."""
    return np.asarray(mask & ~binary_erosion(mask))


def pairwise_surface_distances(
    masks: NDArray[np.bool_], spacing_mm: tuple[float, float, float]
) -> list[SurfaceDistances]:
    """Compare every two readers of one nodule, (0, 1), (0, 2) ...; masks (reader, z, y, x)."""
    points = [np.argwhere(surface_voxels(mask)) * spacing_mm for mask in masks]
    trees = [cKDTree(p, compact_nodes=False, balanced_tree=False) for p in points]
    return [
        _compare(trees[i].query(points[j])[0], trees[j].query(points[i])[0])
        for i, j in combinations(range(len(masks)), 2)
    ]


def _compare(there: NDArray[np.float64], back: NDArray[np.float64]) -> SurfaceDistances:
    if not len(there) or not len(back):
        return SurfaceDistances(float("nan"), float("nan"))
    return SurfaceDistances(
        float((there.sum() + back.sum()) / (len(there) + len(back))),
        float(max(np.percentile(there, 95), np.percentile(back, 95))),
    )
