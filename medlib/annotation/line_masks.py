"""Lines of a file to masks: what is drawn, and what is said of the rest."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

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
from medlib.annotation.line_faults import same_line

FAR = 1e6  # voxels: a point farther off is as far off
LOST = 0.25  # of a mask's points: if more lie off the series, the file is refused
# Draws lines on one plane; counts those that overlap in part, and those that hold no voxel.
Rule = Callable[[Sequence[Line], tuple[int, int]], tuple[NDArray[np.bool_], int, int]]


def rasterised(
    grid: SeriesGrid,
    lines: Sequence[Line],
    rule: Rule,
    readers: Sequence[int] = (),
    ratings: Ratings | None = None,
) -> Annotation:
    """Turn lines into masks by a rule that draws those of one lesion and reader on one plane.

    `Annotation.notes` counts what is not drawn, or not as it stands. All lines stay in
    `Annotation.lines`, and `medlib.annotation.validate` names them.
    """
    of_mask: dict[tuple[int, int], list[Line]] = defaultdict(list)
    for line in lines:
        of_mask[line.lesion, line.reader].append(line)
    masks, notes = [], []
    for (lesion, reader), own in of_mask.items():
        slices, said = _on_slices(own, grid)
        first, last = min(slices, default=0), max(slices, default=-1)
        mask = np.zeros((last + 1 - first, *grid.shape_zyx[1:]), dtype=bool)
        for k, some in slices.items():
            mask[k - first], overlapping, empty = rule(some, grid.shape_zyx[1:])
            said["overlap others in part"] += overlapping
            said["hold no voxel's centre"] += empty
        masks.append(LesionMask.cut(lesion, reader, mask, (first, 0, 0)))
        who = f"lesion {lesion}, reader {reader}"
        notes += [f"{who}: {n} of {len(own)} lines {what}" for what, n in said.items() if n]
        if gaps := len(mask) - len(slices):
            notes.append(f"{who}: no line on {gaps} of its {len(mask)} slices; none was filled in")
    return replace(Annotation.gather(grid, masks, lines, readers, ratings), notes=tuple(notes))


def _on_slices(
    lines: Sequence[Line], grid: SeriesGrid
) -> tuple[dict[int, list[Line]], Counter[str]]:
    """Lines to draw by slice, and how many are left out, or drawn in part."""
    slices: dict[int, list[Line]] = defaultdict(list)
    said: Counter[str] = Counter()
    for line in lines:
        if line.declared_open or not len(line.points_yx):
            said["are open, points, or empty: passed over"] += 1
            continue
        lost = lost_on(line, grid)
        said[lost] += bool(lost)
        k = grid.slice_at(line.z_mm)
        if k is None:
            continue
        if any(same_line(line.points_yx, other.points_yx) for other in slices[k]):
            said["are listed twice: taken once"] += 1
        else:
            slices[k].append(line)
    return slices, said


def lost_on(line: Line, grid: SeriesGrid) -> str:
    """Say why a line, or a part of it, lies outside the series; nothing if it lies inside."""
    if grid.slice_at(line.z_mm) is None:
        halves = (line.z_mm - grid.affine[2, 3]) / grid.affine[2, 2] * 2
        odd = abs(halves % 2 - 1) < 0.1 and 0 < halves < 2 * (grid.shape_zyx[0] - 1)
        return f"lie {'half-way between two slices' if odd else 'on no slice'}: left out"
    return "" if _inside(line, grid).all() else "reach off the image: drawn as far as it goes"


def _inside(line: Line, grid: SeriesGrid) -> NDArray[np.bool_]:
    """Which of a line's points lie inside the series."""
    points, on_slice = line.points_yx, grid.slice_at(line.z_mm) is not None
    on_image = np.all((points >= -1) & (points <= grid.shape_zyx[1:]), axis=1)
    return np.asarray(on_image & on_slice)


def refuse_lost(path: Path, annotation: Annotation) -> Annotation:
    """Refuse (GridMismatchError) an annotation that lies outside the series by more than `LOST`."""
    grid = annotation.grid
    for mask in annotation.masks:
        own = [x for x in annotation.lines if (x.lesion, x.reader) == (mask.lesion, mask.reader)]
        inside = [_inside(line, grid) for line in own if len(line.points_yx)]
        if inside and np.concatenate(inside).mean() < 1 - LOST:
            lost = Counter(lost_on(line, grid).partition(":")[0] for line in own)
            counts = ", ".join(f"{n} {how}" for how, n in lost.items() if how)
            raise GridMismatchError(
                f"{path}: of {len(own)} lines of lesion {mask.lesion}, reader {mask.reader}, "
                f"{counts}; expected lines on the slices of the series; give the series that they "
                "were drawn on"
            )
    return annotation
