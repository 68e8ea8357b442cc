"""A sound annotation with one fault each: what the check of incoming drawings has to find."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from medlib.annotation.contour_table import from_lines
from medlib.annotation.drawings import Annotation, LesionMask, Line


def faulty_drawings(annotation: Annotation) -> dict[str, tuple[str, Annotation]]:
    """Spoil an annotation one fault at a time.

    Parameters
    ----------
    annotation : Annotation
        One lesion on three slices or more by two readers, read from a contour table.

    Returns
    -------
    dict
        What was done -> the code that `validate_annotation` has to find, and the annotation.
    """
    first, second = annotation.masks
    grid, readers = annotation.grid, annotation.readers
    own = [line for line in annotation.lines if line.reader == first.reader]
    middle = own[len(own) // 2]
    points = middle.points_yx

    def line(spoilt: Line) -> Annotation:
        lines = [spoilt if one is middle else one for one in annotation.lines]
        return from_lines(grid, lines, readers)

    def masks(*changed: LesionMask) -> Annotation:
        return Annotation.gather(grid, changed, (), readers)

    def part(kept: NDArray[np.bool_]) -> Annotation:
        cut = LesionMask.cut(first.lesion, first.reader, first.mask & kept, first.start_zyx)
        return masks(cut, second)

    z, y, x = np.indices(first.mask.shape)
    widest = first.mask.sum(axis=(1, 2)).argmax()
    k, i, j = np.argwhere(first.mask)[first.n_voxels // 2]
    left_fifth = np.less_equal(x, np.quantile(first.mask.nonzero()[2], 0.2))
    half = replace(middle, points_yx=points[: len(points) // 2])
    turned = replace(middle, points_yx=_turned(points))
    two_points = replace(middle, points_yx=points[:2])
    between = replace(middle, z_mm=middle.z_mm + grid.spacing_mm[0] / 2)
    corner = [replace(one, start_zyx=(one.start_zyx[0], 0, 0)) for one in (first, second)]
    renumbered = replace(first, lesion=first.lesion + 1)
    first_alone = Annotation.gather(grid, [first])
    other_series = replace(annotation, grid=replace(grid, shape_zyx=(1, 1, 1)))
    faults = [
        ("half of a line is missing", "open-line", line(half)),
        ("a stretch of a line runs backwards", "self-crossing", line(turned)),
        ("a line of two points", "few-points", line(two_points)),
        ("a line between two slices", "slice-not-in-series", line(between)),
        ("one voxel", "tiny-mask", part((z == k) & (y == i) & (x == j))),
        ("one slice of a thick lesion", "one-slice", part(z == widest)),
        ("a slice left out", "in-pieces", part(z != widest)),
        ("drawn in the corner of the image", "outside-lung", masks(*corner)),
        ("the same lesion under two numbers", "overlap", masks(first, renumbered, second)),
        ("the second reader's file is missing", "reader-missing", first_alone),
        ("one reader drew only a part of it", "low-agreement", part(left_fifth)),
        ("handed in with another series", "grid-mismatch", other_series),
    ]
    return {what: (code, spoilt) for what, code, spoilt in faults}


def _turned(points_yx: NDArray[np.float64]) -> NDArray[np.float64]:
    """Reverse the middle half of a line, so that it crosses itself."""
    middle = slice(len(points_yx) // 4, 3 * (len(points_yx) // 4))
    turned = points_yx.copy()
    turned[middle] = points_yx[middle][::-1]
    return turned
