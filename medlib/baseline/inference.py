"""The way of a scan, downhill over one list of candidates: search, look closely, score.

Of what is left `medlib.review.report` writes the report.
"""

from __future__ import annotations

from dataclasses import replace
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
from medlib.baseline.grid import Box, Spacing, WorkingGrid, widened
from medlib.baseline.network_passes import Model, mean_view, probability_where
from medlib.baseline.outline import ZOOMS, outline, widest_mm, width_mm, zoomed
from medlib.baseline.roundness import roundness
from medlib.images.body_check import Lungs, plausible_lungs
from medlib.images.volume import Volume

LEAST_ROUND = 0.05  # what is flatter counts as this round: it may be a nodule on a wall
# Up to the first diameter all of the roundness counts, from the second on none: a network sees by
# itself what is larger.
ROUND_MM = (10.0, 20.0)
SEEN_ENOUGH = 0.75  # of a mass: where more of it is drawn already, that sharper outline is kept


class Scan(NamedTuple):
    """A volume, and what the search sees of it on its working grid."""

    volume: Volume
    grid: WorkingGrid
    hu: NDArray[np.float32]
    allowed: NDArray[np.bool_]  # where a candidate may be
    is_window: bool
    lungs: Lungs

    @classmethod
    def of(cls, volume: Volume, config: TrainConfig, *, is_window: bool) -> Scan:
        """Bring a volume to the working grid and find its lungs."""
        grid = WorkingGrid.of(volume.hu.shape, volume.spacing_mm, config)
        hu = grid.from_source(volume.hu)
        if is_window:
            everywhere = np.ones(grid.shape, dtype=bool)
            return cls(volume, grid, hu, everywhere, is_window, Lungs(everywhere))
        lungs = plausible_lungs(hu, grid.spacing_mm, volume.identity.body_part)
        allowed = near_lung(lungs.field, grid.spacing_mm, config.lung_margin_mm)
        return cls(volume, grid, hu, allowed, is_window, lungs)


class Candidate(NamedTuple):
    """What may be a lesion, in a box of the volume's own grid."""

    box: Box
    inside: NDArray[np.bool_]  # its voxels in the box
    search_score: float  # how sure the search is of it, 0..1
    probability: NDArray[np.float32] | None = None  # in the box; None until it was looked at
    is_from_afar: bool = False


def predict_volume(
    network: nn.Module,
    config: TrainConfig,
    volume: Volume,
    device: torch.device | None = None,
    outliner: Model | None = None,
    *,
    is_window: bool = False,
) -> Prediction:
    """Find candidate lesions in a CT volume of any pixel size and slice spacing.

    `network` searches, `outliner` looks closely; without one, what the search marks is the answer.
    With `is_window` the volume was cut out of a scan around a nodule, with which it ends: a lesion
    may be anywhere in it, no lung field is looked for, and no mass. Where there is no lung, there
    are no candidates, and the prediction says that nothing was looked at.
    """
    model = Model(network, config, device)
    scan = Scan.of(volume, config, is_window=is_window)
    if outliner is None:
        probability = scan.grid.to_source(_searched(scan, model))
        found = find_candidates(probability, volume.spacing_mm, config)
    else:
        candidates = search(scan, model, outliner.config)
        drawn, candidates = look_closely(scan, candidates, outliner._replace(device=device))
        level = outliner.config.candidate_level
        close = config.model_copy(update={"candidate_level": level})
        found = score(scan, candidates, find_candidates(drawn, volume.spacing_mm, close))
    _, reason, warnings = scan.lungs
    return replace(found, not_looked_at=reason, warnings=warnings)


def search(scan: Scan, model: Model, close: TrainConfig) -> list[Candidate]:
    """Find candidates in whole slices, and masses in slices that are seen from afar.

    What is too large for the close look, whose configuration is `close`, is drawn as it was found.
    """
    config = model.config
    largest_mm, levels = widest_mm(close), (config.candidate_level, close.candidate_level)
    probability = _searched(scan, model)
    found = find_candidates(probability, scan.grid.spacing_mm, config)
    candidates = []
    for box, own, sure in found.regions():
        if width_mm(own, scan.grid.spacing_mm) > largest_mm:
            candidates.append(_as_searched(scan, probability, box, own, sure, levels))
        else:
            around, index = scan.grid.box_to_source(box)
            candidates.append(Candidate(around, own[index], sure))
    if scan.is_window:
        return candidates
    masses = config.model_copy(update={"min_diameter_mm": largest_mm})
    from_afar = _searched_from_afar(scan, model._replace(config=masses))
    found = find_candidates(from_afar, scan.grid.spacing_mm, masses)
    for box, own, sure in found.regions():
        mass = _as_searched(scan, from_afar, box, own, sure, levels)
        if mass.inside.any():
            candidates.append(mass._replace(is_from_afar=True))
    return candidates


def look_closely(
    scan: Scan, candidates: list[Candidate], outliner: Model
) -> tuple[NDArray[np.float32], list[Candidate]]:
    """Outline what the search found: the probability on the volume's grid, and what is drawn there.

    The close look may have found nothing inside a candidate; a mass that was found from afar is
    left out where enough of it is drawn already.
    """
    level = outliner.config.candidate_level
    drawn, kept = np.zeros(scan.volume.hu.shape, dtype=np.float32), []
    for candidate in candidates:
        box, inside, sure, probability, is_from_afar = candidate
        if probability is None:
            box, seen = outline(outliner, scan.volume, box, inside)
            probability = np.where(scan.allowed[np.ix_(*scan.grid.holders(box))], seen, 0)
            inside = probability >= level
        elif is_from_afar and np.mean(drawn[box][inside] >= level) >= SEEN_ENOUGH:
            continue
        drawn[box] = np.maximum(drawn[box], probability)
        kept.append(Candidate(box, inside, sure, probability, is_from_afar))
    return drawn, kept


def score(scan: Scan, candidates: list[Candidate], outlined: Prediction) -> Prediction:
    """Score what is drawn half-way, in log-odds, between both networks, less where it is not round.

    Of candidates that were joined the surest counts. The close look is made for outlines and is
    sure of most things that it draws; the search has seen more of what is no lesion (of a mass that
    was not looked at closely it alone speaks). Both see a few slices, in which a vessel that
    crosses them is as round as a nodule: so the odds are multiplied with the roundness, or a part
    of it where the candidate is large.
    """
    by_search = np.zeros(len(outlined.candidates) + 1)
    for candidate in candidates:
        ids = np.unique(outlined.labels[candidate.box][candidate.inside])
        by_search[ids] = np.maximum(by_search[ids], candidate.search_score)
    scores = []
    for by_id, found in zip(by_search[1:], outlined.candidates.itertuples(), strict=True):
        log_odds = mean_log_odds(np.array([by_id, found.score]))
        part_of_it = float(np.interp(found.diameter_mm, ROUND_MM, (1, 0)))
        if part_of_it:
            center_zyx = (found.center_z, found.center_y, found.center_x)
            how_round = roundness(scan.volume, center_zyx, ends_with_the_nodule=scan.is_window)
            log_odds += part_of_it * np.log(max(how_round, LEAST_ROUND))
        scores.append(probability_of(log_odds))
    return rescored(outlined, scores)


def near_lung(lung: NDArray[np.bool_], spacing_mm: Spacing, margin_mm: float) -> NDArray[np.bool_]:
    """Return the voxels within `margin_mm` of the lung field; all are far where there is none."""
    reach = [int(margin_mm / step) for step in spacing_mm]
    offsets = np.mgrid[tuple(slice(-n, n + 1) for n in reach)]
    ball = np.hypot.reduce([o * step for o, step in zip(offsets, spacing_mm, strict=True)])
    return np.asarray(ndimage.binary_dilation(lung, ball <= margin_mm))


def _searched(scan: Scan, model: Model) -> NDArray[np.float32]:
    """Return what the search says, on its working grid."""
    if scan.is_window:
        every = np.ones(len(scan.hu), dtype=bool)
        return mean_view(model, scan.hu, every, views=1)
    return probability_where(scan.allowed, model, scan.hu)


def _searched_from_afar(scan: Scan, model: Model) -> NDArray[np.float32]:
    """Search on a coarser grid, on which a mass is as large as a nodule.

    On the fine grid there is no edge to be seen in its midst. Without a mass of the configured
    size the answer is 0 everywhere.
    """
    model = model._replace(config=zoomed(model.config, ZOOMS[-1]))
    grid = WorkingGrid.of(scan.hu.shape, scan.grid.spacing_mm, model.config)
    allowed = grid.from_source(scan.allowed) > 0
    coarse = probability_where(allowed, model, grid.from_source(scan.hu))
    if find_candidates(coarse, grid.spacing_mm, model.config).candidates.empty:
        return np.zeros_like(scan.hu)
    seen = grid.to_source(coarse)
    seen[~scan.allowed] = 0
    return seen


def _as_searched(
    scan: Scan,
    probability: NDArray[np.float32],
    box: Box,
    own: NDArray[np.bool_],
    sure: float,
    levels: tuple[float, float],
) -> Candidate:
    """Bring a candidate of the search to the volume's grid, as it is.

    The search and the close look mark from their own levels: what the search marks is lifted to
    that of the close look, as nobody looks again and it must not get lost.
    """
    wide = widened(box, scan.grid.shape, (1, 1, 1))
    room = [
        (old.start - new.start, new.stop - old.stop) for old, new in zip(box, wide, strict=True)
    ]
    near = ndimage.binary_dilation(np.pad(own, room), np.ones((3, 3, 3)))
    part, index = scan.grid.box_to_source(wide)
    seen = np.where(near[index], scan.grid.part_to_source(probability, part), 0)
    of_search, of_close_look = levels
    seen = np.where(seen >= of_search, np.maximum(seen, of_close_look), seen)
    return Candidate(part, seen >= of_close_look, sure, seen)
