"""Lesions of real readers drawn into a phantom patient."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medlib.phantom.anatomy import Anatomy
from medlib.phantom.placement import crop_of

# Density before blur and noise, mean and standard deviation between nodules, and standard
# deviation of the structure within one, by texture rating 1 (non-solid) to 5 (solid).
_DENSITY_BY_TEXTURE = {
    1: (-440.0, 130.0, 110.0),
    2: (-395.0, 110.0, 120.0),
    3: (-290.0, 70.0, 190.0),
    4: (-100.0, 170.0, 190.0),
    5: (15.0, 80.0, 110.0),
}
_CALCIFIED_MEAN_HU, _CALCIFIED_SD_HU = 1400.0, 500.0
_CALCIFIED_BELOW = 5.5
_SOLID_FROM_TEXTURE = 4
_STRUCTURE_MM = 1.3
_BLUR_MM_PER_MARGIN_STEP = 0.2  # a margin rated 1 of 5 is 0.8 mm softer than a sharp one


@dataclass(frozen=True)
class PhantomLesion:
    """One lesion on a crop of a patient's grid, with its readers' median ratings."""

    occupancy: NDArray[np.float32]  # (z, y, x): the share of each voxel that it fills, 0..1
    offset_zyx: tuple[int, ...]  # index of the crop's first voxel in the patient's grid
    texture: float  # 1 (non-solid) to 5 (solid)
    calcification: float  # 1 (popcorn) to 6 (absent)
    margin: float  # 1 (poorly defined) to 5 (sharp)


def lesion_hu(texture: float, rng: np.random.Generator) -> tuple[float, float]:
    """Draw the mean density of a lesion and the standard deviation of its inner structure in HU.

    Before blur and noise, which bring small lesions to the measured figures. Half ratings are
    rounded up.
    """
    mean, between, within = _DENSITY_BY_TEXTURE[int(np.clip(np.floor(texture + 0.5), 1, 5))]
    return float(rng.normal(mean, between)), within


def insert_lesions(anatomy: Anatomy, lesions: Iterable[PhantomLesion], seed: int) -> Anatomy:
    """Return a patient with lesions in `hu`, before blur and noise; the masks are as before.

    The order of the lesions matters for the random draws. Raises ValueError if a crop does not lie
    inside the grid.
    """
    hu, spacing = anatomy.hu.copy(), np.array(anatomy.grid.spacing_mm)
    for number, lesion in enumerate(lesions):
        rng = np.random.default_rng([seed, number])
        offset, size = np.array(lesion.offset_zyx), np.array(lesion.occupancy.shape)
        if (offset < 0).any() or (offset + size > hu.shape).any():
            raise ValueError(f"crop {size} at {offset} does not lie inside the grid {hu.shape}")
        sigma_px = _BLUR_MM_PER_MARGIN_STEP * (5.0 - lesion.margin) / spacing
        room = np.ceil(3 * sigma_px).astype(int)
        low, high = np.maximum(offset - room, 0), np.minimum(offset + size + room, hu.shape)
        share = np.zeros(high - low, dtype=np.float32)
        share[crop_of(offset - low, size)] = lesion.occupancy
        share = ndimage.gaussian_filter(share, sigma_px)

        mean, structure_sd = lesion_hu(lesion.texture, rng)
        structure = ndimage.gaussian_filter(
            rng.standard_normal(share.shape), _STRUCTURE_MM / spacing, mode="wrap"
        )
        inside = mean + structure_sd * structure / max(float(structure.std()), 1e-6)
        background = hu[crop_of(low, high - low)]
        if lesion.texture < _SOLID_FROM_TEXTURE:
            inside = np.maximum(inside, background)  # vessels show through ground glass
        blended = background + share * (inside - background)
        if lesion.calcification < _CALCIFIED_BELOW:
            depth = ndimage.distance_transform_edt(share > 0.5, sampling=spacing)
            core = np.clip(2.2 * depth / max(float(depth.max()), 1e-6) - 0.4, 0.0, 1.0)
            calcified = max(rng.normal(_CALCIFIED_MEAN_HU, _CALCIFIED_SD_HU), 250.0)
            blended += core * (calcified - blended)
        background[...] = blended
    return replace(anatomy, hu=hu)
