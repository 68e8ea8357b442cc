"""How much a voxel looks like the inside of a bright dot, and not of a tube."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.measure import block_reduce

from medlib.baseline.grid import Spacing

HU_RANGE = (-1000, 100)  # so that bone and calcium do not outshine soft tissue
SIGMAS_MM = (1.2, 1.8, 2.7, 4.0)  # a blob of radius r answers most at about r / sqrt(3)
TRUNCATE = 4.0  # a filter reaches so many sigma


def dot_enhancement(
    hu: NDArray[np.float32], spacing_mm: Spacing, where: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """Return how much each voxel looks like the inside of a bright dot, at its best size.

    With the eigenvalues of the Hessian sorted by size, ``|l1| >= |l2| >= |l3|``, a bright dot has
    three large negative ones and a bright tube two. The answer is ``l3**2 / |l1|`` where all three
    are negative, else 0, with derivatives multiplied by ``sigma**2`` so that sizes compare (Li,
    Sone and Doi, Medical Physics 30:2040-2051, 2003). Voxels finer than the smallest size are
    averaged, up to that size: all in one block get the same answer. Only the voxels `where` are
    looked at; the others are 0. The answer is in HU.
    """
    out = np.zeros(hu.shape, dtype=np.float32)
    if not where.any():
        return out
    blocks = [max(int(SIGMAS_MM[0] / step + 1e-6), 1) for step in spacing_mm]
    coarse_mm = [step * n for step, n in zip(spacing_mm, blocks, strict=True)]
    room = [int(np.ceil(TRUNCATE * SIGMAS_MM[-1] / step)) for step in coarse_mm]
    box = tuple(
        slice(max(side.start // n - more, 0) * n, side.stop + more * n)
        for side, n, more in zip(
            ndimage.find_objects(where.astype(np.uint8))[0], blocks, room, strict=True
        )
    )
    part, looked_at = (
        _averaged(np.clip(hu[box], *HU_RANGE), blocks),
        _averaged(where[box], blocks) > 0,
    )
    with ThreadPoolExecutor(2) as pool:  # the filters let go of the interpreter
        sizes = pool.map(lambda s: _dots_of_size(part, coarse_mm, looked_at, s), SIGMAS_MM)
        dots = np.zeros(part.shape, dtype=np.float32)
        dots[looked_at] = np.max(list(sizes), axis=0)
    held_by = np.ix_(*(np.arange(size) // n for size, n in zip(hu[box].shape, blocks, strict=True)))
    out[box] = np.where(where[box], dots[held_by], 0)
    return out


def _averaged(values: NDArray[np.generic], blocks: list[int]) -> NDArray[np.float32]:
    """Average in blocks; the last ones are filled with the values at the edge."""
    missing = [(0, -size % n) for size, n in zip(values.shape, blocks, strict=True)]
    whole = np.pad(values.astype(np.float32), missing, mode="edge")
    averaged = block_reduce(whole, tuple(blocks), np.mean)  # type: ignore[no-untyped-call]
    return np.asarray(averaged, dtype=np.float32)


def _dots_of_size(
    hu: NDArray[np.float32],
    spacing_mm: Sequence[float],
    where: NDArray[np.bool_],
    sigma_mm: float,
) -> NDArray[np.float32]:
    """Return the dot enhancement at one size, of the voxels to look at."""
    sigma_px = [sigma_mm / step for step in spacing_mm]
    hessian = np.empty((int(where.sum()), 3, 3), dtype=np.float32)
    for i in range(3):
        for j in range(i, 3):
            order = [int(axis == i) + int(axis == j) for axis in range(3)]
            # In voxel units a derivative times sigma_px is the one in mm times sigma_mm.
            derivative = ndimage.gaussian_filter(
                hu, sigma_px, order=order, mode="nearest", truncate=TRUNCATE
            )
            hessian[:, i, j] = hessian[:, j, i] = derivative[where] * sigma_px[i] * sigma_px[j]
    low_to_high = np.linalg.eigvalsh(hessian)
    l1, l3 = low_to_high[:, 0], low_to_high[:, 2]
    dots: NDArray[np.float32] = np.where(l3 < 0, l3**2 / np.maximum(-l1, 1e-6), 0)
    return dots
