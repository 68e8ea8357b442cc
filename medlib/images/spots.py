"""Round bright spots in single slices of the lung: nodules, and vessels cut across."""

from __future__ import annotations

import cc3d
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import ndimage
from skimage.measure import regionprops_table

from medlib.images.lungs import lung_field
from medlib.images.volume import Volume

BRIGHT_ABOVE_HU = -500.0
ROUND_ABOVE = 0.6  # minor over major axis of the ellipse with the same moments
DEPTH_MM = 4.0  # spots nearer to the edge of the lung field are left out

COLUMNS = ("slice", "row", "column", "diameter_mm", "roundness", "mean_hu", "height_mm")


def round_spots(
    volume: Volume, min_diameter_mm: float = 3.0, max_diameter_mm: float = 12.0
) -> pd.DataFrame:
    """Find what looks like a nodule when one slice is seen alone.

    Parameters
    ----------
    volume : Volume
    min_diameter_mm, max_diameter_mm : float
        Of the circle with the spot's area.

    Returns
    -------
    DataFrame
        A row a spot: slice, row and column of its centre (voxel indices), diameter, roundness
        (0..1), mean HU, and the height in mm along z of the bright 3D structure that it is a
        cross-section of: that of a nodule is about its diameter, that of a vessel is not.
    """
    bright = volume.hu > BRIGHT_ABOVE_HU
    bright &= _depths(volume) > DEPTH_MM
    structures = cc3d.connected_components(bright, connectivity=26)
    height = _heights_mm(structures, volume.spacing_mm[0])
    dy, dx = volume.spacing_mm[1:]
    found = []
    for k in range(len(bright)):
        labels, _ = ndimage.label(bright[k])
        spots = pd.DataFrame(
            regionprops_table(  # type: ignore[no-untyped-call]
                labels,
                volume.hu[k],
                properties=(
                    "centroid",
                    "area",
                    "axis_minor_length",
                    "axis_major_length",
                    "intensity_mean",
                    "coords",
                ),
            )
        )
        if spots.empty:
            continue
        first = [tuple(pixels[0]) for pixels in spots["coords"]]
        found.append(
            pd.DataFrame(
                {
                    "slice": k,
                    "row": spots["centroid-0"],
                    "column": spots["centroid-1"],
                    "diameter_mm": 2 * np.sqrt(spots["area"] * dy * dx / np.pi),
                    "roundness": spots["axis_minor_length"]
                    / spots["axis_major_length"].clip(lower=1e-6),
                    "mean_hu": spots["intensity_mean"],
                    "height_mm": [height[structures[(k, *pixel)]] for pixel in first],
                }
            )
        )
    if not found:
        return pd.DataFrame(columns=list(COLUMNS), dtype=float)
    spots = pd.concat(found, ignore_index=True)
    sized = spots["diameter_mm"].between(min_diameter_mm, max_diameter_mm)
    return spots[sized & (spots["roundness"] > ROUND_ABOVE)].reset_index(drop=True)


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
