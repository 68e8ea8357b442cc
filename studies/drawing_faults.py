"""A sound annotation with one slip each: what the check of incoming drawings has to find."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from medlib.annotation.contour_table import from_lines
from medlib.annotation.drawings import Annotation, LesionMask, Line


def slips(annotation: Annotation) -> dict[str, tuple[str, Annotation]]:
    """Spoil an annotation one slip at a time.

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
    own = [line for line in annotation.lines if line.reader == first.reader]
    middle = own[len(own) // 2]

    def line(edit: Callable[[Line], Line]) -> Annotation:
        lines = [edit(one) if one is middle else one for one in annotation.lines]
        return from_lines(annotation.grid, lines, annotation.readers)

    def masks(*changed: LesionMask) -> Annotation:
        return Annotation.gather(annotation.grid, changed, (), annotation.readers)

    def mask(values: NDArray[np.bool_]) -> LesionMask:
        return LesionMask.cut(first.lesion, first.reader, values, first.start_zyx)

    z, y, x = np.indices(first.mask.shape)
    centre = np.argwhere(first.mask)[first.n_voxels // 2]
    widest = first.mask.sum(axis=(1, 2)).argmax()
    points = len(middle.points_yx)
    return {
        "half of a line is missing": (
            "open-line",
            line(lambda one: replace(one, points_yx=one.points_yx[: points // 2])),
        ),
        "a stretch of a line runs backwards": (
            "self-crossing",
            line(lambda one: replace(one, points_yx=_turned(one.points_yx))),
        ),
        "a line of two points": (
            "few-points",
            line(lambda one: replace(one, points_yx=one.points_yx[:2])),
        ),
        "a line between two slices": (
            "slice-not-in-series",
            line(lambda one: replace(one, z_mm=one.z_mm + annotation.grid.spacing_mm[0] / 2)),
        ),
        "one voxel": (
            "tiny-mask",
            masks(mask((z == centre[0]) & (y == centre[1]) & (x == centre[2])), second),
        ),
        "one slice of a thick lesion": (
            "one-slice",
            masks(mask(first.mask & (z == widest)), second),
        ),
        "a slice left out": ("in-pieces", masks(mask(first.mask & (z != widest)), second)),
        "drawn in the corner of the image": (
            "outside-lung",
            masks(*(replace(one, start_zyx=(one.start_zyx[0], 0, 0)) for one in (first, second))),
        ),
        "the same lesion under two numbers": (
            "overlap",
            masks(first, replace(first, lesion=first.lesion + 1), second),
        ),
        "the second reader's file is missing": (
            "reader-missing",
            Annotation.gather(annotation.grid, [first]),
        ),
        "one reader drew only a part of it": (
            "low-agreement",
            masks(mask(first.mask & (x <= np.quantile(first.mask.nonzero()[2], 0.2))), second),
        ),
        "handed in with another series": (
            "grid-mismatch",
            replace(annotation, grid=replace(annotation.grid, shape_zyx=(1, 1, 1))),
        ),
    }


def _turned(
    points_yx: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Reverse the middle half of a line, so that it crosses itself."""
    quarter = len(points_yx) // 4
    return np.concatenate(
        [points_yx[:quarter], points_yx[quarter : 3 * quarter][::-1], points_yx[3 * quarter :]]
    )
