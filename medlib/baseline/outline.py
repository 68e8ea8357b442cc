"""The close look: a second network outlines what the first one found.

The first network searches whole slices and has to be quick. The second sees one window of a few
centimetres, centred on a candidate, on a fine grid: it draws the outline, and it may find nothing
there, which takes the candidate back. A window twice as wide, on a grid twice as coarse, is used
for what does not fit. A mass wider than both keeps the outline of the search, on the search's own
grid or on one twice as coarse.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import cc3d
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medlib.annotation.agreement import dice
from medlib.baseline.candidates import mean_log_odds
from medlib.baseline.config import TrainConfig
from medlib.baseline.grid import Box, Spacing
from medlib.baseline.network_passes import Model, predict_window
from medlib.images.volume import Volume

ZOOMS = (1.0, 2.0)  # the working voxel and with it the window, times this
FITS = 0.6  # of the window's side: an outline up to this wide is seen with its surroundings
OFF_CENTRE_MM = 6.0  # an outline that begins farther from the centre is of something else
ABOVE_BELOW_MM = 10.0  # seen beyond the candidate's first and last slice
GLANCE_LEVEL = 0.5  # of the candidate level: what one view has to show for a look from all sides
MORE_SLICES_MM = 3.0  # looked at from all sides, beyond the slices in which one view shows it
SWELLS = 1.5  # times its median area in a slice: more than a vessel does
AGREE = 0.5  # Dice of two windows from which they are taken to show the same thing
RIM_VOXELS = 2  # of probability below the level that is kept around an outline


class Outline(NamedTuple):
    """What a close look found in its window, a box of the volume."""

    box: Box
    probability: NDArray[np.float32]  # 0 away from the lesion in the centre, or without one


def zoomed(config: TrainConfig, zoom: float) -> TrainConfig:
    """Return the configuration of a window this many times as wide, as coarse."""
    return config.model_copy(
        update={
            "in_plane_spacing_mm": config.in_plane_spacing_mm * zoom,
            "slice_spacing_mm": config.slice_spacing_mm * zoom,
        }
    )


def widest_mm(config: TrainConfig, zoom: float = ZOOMS[-1]) -> float:
    """Return the in-plane width in mm of the largest lesion that a window is made for."""
    return FITS * config.crop_px * config.in_plane_spacing_mm * zoom


def width_mm(marked: NDArray[np.bool_], spacing_mm: Spacing) -> float:
    """Return the larger in-plane side of the box around what is marked; 0 if nothing is."""
    boxes = ndimage.find_objects(marked.astype(np.uint8))
    if not boxes:
        return 0.0
    sides = zip(boxes[0][1:], spacing_mm[1:], strict=True)
    return float(max((part.stop - part.start) * step for part, step in sides))


def outline(
    outliner: Model, volume: Volume, box: Box, own: NDArray[np.bool_] | None = None
) -> Outline:
    """Look closely at a candidate.

    Through the narrow window where the candidate is at most half as wide as that window is made
    for; else through the wide one if the narrow one shows nothing (in the midst of a mass there is
    no edge to be seen). Where both show the same thing, through the narrow one if it fits there;
    where they do not, through the surer of the two, or the wide one if neither fits the narrow one.
    Nothing where a thin candidate is longer than the window and swells nowhere: that is a vessel.

    `own` are the candidate's voxels in its box of the volume; where none is left on the volume's
    grid, the box stands for them. Without `own` the lesion is looked for in the middle of the box,
    and its size is not known beforehand.
    """
    corner = np.array([part.start for part in box])
    config, (near, far) = outliner.config, ZOOMS
    if own is None:
        center = corner + np.array([part.stop - part.start for part in box]) / 2 - 0.5
        is_small = False
    else:
        if not own.any():  # thinner than the volume's voxels
            own = np.ones_like(own)
        is_small = width_mm(own, volume.spacing_mm) <= widest_mm(config, near) / 2
        window_mm = widest_mm(config, near) + 2 * ABOVE_BELOW_MM
        is_long = len(own) * volume.spacing_mm[0] > window_mm
        areas_px = _rimmed(own).sum(axis=(1, 2))
        if is_small and is_long and is_tube(areas_px):
            return Outline(box, np.zeros(own.shape, dtype=np.float32))
        if is_long:  # a nodule may sit anywhere on a vessel that was marked with it
            own = own & (np.arange(len(own)) == areas_px.argmax())[:, None, None]
        center = corner + np.argwhere(own).mean(axis=0)
    close = _look(outliner, volume, center, box[0], near, glance=own is not None)
    if is_small:
        return close
    wide = _look(outliner, volume, center, box[0], far, glance=own is not None)
    if not close.probability.any():
        return wide
    if not wide.probability.any():
        return close
    level = config.candidate_level
    close_fits, wide_fits = (
        width_mm(seen.probability >= level, volume.spacing_mm) <= widest_mm(config, near)
        for seen in (close, wide)
    )
    if _agreement(close, wide, level) >= AGREE:
        return close if wide_fits else wide
    if not close_fits and not wide_fits:  # the narrow window cuts it off
        return wide
    # A nodule may be joined with what is beside it in the one, a mass be cut up in the other.
    close_is, wide_is = (
        mean_log_odds(seen.probability[seen.probability >= level]) for seen in (close, wide)
    )
    return close if close_is >= wide_is else wide


def _agreement(close: Outline, wide: Outline, level: float) -> float:
    """Return the Dice coefficient of what two windows mark; the narrow one lies in the wide one."""
    within = tuple(
        slice(a.start - b.start, a.stop - b.start) for a, b in zip(close.box, wide.box, strict=True)
    )
    in_close = np.zeros(wide.probability.shape, dtype=bool)
    in_close[within] = close.probability >= level
    return dice(in_close, wide.probability >= level)


def outline_window(outliner: Model, volume: Volume) -> NDArray[np.float32]:
    """Return the probability in a volume of interest, of the lesion in its middle."""
    z, y, x = (slice(0, size) for size in volume.hu.shape)
    found = outline(outliner, volume, (z, y, x))
    whole = np.zeros(volume.hu.shape, dtype=np.float32)
    whole[found.box] = found.probability
    return whole


def _rimmed(own: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Widen by the rim in plane: what is a few pixels wide varies less with it."""
    room = np.pad(own, [(0, 0), (RIM_VOXELS, RIM_VOXELS), (RIM_VOXELS, RIM_VOXELS)])
    in_plane = ndimage.generate_binary_structure(2, 1)[None]
    return np.asarray(ndimage.binary_dilation(room, in_plane, iterations=RIM_VOXELS))


def _look(
    outliner: Model,
    volume: Volume,
    center_zyx: NDArray[np.float64],
    slices: slice,
    zoom: float,
    *,
    glance: bool,
) -> Outline:
    """Look through one window: once at its middle, then at all of it, then from all sides.

    Each step asks for no more than the step before has shown.
    """
    config = zoomed(outliner.config, zoom)
    dz, *in_plane_mm = volume.spacing_mm
    depth = len(volume.hu)
    above_below = round(ABOVE_BELOW_MM / dz)
    half_mm = config.crop_px * config.in_plane_spacing_mm / 2
    rows, columns = (
        slice(max(round(c + 0.5 - half_mm / step), 0), min(round(c + 0.5 + half_mm / step), size))
        for c, step, size in zip(center_zyx[1:], in_plane_mm, volume.hu.shape[1:], strict=True)
    )
    # A vessel may run through the whole scan: no more is looked at than a lesion could fill.
    reach = round(widest_mm(config, 1.0) / 2 / dz)
    middle = round(center_zyx[0])
    box = (
        slice(
            max(slices.start - above_below, middle - reach - above_below, 0),
            min(slices.stop + above_below, middle + reach + above_below + 1, depth),
        ),
        rows,
        columns,
    )
    center = center_zyx - [part.start for part in box]
    hu = volume.hu[box]
    look = partial(predict_window, outliner._replace(config=config), hu, volume.spacing_mm)
    seen = partial(central_region, center_zyx=center, spacing_mm=volume.spacing_mm)
    level, n_slices = GLANCE_LEVEL * config.candidate_level, len(hu)
    around = slice(0, n_slices)
    if glance:
        around = _slices(center[0], center[0], OFF_CENTRE_MM / dz, n_slices)
    once = look(views=1, slices=around)
    areas_px = seen(once >= level).sum(axis=(1, 2))
    if areas_px[around][[0, -1]].any():  # it goes on
        for rest in (slice(0, around.start), slice(around.stop, n_slices)):
            if rest.start < rest.stop:
                once += look(views=1, slices=rest)
        areas_px = seen(once >= level).sum(axis=(1, 2))
    shown = np.flatnonzero(areas_px)
    cut_off = n_slices == 2 * (reach + above_below) + 1  # at both ends, by the reach
    if not shown.size or (zoom == ZOOMS[0] and cut_off and is_tube(areas_px)):
        return Outline(box, np.zeros_like(hu, dtype=np.float32))
    probability = look(slices=_slices(shown[0], shown[-1], MORE_SLICES_MM / dz, n_slices))
    return Outline(box, np.where(seen(probability >= config.candidate_level), probability, 0))


def is_tube(areas_px: NDArray[np.integer]) -> bool:
    """Tell whether something runs through all slices and swells in none.

    So does a vessel; a nodule that sits on one swells. One that is hardly thicker than its vessel
    is taken for it.
    """
    return bool(areas_px.min() > 0 and areas_px.max() <= SWELLS * np.median(areas_px))


def _slices(first: float, last: float, more: float, n_slices: int) -> slice:
    """Return the slices from the first to the last and some more at both ends."""
    return slice(max(round(first - more), 0), min(round(last + more) + 1, n_slices))


def central_region(
    marked: NDArray[np.bool_], center_zyx: Sequence[float], spacing_mm: Spacing
) -> NDArray[np.bool_]:
    """Keep the marked region nearest to the centre, with its rim; nothing if it is too far.

    Regions are joined by faces, edges or corners (26-connectivity).
    """
    voxels = np.argwhere(marked)
    distance_mm = np.linalg.norm((voxels - np.array(center_zyx)) * np.array(spacing_mm), axis=1)
    if not len(voxels) or distance_mm.min() > OFF_CENTRE_MM:
        return np.zeros_like(marked)
    regions = cc3d.connected_components(marked, connectivity=26)
    own = regions == regions[tuple(voxels[distance_mm.argmin()])]
    rim = ndimage.binary_dilation(own, iterations=RIM_VOXELS) & ~marked
    return np.asarray(own | rim)
