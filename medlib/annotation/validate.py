"""Incoming annotations against the protocol: what is wrong, where, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import cc3d
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.spatial.distance import pdist

from medlib.annotation.agreement import dice
from medlib.annotation.drawings import (
    Annotation,
    LesionMask,
    Line,
    SeriesGrid,
    on_common_block,
    shared_voxels,
)
from medlib.annotation.line_faults import closing_gap_mm, crosses_itself
from medlib.annotation.protocol import Protocol, default_protocol
from medlib.images.lungs import lung_field
from medlib.images.volume import Volume, sphere_diameter_mm

Severity = Literal["mend", "look", "escalate"]
SEVERITIES: dict[Severity, str] = {
    "mend": "cannot stand as it is",
    "look": "may be right, is not refused: the reader looks once more",
    "escalate": "another reader has to read it",
}
CHECKS: dict[str, tuple[Severity, str]] = {  # code: how severe, what to do
    "grid-mismatch": ("mend", "give the annotation of this very series"),
    "slice-not-in-series": ("mend", "find out which series it was drawn on, and give that one"),
    "few-points": ("mend", "draw the line again"),
    "off-image": ("mend", "check rows, columns and the series; draw the line again"),
    "open-line": ("mend", "close the line"),
    "self-crossing": ("mend", "draw the line again without a loop"),
    "empty-mask": ("mend", "draw the lesion, or take the line out"),
    "tiny-mask": ("mend", "draw the lesion, or take the line out"),
    "below-size": ("look", "take it out, or correct the line"),
    "in-pieces": ("look", "draw the slices between, or number the pieces as lesions"),
    "outside-lung": ("mend", "check slice and side, and draw it where the lung is"),
    "one-slice": ("look", "draw the slices above and below"),
    "overlap": ("mend", "draw the border between them, or make them one lesion"),
    "rating-off-scale": ("mend", "rate it again"),
    "reader-missing": (
        "escalate",
        "let another reader read it; one who finds nothing hands in an empty reading",
    ),
    "one-reader": ("escalate", "the adjudicator reads the case"),
    "low-agreement": ("escalate", "the adjudicator draws it"),
}


@dataclass(frozen=True)
class Finding:
    """One thing that the check found."""

    code: str  # of `CHECKS`
    where: str  # lesion, reader and slice, as far as it has them
    found: str  # and what was expected

    @property
    def severity(self) -> Severity:
        """One of `SEVERITIES`."""
        return CHECKS[self.code][0]

    @property
    def to_do(self) -> str:
        """What to do about it."""
        return CHECKS[self.code][1]


def validate_annotation(
    annotation: Annotation,
    volume: Volume,
    protocol: Protocol | None = None,
    lung: NDArray[np.bool_] | None = None,
) -> list[Finding]:
    """Check an annotation against the protocol and its series.

    Lines first, then masks, then what concerns several readers. The project's own protocol and the
    series' `lung_field` are taken where they are left out.
    """
    rules = protocol or default_protocol()
    if not annotation.grid.same_as(SeriesGrid.of(volume)):
        return [
            Finding("grid-mismatch", "the file", "the annotation's grid is not that of the series")
        ]
    findings = [found for line in annotation.lines for found in _line(line, annotation.grid, rules)]
    if annotation.masks:
        field = lung_field(volume.hu, volume.spacing_mm) if lung is None else lung
        for mask in annotation.masks:
            findings += _mask(mask, annotation.grid, field, rules)
    findings += _overlaps(annotation)
    findings += _ratings(annotation, rules)
    findings += _panel(annotation, rules)
    return findings


def findings_table(findings: list[Finding]) -> pd.DataFrame:
    """Return a row a finding."""
    columns = ["code", "severity", "where", "found", "to_do"]
    return pd.DataFrame([[getattr(f, c) for c in columns] for f in findings], columns=columns)


def axial_diameter_mm(mask: NDArray[np.bool_], spacing_mm: tuple[float, float, float]) -> float:
    """Return the distance of the two farthest voxel centres of one slice plus one pixel."""
    _, dy, dx = spacing_mm
    longest = 0.0
    for plane in mask[mask.any(axis=(1, 2))]:
        rows = np.flatnonzero(plane.any(axis=1))
        # The farthest pair are ends of rows.
        first = plane[rows].argmax(axis=1)
        last = plane.shape[1] - 1 - plane[rows, ::-1].argmax(axis=1)
        ends = np.concatenate([np.c_[rows, first], np.c_[rows, last]]) * (dy, dx)
        longest = max(longest, float(pdist(ends).max()) + min(dy, dx))
    return longest


def _line(line: Line, grid: SeriesGrid, rules: Protocol) -> Iterator[Finding]:
    k = grid.slice_at(line.z_mm)
    place = f"lesion {line.lesion}, reader {line.reader}"
    where = f"{place}, z = {line.z_mm:g} mm" if k is None else f"{place}, slice {k}"
    if k is None:
        yield Finding("slice-not-in-series", where, "the line lies on no slice of the series")
    points, least = line.points_yx, rules.line.min_points
    if len(np.unique(points, axis=0)) < least:
        found = f"{len(points)} point(s); a line needs {least} or more"
        yield Finding("few-points", where, found)
        return
    if (points < -1).any() or (points > grid.shape_zyx[1:]).any():
        yield Finding("off-image", where, "points lie outside the image")
    gap_mm = closing_gap_mm(points, grid.spacing_mm[1:])
    if line.declared_open or gap_mm > rules.line.max_gap_mm:
        found = f"the ends lie {gap_mm:.1f} mm apart; expected a closed line"
        yield Finding("open-line", where, found)
    elif crosses_itself(points):
        found = "the line crosses itself: inside and outside are not defined"
        yield Finding("self-crossing", where, found)


def _mask(
    mask: LesionMask, grid: SeriesGrid, lung: NDArray[np.bool_], rules: Protocol
) -> Iterator[Finding]:
    where = f"lesion {mask.lesion}, reader {mask.reader}"
    if mask.n_voxels < rules.line.min_voxels:
        found = f"{mask.n_voxels} voxel(s); expected {rules.line.min_voxels} or more"
        yield Finding("tiny-mask" if mask.n_voxels else "empty-mask", where, found)
        if not mask.n_voxels:
            return
    diameter_mm = axial_diameter_mm(mask.mask, grid.spacing_mm)
    least_mm = rules.lesion.min_axial_diameter_mm
    if diameter_mm < least_mm:
        found = f"longest axial diameter {diameter_mm:.1f} mm"
        yield Finding("below-size", where, f"{found}; the protocol starts at {least_mm:g} mm")
    pieces = int(cc3d.connected_components(mask.mask.astype(np.uint8), connectivity=26).max())
    drawn = np.flatnonzero(mask.mask.any(axis=(1, 2)))
    if pieces > rules.line.max_pieces:
        skipped = np.setdiff1d(np.arange(len(mask.mask)), drawn)
        gap = f"; nothing on slice {skipped[0] + mask.start_zyx[0]}" if len(skipped) else ""
        yield Finding("in-pieces", where, f"{pieces} pieces that do not touch{gap}")
    share, least = float(lung[mask.block][mask.mask].mean()), rules.line.min_share_in_lung
    if share < least:
        found = f"{share:.0%} of it in the lung field; expected {least:.0%}"
        yield Finding("outside-lung", where, found)
    slice_mm = grid.spacing_mm[0]
    wide = diameter_mm >= rules.line.one_slice_up_to_slices * slice_mm
    if len(drawn) == 1 and wide and grid.shape_zyx[0] > 1:
        found = f"{diameter_mm:.1f} mm wide but on one slice of {slice_mm:g} mm"
        yield Finding("one-slice", where, found)


def _overlaps(annotation: Annotation) -> Iterator[Finding]:
    for first, second in combinations(annotation.masks, 2):
        if first.reader == second.reader and (shared := shared_voxels(first, second)):
            where = f"lesions {first.lesion} and {second.lesion}, reader {first.reader}"
            yield Finding("overlap", where, f"{shared} voxels belong to both")


def _ratings(annotation: Annotation, rules: Protocol) -> Iterator[Finding]:
    for (lesion, reader), given in annotation.ratings.items():
        where = f"lesion {lesion}, reader {reader}"
        for name, value in given.items():
            if name not in rules.ratings:
                yield Finding("rating-off-scale", where, f"{name} is no rating of the protocol")
                continue
            low, high = rules.ratings[name]
            if not low <= value <= high:
                found = f"{name} {value}; expected {low} to {high}"
                yield Finding("rating-off-scale", where, found)


def _panel(annotation: Annotation, rules: Protocol) -> Iterator[Finding]:
    n_readers, expected = len(annotation.readers), rules.reading.readers_per_case
    if n_readers < expected:
        found = f"{n_readers} reader(s); expected {expected} or more"
        yield Finding("reader-missing", "the case", found)
    for lesion in annotation.lesions:
        masks = [mask for mask in annotation.of_lesion(lesion) if mask.n_voxels]
        if len(masks) == 1 and n_readers > 1:
            found = f"drawn by reader {masks[0].reader} alone, of {n_readers}"
            yield Finding("one-reader", f"lesion {lesion}", found)
        elif len(masks) > 1:
            yield from _agreement(masks, annotation.grid, rules)


def _agreement(masks: list[LesionMask], grid: SeriesGrid, rules: Protocol) -> Iterator[Finding]:
    common = on_common_block(masks)
    median_mm3 = float(np.median(common.sum(axis=(1, 2, 3)))) * grid.voxel_volume_mm3
    gate = rules.min_dice(sphere_diameter_mm(median_mm3))
    for (a, first), (b, second) in combinations(zip(masks, common, strict=True), 2):
        if (overlap := dice(first, second)) < gate:
            where = f"lesion {a.lesion}, readers {a.reader} and {b.reader}"
            found = f"3D Dice {overlap:.2f}; the gate for its size is {gate:.2f}"
            yield Finding("low-agreement", where, found)
