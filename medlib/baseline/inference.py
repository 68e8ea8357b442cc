"""From a CT volume to candidates on its own grid."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import nn

from medlib.baseline.candidates import (
    Prediction,
    find_candidates,
    mean_log_odds,
    probability_of,
    rescored,
)
from medlib.baseline.config import TrainConfig
from medlib.baseline.device import best_device
from medlib.baseline.grid import Box, Spacing, WorkingGrid
from medlib.baseline.network_passes import mean_view, slice_probability
from medlib.baseline.outline import ZOOMS, Outliner, outline, widest_mm, width_mm, zoomed
from medlib.baseline.roundness import roundness
from medlib.images.lungs import lung_field
from medlib.images.volume import Volume

__all__ = ["Prediction", "predict_volume"]

CONTEXT_PX = 16  # seen around the lung field
LEAST_ROUND = 0.05  # what is flatter counts as this round: it may be a nodule on a wall
# Up to the first diameter all of the roundness counts, from the second on none: a network sees by
# itself what is larger.
ROUND_MM = (10.0, 20.0)
SEEN_ENOUGH = 0.75  # of a mass: where more of it is drawn already, that sharper outline is kept


def near_lung(lung: NDArray[np.bool_], spacing_mm: Spacing, margin_mm: float) -> NDArray[np.bool_]:
    """Return the voxels within `margin_mm` of the lung field; all are far where there is none."""
    reach = [int(margin_mm / step) for step in spacing_mm]
    offsets = np.mgrid[tuple(slice(-n, n + 1) for n in reach)]
    ball = np.hypot.reduce([o * step for o, step in zip(offsets, spacing_mm, strict=True)])
    return np.asarray(ndimage.binary_dilation(lung, ball <= margin_mm))


class Searched(NamedTuple):
    """A candidate of the search: where it was drawn, and how sure the search is."""

    part: Box
    inside: NDArray[np.bool_]
    score: float


def predict_volume(
    network: nn.Module,
    config: TrainConfig,
    volume: Volume,
    device: torch.device | None = None,
    outliner: Outliner | None = None,
    *,
    is_window: bool = False,
) -> Prediction:
    """Find candidate lesions in a CT volume of any pixel size and slice spacing.

    The lung field is found first, and what lies outside it cannot be a candidate. With an outliner
    every candidate is then looked at closely. Masses too large for that, by the diameter of the
    sphere of equal volume, are searched for on a coarser grid. The score then is the probability
    half-way, in log-odds, between what the search says of a candidate and what the close look
    says (of a mass that was not looked at closely the search alone speaks), lowered where it is
    not round.

    Parameters
    ----------
    network : nn.Module
        Maps (batch, n_slices, y, x) in -1..1 to logits (batch, 1, y, x).
    config : TrainConfig
    volume : Volume
    device : torch.device, optional
        By default the best there is.
    outliner : Outliner, optional
    is_window : bool
        The volume was cut out of a scan around a nodule, with which it ends: a lesion may be
        anywhere in it, no lung field is looked for, and no mass.

    Returns
    -------
    Prediction
        On the volume's grid; without candidates where there is no lung.
    """
    device = device or best_device()
    grid = WorkingGrid.of(volume.hu.shape, volume.spacing_mm, config)
    hu = grid.from_source(volume.hu)
    if is_window:
        allowed = np.ones(grid.shape, dtype=bool)
        probability = mean_view(network, config, hu, np.ones(len(hu), bool), device, views=1)
    else:
        lung = lung_field(hu, grid.spacing_mm)
        allowed = near_lung(lung, grid.spacing_mm, config.lung_margin_mm)
        probability = _search(network, config, hu, allowed, device)
    if outliner is None:
        return find_candidates(grid.to_source(probability), volume.spacing_mm, config)
    drawn = np.zeros(volume.hu.shape, dtype=np.float32)
    largest_mm, level = widest_mm(outliner.config), outliner.config.candidate_level
    searched: list[Searched] = []
    found = find_candidates(probability, grid.spacing_mm, config)
    for (box, own), score in zip(found.regions(), found.candidates["score"], strict=True):
        if width_mm(own, grid.spacing_mm) > largest_mm:
            part, seen = _as_searched(grid, probability, box, own)
            seen = _raised(seen, config.candidate_level, level)
        else:
            around, index = grid.box_to_source(box)
            part, seen = outline(outliner, volume, around, own[index], device)
            seen = np.where(allowed[np.ix_(*grid.holders(part))], seen, 0)
        drawn[part] = np.maximum(drawn[part], seen)
        searched.append(Searched(part, seen >= level, score))
    if not is_window:
        masses = config.model_copy(update={"min_diameter_mm": largest_mm})
        searched += _draw_masses(network, masses, hu, allowed, grid, level, drawn, device)
    outlined = find_candidates(
        drawn, volume.spacing_mm, config.model_copy(update={"candidate_level": level})
    )
    return _said_by_both(outlined, searched, volume, is_window=is_window)


def _draw_masses(
    network: nn.Module,
    config: TrainConfig,
    hu: NDArray[np.float32],
    allowed: NDArray[np.bool_],
    grid: WorkingGrid,
    level: float,
    drawn: NDArray[np.float32],
    device: torch.device,
) -> list[Searched]:
    """Draw what is found from afar and is not drawn yet, and say how sure the search is of it."""
    from_afar = _search_from_afar(network, config, hu, allowed, grid.spacing_mm, device)
    found = find_candidates(from_afar, grid.spacing_mm, config)
    searched = []
    for (box, own), score in zip(found.regions(), found.candidates["score"], strict=True):
        part, seen = _as_searched(grid, from_afar, box, own)
        seen = _raised(seen, config.candidate_level, level)
        inside = seen >= level
        if inside.any() and np.mean(drawn[part][inside] >= level) < SEEN_ENOUGH:
            drawn[part] = np.maximum(drawn[part], seen)
            searched.append(Searched(part, inside, score))
    return searched


def _raised(seen: NDArray[np.float32], searched_at: float, level: float) -> NDArray[np.float32]:
    """Lift what the search marks to the level from which the close look marks.

    Between the two levels the search marks, and nobody looks again: it must not get lost.
    """
    return np.where(seen >= searched_at, np.maximum(seen, level), seen)


def _said_by_both(
    outlined: Prediction, searched: list[Searched], volume: Volume, *, is_window: bool
) -> Prediction:
    """Score each candidate half-way between both networks, less where it is not round.

    Of what was joined the surest counts. The close look is made for outlines and is sure of most
    things that it draws; the search has seen more of what is no lesion. Both see a few slices, in
    which a vessel that crosses them is as round as a nodule: so the odds are multiplied with the
    roundness, or a part of it where the candidate is large.
    """
    by_search = np.zeros(len(outlined.candidates) + 1)
    for part, inside, score in searched:
        ids = np.unique(outlined.labels[part][inside])
        by_search[ids] = np.maximum(by_search[ids], score)
    scores = []
    for search, found in zip(by_search[1:], outlined.candidates.itertuples(), strict=True):
        log_odds = mean_log_odds(np.array([search, found.score]))
        part_of_it = float(np.interp(found.diameter_mm, ROUND_MM, (1, 0)))
        if part_of_it:
            center_zyx = (found.center_z, found.center_y, found.center_x)
            how_round = roundness(volume, center_zyx, ends_with_the_nodule=is_window)
            log_odds += part_of_it * np.log(max(how_round, LEAST_ROUND))
        scores.append(probability_of(log_odds))
    return rescored(outlined, scores)


def _search(
    network: nn.Module,
    config: TrainConfig,
    hu: NDArray[np.float32],
    allowed: NDArray[np.bool_],
    device: torch.device,
) -> NDArray[np.float32]:
    """Return the probability where it is allowed, 0 elsewhere.

    Only the slices and the bounding box of what is allowed go through the network.
    """
    probability = np.zeros(hu.shape, dtype=np.float32)
    boxes = ndimage.find_objects(allowed.astype(np.uint8))
    if boxes:
        rows, columns = (
            _widen(part, size, CONTEXT_PX)
            for part, size in zip(boxes[0][1:], hu.shape[1:], strict=True)
        )
        inside = np.s_[:, rows, columns]
        wanted = np.any(allowed[inside], axis=(1, 2))
        probability[inside] = slice_probability(network, config, hu[inside], wanted, device)
        probability[~allowed] = 0
    return probability


def _search_from_afar(
    network: nn.Module,
    config: TrainConfig,
    hu: NDArray[np.float32],
    allowed: NDArray[np.bool_],
    spacing_mm: Spacing,
    device: torch.device,
) -> NDArray[np.float32]:
    """Search as `_search` does, on a coarser grid, on which a mass is as large as a nodule.

    On the fine grid there is no edge to be seen in its midst. Without a mass of the configured
    size the answer is 0 everywhere.
    """
    config = zoomed(config, ZOOMS[-1])
    grid = WorkingGrid.of(hu.shape, spacing_mm, config)
    coarse_allowed = grid.from_source(allowed) > 0
    coarse = _search(network, config, grid.from_source(hu), coarse_allowed, device)
    if find_candidates(coarse, grid.spacing_mm, config).candidates.empty:
        return np.zeros_like(hu)
    seen = grid.to_source(coarse)
    seen[~allowed] = 0
    return seen


def _as_searched(
    grid: WorkingGrid, probability: NDArray[np.float32], box: Box, own: NDArray[np.bool_]
) -> tuple[Box, NDArray[np.float32]]:
    """Bring a candidate of the search back to the source grid, as it is."""
    z, rows, columns = (_widen(part, size, 1) for part, size in zip(box, grid.shape, strict=True))
    room = [
        (old.start - new.start, new.stop - old.stop)
        for old, new in zip(box, (z, rows, columns), strict=True)
    ]
    near = ndimage.binary_dilation(np.pad(own, room), np.ones((3, 3, 3)))
    part, index = grid.box_to_source((z, rows, columns))
    return part, np.where(near[index], grid.part_to_source(probability, part), 0)


def _widen(part: slice, size: int, margin: int) -> slice:
    """Add a margin on both sides of a box's side, as far as the image goes."""
    return slice(max(part.start - margin, 0), min(part.stop + margin, size))
