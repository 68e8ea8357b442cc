"""Lines of a file to masks: what is drawn, and what is said of the rest."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from medlib.annotation.drawings import (
    Annotation,
    GridMismatchError,
    LesionMask,
    Line,
    Ratings,
    SeriesGrid,
)
from medlib.annotation.line_faults import repeated

FAR = 1e6  # voxels: a point farther off is as far off
LOST = 0.25  # of a mask's points: a file is refused if more lie off the series
# Draws lines on one plane; counts those that overlap in part, and those that hold no voxel.
Rule = Callable[[Sequence[Line], tuple[int, int]], tuple[NDArray[np.bool_], int, int]]


def rasterised(
    grid: SeriesGrid,
    lines: Sequence[Line],
    rule: Rule,
    readers: Sequence[int] = (),
    ratings: Ratings | None = None,
    file: str = "",
) -> Annotation:
    """Turn lines into masks by a rule that draws those of one lesion and reader on one plane.

    `Annotation.notes` counts what is not drawn, or not as it stands; GridMismatchError, with the
    name of the `file`, if that is more than `LOST`.
    """
    of_mask: dict[tuple[int, int], list[Line]] = defaultdict(list)
    for line in lines:
        of_mask[line.lesion, line.reader].append(line)
    masks, notes = [], []
    for (lesion, reader), own in of_mask.items():
        slices, said, lost = _on_slices(own, grid)
        who = f"lesion {lesion}, reader {reader}: "
        if file and lost > LOST:
            found = "; ".join(what.rpartition(":")[0] for what in _told(who, said, own))
            raise GridMismatchError(
                f"{file}: {found}; expected lines on the slices of the series; give the series "
                "that they were drawn on"
            )
        first, last = min(slices, default=0), max(slices, default=-1)
        mask = np.zeros((last + 1 - first, *grid.shape_zyx[1:]), dtype=bool)
        for k, some in slices.items():
            mask[k - first], overlapping, empty = rule(some, grid.shape_zyx[1:])
            said["overlap others in part: taken together"] += overlapping
            said["hold no voxel's centre"] += empty
        masks.append(LesionMask.cut(lesion, reader, mask, (first, 0, 0)))
        notes += _told(who, said, own)
        if gaps := len(mask) - len(slices):
            notes.append(f"{who}no line on {gaps} of its {len(mask)} slices; none was filled in")
    return replace(Annotation.gather(grid, masks, lines, readers, ratings), notes=tuple(notes))


def _told(who: str, said: Counter[str], lines: Sequence[Line]) -> list[str]:
    return [f"{who}{n} of {len(lines)} lines {what}" for what, n in said.items() if n]


def _on_slices(
    lines: Sequence[Line], grid: SeriesGrid
) -> tuple[dict[int, list[Line]], Counter[str], float]:
    """Lines to draw by slice, how many are not, and which share of the points is off the series."""
    slices: dict[int, list[Line]] = {}
    said: Counter[str] = Counter()
    inside = [np.ones(0, dtype=bool)]
    for line in lines:
        k, points = grid.slice_at(line.z_mm), line.points_yx
        if line.declared_open or not len(points):
            said["are open, points, or empty: passed over"] += 1
            continue
        on_image = np.all((points >= -1) & (points <= grid.shape_zyx[1:]), axis=1)
        inside.append(on_image & (k is not None))
        if k is None:
            slice_ = (line.z_mm - grid.slice_z_mm(0)) / grid.spacing_mm[0]
            middle = abs(slice_ % 1 - 0.5) < 0.05 and 0 < slice_ < grid.shape_zyx[0] - 1
            said[f"lie {'half-way between slices' if middle else 'on no slice'}: left out"] += 1
            continue
        said["reach off the image: drawn as far as it goes"] += not on_image.all()
        slices.setdefault(k, []).append(line)
    for k, drawn in slices.items():
        again = repeated(drawn)
        said["are listed twice: taken once"] += len(again)
        slices[k] = [line for n, line in enumerate(drawn) if n not in again]
    share = np.concatenate(inside)
    return slices, said, 1 - float(share.mean()) if len(share) else 0.0
