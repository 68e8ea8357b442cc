"""Nodules enlarged to masses, set into lungs that are seen from afar.

A mass wider than every window is searched for on a coarse grid. Masses with an outline and a
licence to train on them are rare, and a network that has learned one of them may miss the next.
From afar a mass is what a nodule is near by; so nodules of train patients, enlarged, stand in for
masses. They keep their shape and get back the edge of a real one, which does not widen with size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import cc3d
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medlib.baseline.grid import Spacing
from medlib.baseline.slices import DENSE_HU, LESION, TrainingVolume
from medlib.baseline.transplant import Graft, take, vary

ENLARGED = 4.0
NODULES_MM = (10.0, 25.0)  # of these diameters; smaller ones have too few voxels to be enlarged
SOFT_HU = (-200.0, 150.0)  # median inside: neither ground glass nor calcium
EDGE_HU = -400.0  # half-way between lung and soft tissue
LEAST_SHOWN = 0.5  # of a mass: so much of it takes the place of aerated lung
RIM_VOXELS = 2  # around a mass, over which it goes over into the lung
TRIES = 20


def enlarged(
    hu: NDArray[np.float32],
    nodule: NDArray[np.bool_],
    spacing_mm: Spacing,
    far_spacing_mm: Spacing,
) -> Graft | None:
    """Make a mass of a nodule.

    Parameters
    ----------
    hu, nodule : ndarray, shape (z, y, x)
        The nodule in its surroundings, and its reference mask.
    spacing_mm : tuple of float
        Their voxels, along z, y and x.
    far_spacing_mm : tuple of float
        The voxels of the lungs that the mass is to be set into.

    Returns
    -------
    Graft or None
        `ENLARGED` times as wide; None if the nodule is not of soft tissue.
    """
    inside_hu = float(np.median(hu[nodule])) if nodule.any() else np.nan
    if not SOFT_HU[0] < inside_hu < SOFT_HU[1]:
        return None
    zoom = [ENLARGED * near / far for near, far in zip(spacing_mm, far_spacing_mm, strict=True)]
    large, share = (
        ndimage.zoom(values.astype(np.float32), zoom, order=1, mode="nearest", grid_mode=True)
        for values in (hu, nodule)
    )
    steep = np.clip(EDGE_HU + ENLARGED * (large - EDGE_HU), -1000, np.maximum(large, inside_hu))
    mass = np.argwhere(share >= 0.5)
    return take(np.rint(steep).astype(np.int16), mass) if len(mass) else None


def set_into(
    volume: TrainingVolume, mass: Graft, rng: np.random.Generator
) -> TrainingVolume | None:
    """Set a mass somewhere into the lungs; what would reach beyond them is cut off.

    Returns
    -------
    TrainingVolume or None
        A copy with one lesion more; None if no place was found where enough of the mass shows.
    """
    shape = volume.hu.shape
    lung = np.zeros(shape, dtype=bool)
    lung.flat[volume.lung] = True
    for _ in range(TRIES if len(volume.aerated) else 0):
        centre = np.unravel_index(volume.aerated[rng.integers(len(volume.aerated))], shape)
        corner = np.subtract(centre, np.array(mass.mask.shape) // 2)
        low, high = np.maximum(corner, 0), np.minimum(corner + mass.mask.shape, shape)
        here = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        part = tuple(slice(a, b) for a, b in zip(low - corner, high - corner, strict=True))
        own = cc3d.largest_k(mass.mask[part] & lung[here], k=1, connectivity=26) > 0
        if (own & (volume.hu[here] <= DENSE_HU)).sum() < LEAST_SHOWN * mass.mask.sum():
            continue
        hu, target = volume.hu.copy(), volume.target.copy()
        shown = lung[here] & ndimage.binary_dilation(own, iterations=RIM_VOXELS)
        there, share = hu[here], mass.share[part] * shown
        blended = there + share * (mass.hu[part] - there)
        hu[here] = np.rint(np.maximum(there, blended)).astype(np.int16)
        target[here][own] = LESION
        voxels = np.argwhere(own) + low
        return replace(volume, hu=hu, target=target, lesions=(*volume.lesions, voxels))
    return None


def with_masses(
    volumes: Sequence[TrainingVolume], masses: Sequence[Graft], n: int, seed: int
) -> list[TrainingVolume]:
    """Return `n` volumes, each with a mass; volumes and masses in turn, places and sizes by chance.

    Where a mass finds no place the volume comes as it is.
    """
    rng = np.random.default_rng(seed)
    if not volumes or not masses:
        return list(volumes)
    order = rng.permutation(n)
    made = []
    for k in range(n):
        volume = volumes[k % len(volumes)]
        mass = vary(masses[int(order[k]) % len(masses)], rng)
        made.append(set_into(volume, mass, rng) or volume)
    return made
