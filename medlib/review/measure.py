"""What a report says about one marked region: its size and where it lies."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import ConvexHull
from scipy.spatial.distance import pdist

from medlib.images.volume import Volume

MIN_POINTS_FOR_HULL = 5


def max_diameter_mm(voxels_zyx: NDArray[np.int64], spacing_mm: tuple[float, float, float]) -> float:
    """Maximum Feret diameter in 3D: largest distance between the centres of two voxels.

    At least one pixel, because a region of one voxel is not zero wide. Readers usually give the
    largest diameter within one slice; in 3D the figure is never smaller than that. Centres lie
    inside the boundary, so the figure errs to the small side by up to one voxel.
    `voxels_zyx` has the shape (n, 3).
    """
    points_mm = voxels_zyx * np.asarray(spacing_mm)
    if len(points_mm) >= MIN_POINTS_FOR_HULL:
        # The farthest pair lies on the convex hull; QJ lets flat regions (one slice) through.
        points_mm = points_mm[ConvexHull(points_mm, qhull_options="QJ").vertices]
    widest = pdist(points_mm).max() if len(points_mm) > 1 else 0.0
    return float(max(widest, spacing_mm[1], spacing_mm[2]))


def center_xyz_mm(voxels_zyx: NDArray[np.int64], volume: Volume) -> tuple[float, float, float]:
    """Mean of the voxel centres in DICOM patient coordinates (LPS+), mm."""
    x, y, z = volume.to_patient_mm(voxels_zyx.mean(axis=0))
    return float(x), float(y), float(z)
