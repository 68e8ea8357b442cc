"""A synthetic chest: one patient's tissues in HU on a grid, before the scanner."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medlib.images.phantom.sites import Grid, PhantomSite


@dataclass(frozen=True)
class Anatomy:
    """A patient without blur and noise.

    Attributes
    ----------
    hu : ndarray of float32, shape (z, y, x)
        Hounsfield units; z ascends towards the head, y towards the back, x to the patient's left.
    lung : ndarray of bool, shape (z, y, x)
        Both lungs with their vessels; without mediastinum, trachea and main bronchi.
    vessel : ndarray of bool, shape (z, y, x)
        Vessels inside the lung.
    grid : Grid
    site : PhantomSite
    """

    hu: NDArray[np.float32]
    lung: NDArray[np.bool_]
    vessel: NDArray[np.bool_]
    grid: Grid
    site: PhantomSite

    def pleural_depth_mm(self) -> NDArray[np.float32]:
        """Distance of each lung voxel from the outside of the lung in mm; 0 outside.

        Returns
        -------
        ndarray of float32, shape (z, y, x)
        """
        depth = ndimage.distance_transform_edt(self.lung, sampling=self.grid.spacing_mm)
        return depth.astype(np.float32)


def draw_anatomy(seed: int, site: PhantomSite, grid: Grid) -> Anatomy:
    """Draw a patient.

    Parameters
    ----------
    seed : int
        Of the patient; the same patient at another site keeps size and shape.
    site : PhantomSite
        Shifts the lung's density; blur and noise come with `acquire`.
    grid : Grid
        Any; the anatomy is defined in mm. `site_grid` gives the site's own.

    Returns
    -------
    Anatomy
    """
    rng = np.random.default_rng(seed)
    slices, rows, columns = grid.shape_zyx
    dz, dy, dx = grid.spacing_mm
    z = (np.arange(slices) - (slices - 1) / 2)[:, None, None] * dz
    y = (np.arange(rows) - (rows - 1) / 2)[None, :, None] * dy
    x = (np.arange(columns) - (columns - 1) / 2)[None, None, :] * dx
    width = rng.normal(150.0, 8.0)
    body = (x / width) ** 2 + (y / (0.68 * width)) ** 2 < 1 + 0 * z
    lung = ((np.abs(x) - 0.5 * width) / (0.36 * width)) ** 2 + (y / (0.5 * width)) ** 2 + (
        (z + 20) / 140
    ) ** 2 < 1
    hu = np.where(lung, -850.0 + site.lung_shift_hu, np.where(body, 40.0, -1000.0))
    vessel = np.zeros_like(lung)
    return Anatomy(hu.astype(np.float32), lung, vessel, grid, site)
