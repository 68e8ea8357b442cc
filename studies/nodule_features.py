"""A volume of interest around a nodule in some thirty figures: inside, edge, surroundings, noise.

The same code measures real CT and the phantom, so that both carry the same faults.
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, optimize, special

from medlib.annotation.reference import reference_mask
from medlib.images.volume import sphere_diameter_mm

RING_PX = (2, 5)  # outside the union, in plane
GREY_STEP_HU = 50.0  # of the co-occurrence matrix
LUNG_BELOW_HU = -760.0  # after smoothing: lung without visible vessels
IN_PLANE = ndimage.generate_binary_structure(2, 1)[None]

Hu = NDArray[np.float32]
Mask = NDArray[np.bool_]
Spacing = tuple[float, float, float]

with Path(__file__).with_name("nodule_features.csv").open(encoding="utf-8", newline="") as handle:
    # name: (group, what, unit); the order of the table in the book
    FEATURES = {name: (group, what, unit) for name, group, what, unit in [*csv.reader(handle)][1:]}
# Set by the choice of nodules and of scanners; not looks.
NOT_CLASSIFIED = ("pixel_mm", "slice_mm", "diameter_mm")


def measure(hu: Hu, readers: NDArray[np.uint8], spacing_mm: Spacing) -> dict[str, float]:
    """Measure one volume of interest: HU and the readers' bit field, both of shape (z, y, x).

    Returns
    -------
    dict
        The keys of `FEATURES`; NaN where a figure needs more voxels than there are.
    """
    inside, union = reference_mask(readers), readers > 0
    outside_px = distance_px(union)
    found = dict.fromkeys(FEATURES, float("nan"))
    found["slice_mm"], found["pixel_mm"] = spacing_mm[0], spacing_mm[1]
    found["diameter_mm"] = sphere_diameter_mm(float(inside.sum() * np.prod(spacing_mm)))
    found |= _nodule(hu, inside)
    found |= _edge(hu, inside, union, spacing_mm)
    found |= _surroundings(hu, outside_px, spacing_mm)
    # Where the smoothed lung is dark: the finest vessels are part of the noise.
    found |= noise_in(hu, quiet_lung(hu, outside_px > 3))
    return found


def distance_px(marked: Mask) -> NDArray[np.float64]:
    """Return the distance of each voxel from what is marked in its slice; infinite without any."""
    return np.stack(
        [
            ndimage.distance_transform_edt(~plane) if plane.any() else np.full(plane.shape, np.inf)
            for plane in marked
        ]
    )


def _nodule(hu: Hu, inside: Mask) -> dict[str, float]:
    values = hu[inside]
    if values.size < 4:
        return {}
    found: dict[str, float | np.floating] = {
        "inside_mean": values.mean(),
        "inside_sd": values.std(),
        "inside_p10": np.percentile(values, 10),
        "inside_p90": np.percentile(values, 90),
    }
    core = ndimage.binary_erosion(inside, np.ones((1, 3, 3)))
    if core.sum() >= 5:
        found |= {"core_mean": hu[core].mean(), "core_sd": hu[core].std()}
    pairs = np.concatenate([
        np.stack([hu[a][inside[a] & inside[b]], hu[b][inside[a] & inside[b]]])
        for a, b in (_shifted(0, 0, 1), _shifted(0, 1, 0))
    ], axis=1)  # fmt: skip
    if pairs.shape[1] >= 10:
        grey = np.clip(np.floor((pairs + 1024) / GREY_STEP_HU), 0, 40).astype(int)
        joint = np.bincount(grey[0] * 41 + grey[1], minlength=41 * 41) / grey.shape[1]
        joint = joint[joint > 0]
        found |= {
            "inside_step": np.abs(pairs[0] - pairs[1]).mean(),
            "glcm_homogeneity": (1 / (1 + np.abs(grey[0] - grey[1]))).mean(),
            "glcm_entropy": -(joint * np.log2(joint)).sum(),
        }
    return {name: float(value) for name, value in found.items()}


def _shifted(dz: int, dy: int, dx: int) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Index of every voxel that has a neighbour at this distance, and of that neighbour."""
    steps = (dz, dy, dx)
    return tuple(slice(None, -d or None) for d in steps), tuple(slice(d, None) for d in steps)


def _edge(hu: Hu, inside: Mask, union: Mask, spacing_mm: Spacing) -> dict[str, float]:
    """Fit an error function to the mean profile across the border, in plane, in the lung.

    Slices in which the nodule's section is at least 3 pixels thick; voxels outside every outline
    count only where they are lung, so that a wall or a vessel does not bend the profile.
    """
    pixel = spacing_mm[1]
    depth, value = [], []
    for plane, marked, drawn in zip(hu, inside, union, strict=True):
        if not marked.any():
            continue
        inner = ndimage.distance_transform_edt(marked)
        if inner.max() < 1.8:
            continue
        outer = ndimage.distance_transform_edt(~marked)
        signed = np.where(marked, 0.5 - inner, outer - 0.5) * pixel
        blurred = ndimage.gaussian_filter(plane, 1.0)
        near = (np.abs(signed) < 4.0) & (marked | drawn | (signed < 1.5) | (blurred < -650))
        depth.append(signed[near])
        value.append(plane[near])
    if not depth:
        return {}
    at, level = np.concatenate(depth), np.concatenate(value)
    if at.size < 60:
        return {}

    lung_hu = float(np.median(level[at > 1.5]) if (at > 1.5).any() else -850.0)
    start = (float(level[at < 0].mean()), lung_hu, 0.0, 0.8)
    bounds = ([-1000, -1100, -2.5, 0.15], [2500, 0, 2.5, 4.0])
    try:
        (high, low, middle, sigma), _ = optimize.curve_fit(
            _step, at, level, start, bounds=bounds, max_nfev=200
        )
    except RuntimeError:
        return {}
    if high - low < 150:
        return {}
    band = np.abs(at - middle) < 1.0
    left = level[band] - _step(at[band], high, low, middle, sigma)
    return {
        "edge_width": float(2.563 * sigma),
        "edge_offset": float(middle),
        "edge_contrast": float(high - low),
        "edge_roughness": float(left.std() / (high - low)),
    }


def _step(
    at_mm: NDArray[np.float64], high: float, low: float, middle: float, sigma: float
) -> NDArray[np.float64]:
    share = 0.5 * special.erfc((at_mm - middle) / (np.sqrt(2) * sigma))
    return np.asarray(low + (high - low) * share)


def _surroundings(hu: Hu, outside_px: NDArray[np.float64], spacing_mm: Spacing) -> dict[str, float]:
    found: dict[str, float | np.floating] = {}
    ring = hu[(outside_px >= RING_PX[0]) & (outside_px <= RING_PX[1])]
    if ring.size >= 20:
        lung = ring[ring < -500]
        found |= {
            "ring_median": np.median(ring),
            "ring_p90": np.percentile(ring, 90),
            "ring_lung_share": lung.size / ring.size,
        }
        if lung.size >= 20:
            found["ring_sd"] = lung.std()
    away = outside_px > RING_PX[1]
    values = hu[away]
    lung = values[values < -500]
    found |= {
        "around_share_grey": np.mean((values >= -750) & (values < -500)),
        "around_share_vessel": np.mean((values >= -500) & (values < -200)),
        "around_share_tissue": np.mean(values >= -200),
        "around_share_dark": np.mean(values < -930),
    }
    if lung.size >= 100:
        found["around_lung_median"] = np.median(lung)
        found["around_p95_lung"] = np.percentile(lung, 95)
    tissue = ndimage.gaussian_filter(hu, (0, 1, 1)) > -150
    tissue = ndimage.binary_erosion(tissue, IN_PLANE, iterations=3) & away
    if tissue.sum() >= 100:
        found["tissue_sd"] = hu[tissue].std()
    # Differences of Gaussians: what changes over about 1 and 3 mm, where the neighbourhood is lung.
    pixel = spacing_mm[1]
    levels = [ndimage.gaussian_filter(hu, (0, s / pixel, s / pixel)) for s in (0.7, 1.4, 2.8, 5.6)]
    in_lung = away & (levels[2] < -650)
    if in_lung.sum() >= 200:
        found["structure_1mm"] = (levels[0] - levels[1])[in_lung].std()
        found["structure_3mm"] = (levels[1] - levels[2])[in_lung].std()
    return {name: float(value) for name, value in found.items()}


def quiet_lung(hu: Hu, away: Mask) -> Mask:
    """Return the dark lung away from the nodule, without its rim of two pixels."""
    quiet = away & (ndimage.gaussian_filter(hu, (0, 1.5, 1.5)) < LUNG_BELOW_HU)
    eroded: Mask = ndimage.binary_erosion(quiet, IN_PLANE, iterations=2)
    return eroded


def noise_in(hu: Hu, quiet: Mask) -> dict[str, float]:
    """Measure the noise of quiet lung; empty where there is too little of it."""
    if quiet.sum() < 400:
        return {}
    noise = hu - ndimage.gaussian_filter(hu, (0, 4, 4))
    values = noise[quiet]
    found = {
        "noise_sd": float(values.std()),
        "noise_skewness": float(((values - values.mean()) ** 3).mean() / values.std() ** 3),
    }
    for name, step in (("x1", (0, 0, 1)), ("y1", (0, 1, 0)), ("x2", (0, 0, 2)), ("z1", (1, 0, 0))):
        a, b = _shifted(*step)
        both = quiet[a] & quiet[b]
        if both.sum() >= 200:
            found[f"noise_{name}"] = float(np.corrcoef(noise[a][both], noise[b][both])[0, 1])
    return found
