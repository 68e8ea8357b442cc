"""The contour table: a row a line, with the columns of LIDC-IDRI's own database, as CSV.

``lesion, reader, inclusion, image_z_position_mm, image_sop_uid, coords``; coords are ``x,y`` pairs
(column, row) of the voxels that the line runs through, apart by spaces: those of the DICOM image
as it is stored; where there is none, of the patient seen upright. The line is the first voxel
outside. A reader who found nothing has one row without lesion. Masks written here come back
voxel for voxel. Where an algorithm drew or a role is known, ``author`` says so; where structures
had names of their own, ``name``.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from medlib.annotation.drawings import (
    READER,
    Annotation,
    Author,
    GridMismatchError,
    Line,
    Ratings,
    SeriesGrid,
)
from medlib.annotation.line_masks import FAR, rasterised
from medlib.annotation.mask_outlines import reader_lines
from medlib.annotation.outlines import outline_plane, overlap_in_part
from medlib.errors import InputError

COLUMNS = ("lesion", "reader", "inclusion", "image_z_position_mm", "image_sop_uid", "coords")
MIN_POINTS = 3  # of a line: fewer enclose nothing
Affine = NDArray[np.float64]
_TRUE_FALSE = {"1": True, "0": False, "true": True, "false": False}


def table_text(annotation: Annotation) -> str:
    """Write masks as a contour table; equal masks give equal bytes."""
    grid = annotation.grid
    rows: list[tuple[object, ...]] = []
    for item in annotation.masks:
        z0, y0, x0 = item.start_zyx
        for k, plane in enumerate(item.mask, start=z0):
            uid = grid.sop_instance_uids[k] if grid.sop_instance_uids else ""
            for inclusion, line in reader_lines(plane):
                pixels = _between(line + np.array([y0, x0]), grid.affine, grid.source_affine, grid)
                coords = " ".join(f"{x:.0f},{y:.0f}" for y, x in pixels)
                z_mm = f"{grid.slice_z_mm(k):.4f}"
                rows.append((item.lesion, item.reader, int(inclusion), z_mm, uid, coords))
    drew = {item.reader for item in annotation.masks if item.n_voxels}
    rows += [("", reader, "", "", "", "") for reader in annotation.readers if reader not in drew]
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    authors = {reader: annotation.author(reader) for reader in annotation.readers}
    if set(authors.values()) - {READER}:
        table["author"] = table["reader"].map(authors).astype(str)
    if annotation.names:
        table["name"] = table["lesion"].map(annotation.names).fillna("")
    return str(table.to_csv(index=False, lineterminator="\n"))


def parse_table(
    text: str, grid: SeriesGrid, name: str, ratings: Ratings | None = None
) -> Annotation:
    """Read a contour table onto the grid of its series; `name` is that of the file, for errors.

    GridMismatchError if a row's image and its height are two slices, or lines lie off the series.
    """
    try:
        table = pd.read_csv(io.StringIO(text), dtype=str, keep_default_na=False)
    except ValueError as error:  # pandas' own are ValueErrors
        raise InputError(f"{name}: no table ({error}); expected CSV with a header") from None
    if missing := [column for column in COLUMNS if column not in table]:
        raise InputError(
            f"{name}: lacks the columns {', '.join(missing)}; expected {', '.join(COLUMNS)}; "
            "export the table again"
        )
    lines, readers = [], []
    for number, row in enumerate(table[list(COLUMNS)].itertuples(index=False), start=2):
        try:
            readers.append(_counted(row.reader))
            if row.lesion:
                lines.append(_line(row, grid))
        except GridMismatchError as error:
            raise GridMismatchError(f"{name}: row {number}: {error}") from None
        except (ValueError, KeyError) as error:
            raise InputError(
                f"{name}: row {number} cannot be read ({error}); expected {', '.join(COLUMNS)} "
                "with whole x,y pairs; export the table again"
            ) from None
    drawn = rasterised(grid, lines, _plane, readers, ratings, name)
    more = table.reindex(columns=["author", "name"], fill_value="")
    authors = {
        k: Author.parse(text) for k, text in zip(readers, more["author"], strict=True) if text
    }
    names = {int(k): text for k, text in zip(table["lesion"], more["name"], strict=True) if text}
    return replace(drawn, authors=authors, names=names)


def from_lines(grid: SeriesGrid, lines: Sequence[Line], readers: Sequence[int] = ()) -> Annotation:
    """Turn lines on whole voxels into masks by LIDC's convention."""
    return rasterised(grid, lines, _plane, readers)


def _plane(lines: Sequence[Line], shape_yx: tuple[int, int]) -> tuple[NDArray[np.bool_], int, int]:
    drawn = [
        (line.inclusion, line.points_yx.astype(np.int64))
        for line in lines
        if len(line.points_yx) >= MIN_POINTS or not line.inclusion  # a hole may be one voxel
    ]
    alone = [np.flatnonzero(outline_plane([one], shape_yx)) for one in drawn if one[0]]
    overlapping = np.unique(overlap_in_part(alone).nonzero()[0])
    n_empty = len(lines) - len(drawn) + sum(not len(area) for area in alone)
    return outline_plane(drawn, shape_yx), len(overlapping), n_empty


def _line(row: Any, grid: SeriesGrid) -> Line:
    z_mm = float(row.image_z_position_mm)
    if row.image_sop_uid and grid.sop_instance_uids:
        named = [k for k, uid in enumerate(grid.sop_instance_uids) if uid == row.image_sop_uid]
        if not named:
            z_mm = float("nan")  # an image that the series does not have
        elif grid.slice_at(z_mm) not in named:
            raise GridMismatchError(
                f"image {row.image_sop_uid} of the series does not lie at z = {z_mm:g} mm; give "
                "the table of this series"
            )
    return Line(
        lesion=_counted(row.lesion),
        reader=_counted(row.reader),
        inclusion=_TRUE_FALSE[row.inclusion.lower()],
        z_mm=z_mm,
        points_yx=_between(_points_yx(row.coords), grid.source_affine, grid.affine, grid),
    )


def _between(
    points_yx: NDArray[Any], old: Affine | None, new: Affine | None, grid: SeriesGrid
) -> NDArray[Any]:
    """Bring pixels from the upright grid to those of the DICOM images as stored, or back."""
    if old is None or new is None or not grid.sop_instance_uids:
        return points_yx
    to_new = (np.linalg.inv(new) @ old)[:2, [0, 1, 3]]
    x_y_1 = np.column_stack([points_yx[:, ::-1], np.ones(len(points_yx))])
    return np.rint(x_y_1 @ to_new.T)[:, ::-1]


def _points_yx(coords: str) -> NDArray[np.float64]:
    pairs = [pair.split(",") for pair in coords.split()]
    points = np.array([(int(y), int(x)) for x, y in pairs], dtype=np.float64).reshape(-1, 2)
    return points.clip(-FAR, FAR)


def _counted(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError(f"{number} is no number from 1")
    return number
