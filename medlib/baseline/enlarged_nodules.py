"""Nodules enlarged to masses, set into lungs that are seen from afar.

A mass wider than every window is searched for on a coarse grid. Masses with an outline and a
licence to train on them are rare, and a network that has learned one of them may miss the next. So
nodules of train patients, enlarged, stand in for masses. They keep their shape, and get back two
things that enlarging takes: an edge as sharp as before, and the noise of a scan.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import cc3d
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medlib.baseline.grafts import Graft, insert, overlap, take, vary
from medlib.baseline.grid import Spacing
from medlib.baseline.training_volume import DENSE_HU, TrainingVolume

# Nodules of 10 to 20 mm, enlarged 3 to 5 times, are masses of 30 to 100 mm: smaller nodules have
# too few voxels for it, larger masses leave no edge in a crop.
NODULES_MM = (10.0, 20.0)
ENLARGED = 4.0
VARIED = (0.75, 1.25)  # times that, at random
SOFT_HU = (-200.0, 150.0)  # median inside: neither ground glass nor calcium
EDGE_HU = -400.0  # half-way between lung and soft tissue
NOISE_HU = (3.0, 25.0)  # standard deviation in a coarse voxel, drawn for each mass
LEAST_SHOWN = 0.5  # of a mass: so much of it takes the place of aerated lung
RIM_VOXELS = 2  # around a mass, over which it goes over into the lung
TRIES = 20


def enlarged(
    hu: NDArray[np.float32],
    nodule: NDArray[np.bool_],
    spacing_mm: Spacing,
    far_spacing_mm: Spacing,
) -> Graft | None:
    """Make a mass of a nodule, `ENLARGED` times as wide; None if it is not of soft tissue.

    `hu` is the nodule in its surroundings, `nodule` its reference mask, both (z, y, x); `far` are
    the lungs that the mass is to be set into.
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

    The volume is on the grid that the mass was made for. Its lung leaves out what is not known
    there, as what lies in a box. In the copy the only lesion to be drawn is the mass; None if no
    place was found where enough of it shows.
    """
    shape = volume.hu.shape
    lung = np.zeros(shape, dtype=bool)
    lung.flat[volume.lung] = True
    for _ in range(TRIES if len(volume.aerated) else 0):
        centre = np.unravel_index(volume.aerated[rng.integers(len(volume.aerated))], shape)
        corner = np.subtract(centre, np.array(mass.mask.shape) // 2)
        here, part = overlap(corner, mass.mask.shape, shape)
        low = np.array([side.start for side in here])
        own = cc3d.largest_k(mass.mask[part] & lung[here], k=1, connectivity=26) > 0
        if (own & (volume.hu[here] <= DENSE_HU)).sum() < LEAST_SHOWN * mass.mask.sum():
            continue
        rim = ndimage.binary_dilation(own, iterations=RIM_VOXELS) & ~mass.mask[part]
        share = mass.share[part] * (lung[here] & (own | rim))
        noise_hu = rng.normal(0, rng.uniform(*NOISE_HU), own.shape).astype(np.float32)
        hu, target = volume.hu.copy(), volume.target.copy()
        insert(Graft(mass.hu[part] + noise_hu, share, own), hu, target, low)
        return replace(volume, hu=hu, target=target, lesions=(np.argwhere(own) + low,))
    return None


def with_masses(
    volumes: Sequence[TrainingVolume], masses: Sequence[Graft], n: int, rng: np.random.Generator
) -> list[TrainingVolume]:
    """Return the volumes as they are, and up to `n` copies with a mass each.

    Volumes come in turn, masses (at least one) in turn of a new order each time; places, sizes and
    sides by chance. A mass that finds no place is left out.
    """
    made = list(volumes)
    rounds = -(-n // len(masses))
    order = np.concatenate([rng.permutation(len(masses)) for _ in range(rounds)])
    for k, which in enumerate(order[:n]):
        mass = vary(masses[which], rng, VARIED)
        if found := set_into(volumes[k % len(volumes)], mass, rng):
            made.append(found)
    return made
