"""Lesions of train patients, set again elsewhere in the lungs of train patients.

A small cohort has few lesions, and a network that sees the same twenty of them learns those twenty
by heart. So most of the crops drawn for a lesion show a copy: turned, mirrored, smaller or larger,
at another place, in another patient (copy-paste augmentation, Ghiasi et al., CVPR 2021). A lesion
has no left or right, so it may be mirrored where a chest may not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medlib.baseline.grid import Box

MARGIN_PX = (1, 4, 4)  # lung copied with the lesion along z, y, x; it holds the blurred edge
SCALE = (0.6, 1.4)  # of a copy's diameter; below 1 is likelier, as most nodules are small
SHIFT_HU = 60.0  # largest change of a copy's density


@dataclass(frozen=True)
class Graft:
    """A lesion ready to be set into another volume, with a little lung around it."""

    hu: NDArray[np.float32]
    share: NDArray[np.float32]  # taken of each voxel: 1 inside, falling to 0 around it
    mask: NDArray[np.bool_]  # the reference mask


def take(hu: NDArray[np.int16], voxels: NDArray[np.intp]) -> Graft:
    """Cut a lesion, given by its voxels (n, 3), out of its volume."""
    low = np.maximum(voxels.min(axis=0) - MARGIN_PX, 0)
    high = np.minimum(voxels.max(axis=0) + 1 + MARGIN_PX, hu.shape)
    box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    mask = np.zeros(tuple(high - low), dtype=bool)
    mask[tuple((voxels - low).T)] = True
    wider = ndimage.binary_dilation(mask, structure=np.ones((1, 3, 3)))
    share = ndimage.gaussian_filter(wider.astype(np.float32), sigma=(0, 1, 1), mode="constant")
    return Graft(hu[box].astype(np.float32), share, mask)


def vary(graft: Graft, rng: np.random.Generator, scale: tuple[float, float] = SCALE) -> Graft:
    """Turn, mirror, scale and shift a graft at random, its diameter by a factor within `scale`."""
    factor = float(np.exp(rng.uniform(*np.log(scale))))
    mirrored = tuple(axis for axis in range(3) if rng.random() < 0.5)
    quarter_turns = int(rng.integers(4))
    shift_hu = float(rng.uniform(-SHIFT_HU, SHIFT_HU))

    def changed(values: NDArray[np.float32], outside: float) -> NDArray[np.float32]:
        turned = np.rot90(np.flip(values, mirrored), quarter_turns, axes=(1, 2))
        out: NDArray[np.float32] = ndimage.zoom(
            turned, factor, order=1, mode="grid-constant", cval=outside, grid_mode=True
        )
        return out

    mask = changed(graft.mask.astype(np.float32), 0) >= 0.5
    return Graft(changed(graft.hu, -1000) + shift_hu, changed(graft.share, 0), mask)


def overlap(
    corner: NDArray[np.intp], shape: tuple[int, ...], within: tuple[int, ...]
) -> tuple[Box, Box]:
    """Return where a block meets the grid it is set into, in the grid and in the block.

    Both are empty where they do not meet. `corner` is where the block's first voxel goes; it may
    lie outside.
    """
    low = np.maximum(corner, 0)
    high = np.maximum(np.minimum(corner + shape, within), low)
    z, y, x = (slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    dz, dy, dx = (slice(int(a), int(b)) for a, b in zip(low - corner, high - corner, strict=True))
    return (z, y, x), (dz, dy, dx)


def insert(
    graft: Graft, hu: NDArray[np.int16], target: NDArray[np.generic], corner: NDArray[np.intp]
) -> None:
    """Set a graft into a volume and its target, both changed in place, its first voxel at `corner`.

    What falls outside is left out. Only what is denser than the lung that was there is set: vessels
    run on through and beside it.
    """
    here, part = overlap(corner, graft.mask.shape, hu.shape)
    there, share = hu[here], graft.share[part]
    blended = there + share * (graft.hu[part] - there)
    hu[here] = np.rint(np.maximum(there, blended)).astype(np.int16)
    target[here][graft.mask[part]] = 1
