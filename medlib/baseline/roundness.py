"""How round a candidate is: where a nodule ends, a vessel goes on.

A network that sees a few slices cannot tell a nodule from a vessel that crosses them all. The
curvature of the image in three dimensions can: inside a round thing it falls off along every axis,
inside a tube along two, on a wall along one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from medlib.baseline.blob_filter import HU_RANGE
from medlib.images.volume import Volume

SIGMAS_MM = (1.2, 1.8, 2.7, 4.0, 6.0)
REACH = 4.0  # a derivative is taken over so many sigma on either side
LUNG_HU = -850.0  # aerated


def roundness(
    volume: Volume, center_zyx: Sequence[float], *, ends_with_the_nodule: bool = False
) -> float:
    """Return the least curvature over the greatest at a place, at its best size.

    With the eigenvalues of the Hessian sorted by size, ``|l1| >= |l2| >= |l3|``, it is ``l3 / l1``
    where all three are negative, else 0: near 1 in a ball, near 0 in a tube or on a wall, whatever
    the contrast. Eigenvalues as in Li, Sone and Doi, Medical Physics 30:2040-2051, 2003.

    Beyond its edge an image is taken to go on as it ends; where its first and last slice are those
    of a nodule (`ends_with_the_nodule`), with aerated lung above and below.
    """
    if ends_with_the_nodule:
        room = [int(np.ceil(REACH * SIGMAS_MM[-1] / volume.spacing_mm[0])), 0, 0]
        padded = np.pad(volume.hu, [(n, n) for n in room], constant_values=LUNG_HU)
        volume = replace(volume, hu=padded)
        center_zyx = [c + n for c, n in zip(center_zyx, room, strict=True)]
    return max(_roundness(volume, center_zyx, sigma_mm) for sigma_mm in SIGMAS_MM)


def _roundness(volume: Volume, center_zyx: Sequence[float], sigma_mm: float) -> float:
    indices, kernels = [], []
    for center, step, size in zip(center_zyx, volume.spacing_mm, volume.hu.shape, strict=True):
        reach = int(np.ceil(REACH * sigma_mm / step))
        index = np.arange(round(center) - reach, round(center) + reach + 1)
        kernels.append(_derivatives(np.asarray((center - index) * step / sigma_mm)))
        indices.append(np.clip(index, 0, size - 1))  # beyond its edge an image goes on unchanged
    around = np.clip(volume.hu[np.ix_(*indices)], *HU_RANGE).astype(np.float64)
    hessian = np.empty((3, 3))
    for i in range(3):
        for j in range(i, 3):
            order = [int(axis == i) + int(axis == j) for axis in range(3)]
            z, y, x = (kernel[k] for kernel, k in zip(kernels, order, strict=True))
            hessian[i, j] = hessian[j, i] = z @ (around @ x) @ y
    l1, _, l3 = np.linalg.eigvalsh(hessian)
    return float(l3 / l1) if l3 < 0 else 0.0


def _derivatives(t: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return a Gaussian and its first two derivatives at `t`, in units of sigma.

    On coarse samples they would answer to what is flat or steep alone: that is taken out.
    """
    g = np.exp(-(t**2) / 2)
    g /= g.sum()
    first = t * g
    first -= g * first.sum()
    second = (t**2 - 1) * g
    second -= g * second.sum()
    return np.stack([g, first, second])
