"""Round bright spots in single slices of the lung: nodules, and vessels cut across."""

from __future__ import annotations

import cc3d
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import ndimage
from skimage.measure import regionprops

from medlib.images.lungs import lung_field
from medlib.images.volume import Volume

BRIGHT_ABOVE_HU = -500.0
ROUND_ABOVE = 0.6  # minor over major axis of the ellipse with the same moments
DEPTH_MM = 4.0  # what reaches nearer to the edge of the lung field is wall or mediastinum

COLUMNS = ("slice", "row", "column", "diameter_mm", "roundness", "mean_hu", "height_mm")


def round_spots(
    volume: Volume, min_diameter_mm: float = 3.0, max_diameter_mm: float = 12.0
) -> pd.DataFrame:
    """Find what looks like a nodule when one slice is seen alone, by the diameter of its area.

    Returns
    -------
    DataFrame
        A row a spot: slice, row and column of its centre (voxel indices), diameter, roundness
        (0..1), mean HU, and the height in mm along z of the bright 3D structure that it is a
        cross-section of: that of a nodule is about its diameter, that of a vessel is not.
    """
    bright = volume.hu > BRIGHT_ABOVE_HU
    depth_mm = _depths(volume)
    structures = cc3d.connected_components(bright & (depth_mm > DEPTH_MM), connectivity=26)
    dz, dy, dx = volume.spacing_mm
    height_mm = _heights_mm(structures, dz)
    pixels = [np.pi / 4 * size**2 / (dy * dx) for size in (min_diameter_mm, max_diameter_mm)]
    rows = []
    for k in np.flatnonzero(depth_mm.any(axis=(1, 2))):
        labels = _free_components(bright[k], depth_mm[k], *pixels)
        for spot in regionprops(labels, volume.hu[k]):  # type: ignore[no-untyped-call]
            roundness = spot.axis_minor_length / max(spot.axis_major_length, 1e-6)
            if roundness > ROUND_ABOVE:
                diameter_mm = 2 * np.sqrt(spot.area * dy * dx / np.pi)
                height = height_mm[structures[(k, *spot.coords[0])]]
                rows.append(
                    (k, *spot.centroid, diameter_mm, roundness, spot.intensity_mean, height)
                )
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype(dict.fromkeys(COLUMNS[1:], float))


def _depths(volume: Volume) -> NDArray[np.float32]:
    """Distance of each pixel from the edge of the lung field in its slice, in mm."""
    field = lung_field(volume.hu, volume.spacing_mm)
    depth = np.zeros(field.shape, dtype=np.float32)
    for k in np.flatnonzero(field.any(axis=(1, 2))):
        depth[k] = ndimage.distance_transform_edt(field[k], sampling=volume.spacing_mm[1:])
    return depth


def _heights_mm(structures: NDArray[np.unsignedinteger], slice_mm: float) -> NDArray[np.float64]:
    """Extent along z of each labelled structure; 0 for the background."""
    boxes = ndimage.find_objects(structures.astype(np.int32))
    return np.array([0.0, *((box[0].stop - box[0].start) * slice_mm for box in boxes)])


def _free_components(
    bright: NDArray[np.bool_], depth_mm: NDArray[np.float32], min_pixels: float, max_pixels: float
) -> NDArray[np.int32]:
    """Label the components of a slice that have the right size and lie free in the lung."""
    labels, count = ndimage.label(bright)
    pixels = np.bincount(labels.ravel(), minlength=count + 1)
    nearest_mm = ndimage.minimum(depth_mm, labels, np.arange(count + 1))
    keep = (pixels >= min_pixels) & (pixels <= max_pixels) & (nearest_mm > DEPTH_MM)
    keep[0] = False
    free: NDArray[np.int32] = np.where(keep[labels], labels, 0).astype(np.int32)
    return free
