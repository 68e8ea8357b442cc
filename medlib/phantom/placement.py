"""A real nodule on a phantom patient's grid: resampled in mm, put where it fits in the lung."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage
from skimage.measure import block_reduce

from medlib.images.volume import sphere_diameter_mm
from medlib.phantom.anatomy import Anatomy

SUB_SLICE_MM = 0.8  # slices are sampled at least this finely to find partial volume
SUB_PIXELS = 2  # samples along a pixel's side
SURFACE_INSIDE_MM = 0.2  # how far inside the readers' line the tissue ends on average
SURFACE_SD_MM = 0.45  # how far the tissue's surface lies off the readers' line
SURFACE_MM = 1.2  # over which the surface wanders
CLEARANCE_VOXELS = 2  # between the outlines of two lesions
CANDIDATES = 200  # places tried for each lesion

Setting = Literal["free", "juxta-vascular", "juxta-pleural"]
# All in the lung, touching a vessel, reaching into the pleura.
SETTINGS: tuple[Setting, ...] = ("free", "juxta-vascular", "juxta-pleural")
SETTING_SHARES = (0.55, 0.25, 0.20)

Index = tuple[int, ...]
Spacing = tuple[float, float, float]


class ResampledNodule(NamedTuple):
    """A nodule on another grid."""

    masks: NDArray[np.bool_]  # (reader, z, y, x): each with its reader's volume
    # (z, y, x): share of each voxel in the outline of two readers at least, of the one if alone.
    occupancy: NDArray[np.float32]


def signed_distance_mm(mask: NDArray[np.bool_], spacing_mm: Spacing) -> NDArray[np.float64]:
    """Return the distance to the nearest voxel of the other kind: positive inside the mask."""
    inside = ndimage.distance_transform_edt(mask, sampling=spacing_mm)
    outside = ndimage.distance_transform_edt(~mask, sampling=spacing_mm)
    return np.asarray(inside - outside, dtype=np.float64)


def resample_nodule(
    masks: NDArray[np.bool_],
    spacing_mm: Spacing,
    target_spacing_mm: Spacing,
    shift_voxels: ArrayLike = (0.0, 0.0, 0.0),
    rng: np.random.Generator | None = None,
) -> ResampledNodule:
    """Carry readers' masks, shape (reader, z, y, x), to another grid, true to size.

    Shape-based interpolation (Raya and Udupa, IEEE Trans Med Imaging 9:32-42, 1990): the signed
    distance of each mask is interpolated linearly, and the level that bounds the new shape is set
    so that the volume stays what the reader drew. Without that step the flat outline stacks of
    thick slices would shrink.

    The shift, in target voxels, is that of the nodule against the target grid, -0.5 to 0.5. With a
    generator the tissue ends `SURFACE_INSIDE_MM` inside the readers' line on average, and its
    surface wanders by `SURFACE_SD_MM` over `SURFACE_MM`; without, it is that line. The crop leaves
    at least one voxel around the nodule. Raises ValueError if a mask is empty.
    """
    if not masks.any(axis=(1, 2, 3)).all():
        raise ValueError("a reader's mask is empty; expected at least one voxel from each")
    spacing, target = np.array(spacing_mm), np.array(target_spacing_mm)
    rim = np.ceil(3 * target / spacing).astype(int) + 1
    padded = np.pad(masks, [(0, 0), *((n, n) for n in rim)])
    shape = np.ceil(np.array(masks.shape[1:]) * spacing / target).astype(int) + 4
    parts = np.array([max(1, int(np.ceil(target[0] / SUB_SLICE_MM))), SUB_PIXELS, SUB_PIXELS])
    step = target / parts / spacing  # of the samples, in source voxels
    middle_source = (np.array(padded.shape[1:]) - 1) / 2
    middle_target = (shape * parts - 1) / 2 + np.asarray(shift_voxels) * parts

    level_sets, resampled = [], []
    for mask in padded:
        distance = ndimage.affine_transform(
            signed_distance_mm(mask, spacing_mm),
            step,
            offset=middle_source - step * middle_target,
            output_shape=tuple(shape * parts),
            order=1,
            mode="nearest",
        )
        volume_mm3 = mask.sum() * np.prod(spacing)
        samples = max(1, round(volume_mm3 / np.prod(target / parts)))
        level_sets.append(distance - np.partition(distance, -samples, axis=None)[-samples])
        fill = _block_mean(np.clip(level_sets[-1] / min(target), -1.0, 1.0), parts)
        voxels = max(1, round(volume_mm3 / np.prod(target)))
        chosen = np.zeros(fill.shape, dtype=bool)
        chosen.flat[np.argsort(fill, axis=None, kind="stable")[-voxels:]] = True
        resampled.append(chosen)
    agreed = np.sort(np.stack(level_sets), axis=0)[-min(2, len(level_sets))]
    if rng is not None:
        wander = ndimage.gaussian_filter(
            rng.standard_normal(agreed.shape), SURFACE_MM / (target / parts), mode="wrap"
        )
        wander *= SURFACE_SD_MM / max(float(wander.std()), 1e-9)
        # A thin place stays: the surface gives way by half the depth at most.
        agreed = agreed + np.maximum(wander - SURFACE_INSIDE_MM, -0.5 * max(agreed.max(), 0.0))
    occupancy = _block_mean(agreed >= 0, parts).astype(np.float32)
    return ResampledNodule(np.stack(resampled), occupancy)


def _block_mean(samples: NDArray[np.generic], parts: NDArray[np.int64]) -> NDArray[np.float64]:
    mean = block_reduce(samples, tuple(parts), np.mean)  # type: ignore[no-untyped-call]
    return np.asarray(mean, dtype=np.float64)


def place(
    nodule: ResampledNodule,
    anatomy: Anatomy,
    depth_mm: NDArray[np.float32],
    taken: NDArray[np.bool_],
    setting: Setting,
    rng: np.random.Generator,
) -> Index:
    """Find a place for a nodule in the lung: the index (z, y, x) of its crop's first voxel.

    `CANDIDATES` places of suitable depth (`Anatomy.pleural_depth_mm`) are tried, then as many
    anywhere in the lung, none where other lesions have `taken` the voxels; where none is as asked
    for, the one with most of the nodule in the lung is taken. Raises ValueError if it fits nowhere.
    """
    shape, weight = nodule.occupancy.shape, float(nodule.occupancy.sum())
    voxel_mm3 = float(np.prod(anatomy.grid.spacing_mm))
    radius_mm = sphere_diameter_mm(weight * voxel_mm3) / 2
    low, high = (0.4, 1.0) if setting == "juxta-pleural" else (1.0, np.inf)
    low_mm = min(low * radius_mm, 0.8 * float(depth_mm.max()))
    suited = (depth_mm > low_mm) & (depth_mm < max(high * radius_mm, low_mm + 2))
    tried = [
        rng.choice(centres, min(CANDIDATES, centres.size), replace=False)
        for centres in (np.flatnonzero(suited), np.flatnonzero(anatomy.lung))
    ]
    limit = np.array(anatomy.lung.shape) - shape - CLEARANCE_VOXELS
    possible: list[tuple[float, Index]] = []
    for centre in np.concatenate(tried):
        offset = np.array(np.unravel_index(centre, anatomy.lung.shape)) - np.array(shape) // 2
        if (offset < CLEARANCE_VOXELS).any() or (offset > limit).any():
            continue
        if taken[crop_of(offset - CLEARANCE_VOXELS, np.array(shape) + 2 * CLEARANCE_VOXELS)].any():
            continue
        crop = crop_of(offset, shape)
        in_lung, in_vessel = (
            float(nodule.occupancy[mask[crop]].sum()) / weight
            for mask in (anatomy.lung, anatomy.vessel)
        )
        start = tuple(offset.tolist())
        if _fits(setting, in_lung, in_vessel):
            return start
        possible.append((in_lung, start))
    if not possible:
        raise ValueError(f"a nodule of {2 * radius_mm:.0f} mm fits nowhere in this lung")
    return max(possible, key=lambda place: place[0])[1]


def _fits(setting: Setting, in_lung: float, in_vessel: float) -> bool:
    if setting == "juxta-pleural":
        return 0.75 <= in_lung <= 0.97
    if setting == "juxta-vascular":
        return in_lung > 0.98 and 0.02 < in_vessel < 0.25
    return in_lung > 0.98 and in_vessel < 0.02


def crop_of(start: Iterable[int], shape: Iterable[int]) -> tuple[slice, ...]:
    """Return the slices of a block with its first voxel at `start`."""
    return tuple(slice(a, a + n) for a, n in zip(start, shape, strict=True))
