"""Incoming annotations against the protocol: what is wrong, where, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
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


@dataclass(frozen=True)
class Finding:
    """One thing that the check found.

    Attributes
    ----------
    code : str
        Short and fixed: ``"open-line"``.
    severity : str
        One of `SEVERITIES`.
    where : str
        Lesion, reader and slice, as far as it has them.
    found : str
        What was found, and what was expected.
    to_do : str
    """

    code: str
    severity: Severity
    where: str
    found: str
    to_do: str


def validate_annotation(
    annotation: Annotation,
    volume: Volume,
    protocol: Protocol | None = None,
    lung: NDArray[np.bool_] | None = None,
) -> list[Finding]:
    """Check an annotation against the protocol and its series.

    Parameters
    ----------
    annotation : Annotation
    volume : Volume
        The series.
    protocol : Protocol, optional
        The project's own where left out.
    lung : ndarray of bool, shape (z, y, x), optional
        Lung field of the series; found by `lung_field` where left out.

    Returns
    -------
    list of Finding
        Lines first, then masks, then what concerns several readers. Empty: nothing to mend.
    """
    rules = protocol or default_protocol()
    if not annotation.grid.same_as(SeriesGrid.of(volume)):
        return [grid_mismatch("the annotation's grid is not that of the series")]
    findings = [found for line in annotation.lines for found in _line(line, volume, rules)]
    if annotation.masks and lung is None:
        lung = lung_field(volume.hu, volume.spacing_mm)
    for mask in annotation.masks:
        if lung is not None:
            findings += _mask(mask, volume, lung, rules)
    findings += _overlaps(annotation)
    findings += _ratings(annotation, rules)
    findings += _panel(annotation, rules)
    return findings


def findings_table(findings: list[Finding]) -> pd.DataFrame:
    """Return a row a finding, with the columns of `Finding`."""
    columns = list(Finding.__dataclass_fields__)
    return pd.DataFrame([asdict(finding) for finding in findings], columns=columns)


def grid_mismatch(found: str) -> Finding:
    """Say that an annotation does not lie on its series."""
    return Finding(
        "grid-mismatch", "mend", "the file", found, "give the annotation of this very series"
    )


def axial_diameter_mm(mask: NDArray[np.bool_], spacing_mm: tuple[float, float, float]) -> float:
    """Return the longest diameter within one slice, from voxel edge to voxel edge.

    Distance of the two farthest voxel centres of a slice plus one pixel; 0 for an empty mask.
    """
    _, dy, dx = spacing_mm
    longest = 0.0
    for plane in mask:
        rows = np.flatnonzero(plane.any(axis=1))
        if not len(rows):
            continue
        # The farthest pair are ends of rows.
        first = plane[rows].argmax(axis=1)
        last = plane.shape[1] - 1 - plane[rows, ::-1].argmax(axis=1)
        ends = np.concatenate([np.c_[rows, first], np.c_[rows, last]]) * (dy, dx)
        longest = max(longest, float(pdist(ends).max()) + min(dy, dx))
    return longest


def _line(line: Line, volume: Volume, rules: Protocol) -> Iterator[Finding]:
    grid = SeriesGrid.of(volume)
    k = grid.slice_at(line.z_mm)
    place = f"lesion {line.lesion}, reader {line.reader}"
    where = f"{place}, z = {line.z_mm:g} mm" if k is None else f"{place}, slice {k}"
    if k is None:
        yield Finding(
            "slice-not-in-series",
            "mend",
            where,
            "the line lies on no slice of the series",
            "find out which series it was drawn on, and give that one",
        )
    points = line.points_yx
    if len(np.unique(points, axis=0)) < rules.line.min_points:
        yield Finding(
            "few-points",
            "mend",
            where,
            f"{len(points)} point(s); a line needs {rules.line.min_points} or more",
            "draw the line again",
        )
        return
    if (points < -1).any() or (points > volume.hu.shape[1:]).any():
        yield Finding(
            "off-image",
            "mend",
            where,
            "points lie outside the image",
            "check rows, columns and the series; draw the line again",
        )
    gap_mm = closing_gap_mm(points, grid.spacing_mm[1:])
    if line.declared_open or gap_mm > rules.line.max_gap_mm:
        yield Finding(
            "open-line",
            "mend",
            where,
            f"the ends lie {gap_mm:.1f} mm apart; expected a closed line",
            "close the line",
        )
    elif crosses_itself(points):
        yield Finding(
            "self-crossing",
            "mend",
            where,
            "the line crosses itself: inside and outside are not defined",
            "draw the line again without a loop",
        )


def _mask(
    mask: LesionMask, volume: Volume, lung: NDArray[np.bool_], rules: Protocol
) -> Iterator[Finding]:
    where = f"lesion {mask.lesion}, reader {mask.reader}"
    if mask.n_voxels < rules.line.min_voxels:
        empty = mask.n_voxels == 0
        yield Finding(
            "empty-mask" if empty else "tiny-mask",
            "mend",
            where,
            f"{mask.n_voxels} voxel(s); expected {rules.line.min_voxels} or more",
            "draw the lesion, or take the line out",
        )
        if empty:
            return
    diameter_mm = axial_diameter_mm(mask.mask, volume.spacing_mm)
    least_mm = rules.lesion.min_axial_diameter_mm
    if diameter_mm < least_mm:
        yield Finding(
            "below-size",
            "look",
            where,
            f"longest axial diameter {diameter_mm:.1f} mm; the protocol starts at {least_mm:g} mm",
            "take it out, or correct the line",
        )
    pieces = int(cc3d.connected_components(mask.mask, connectivity=26).max())
    if pieces > rules.line.max_pieces:
        yield Finding(
            "in-pieces",
            "look",
            where,
            f"{pieces} pieces that do not touch{_skipped(mask)}",
            "draw the slices between, or number the pieces as lesions",
        )
    share = float(lung[mask.block][mask.mask].mean())
    if share < rules.line.min_share_in_lung:
        yield Finding(
            "outside-lung",
            "mend",
            where,
            f"{share:.0%} of it in the lung field; expected {rules.line.min_share_in_lung:.0%}",
            "check slice and side, and draw it where the lung is",
        )
    slices = int(mask.mask.any(axis=(1, 2)).sum())
    widest_mm = rules.line.one_slice_up_to_slices * volume.spacing_mm[0]
    if slices == 1 and diameter_mm >= widest_mm and volume.hu.shape[0] > 1:
        yield Finding(
            "one-slice",
            "look",
            where,
            f"{diameter_mm:.1f} mm wide but on one slice of {volume.spacing_mm[0]:g} mm",
            "draw the slices above and below",
        )


def _skipped(mask: LesionMask) -> str:
    drawn = np.flatnonzero(mask.mask.any(axis=(1, 2)))
    gaps = sorted(set(range(int(drawn[0]), int(drawn[-1]))) - set(drawn.tolist()))
    return f"; nothing on slice {gaps[0] + mask.start_zyx[0]}" if gaps else ""


def _overlaps(annotation: Annotation) -> Iterator[Finding]:
    for first, second in combinations(annotation.masks, 2):
        if first.reader == second.reader and (shared := shared_voxels(first, second)):
            yield Finding(
                "overlap",
                "mend",
                f"lesions {first.lesion} and {second.lesion}, reader {first.reader}",
                f"{shared} voxels belong to both",
                "draw the border between them, or make them one lesion",
            )


def _ratings(annotation: Annotation, rules: Protocol) -> Iterator[Finding]:
    for (lesion, reader), given in annotation.ratings.items():
        for name, value in given.items():
            low, high = rules.ratings.get(name, (1, 0))
            if not low <= value <= high:
                yield Finding(
                    "rating-off-scale",
                    "mend",
                    f"lesion {lesion}, reader {reader}",
                    f"{name} {value}; expected {low} to {high}"
                    if name in rules.ratings
                    else f"{name} is no rating of the protocol",
                    "rate it again",
                )


def _panel(annotation: Annotation, rules: Protocol) -> Iterator[Finding]:
    expected = rules.reading.readers_per_case
    if len(annotation.readers) < expected:
        yield Finding(
            "reader-missing",
            "escalate",
            "the case",
            f"{len(annotation.readers)} reader(s); expected {expected} or more",
            "let another reader read it; one who finds nothing hands in an empty reading",
        )
    for lesion in annotation.lesions:
        masks = [mask for mask in annotation.of_lesion(lesion) if mask.n_voxels]
        if len(masks) == 1 and len(annotation.readers) > 1:
            yield Finding(
                "one-reader",
                "escalate",
                f"lesion {lesion}",
                f"drawn by reader {masks[0].reader} alone, of {len(annotation.readers)}",
                "the adjudicator reads the case",
            )
        yield from _agreement(annotation, lesion, rules)


def _agreement(annotation: Annotation, lesion: int, rules: Protocol) -> Iterator[Finding]:
    masks = [mask for mask in annotation.of_lesion(lesion) if mask.n_voxels]
    if len(masks) < 2:
        return
    common = on_common_block(masks)
    median_mm3 = float(np.median(common.sum(axis=(1, 2, 3)))) * annotation.grid.voxel_volume_mm3
    gate = rules.min_dice(sphere_diameter_mm(median_mm3))
    for i, j in combinations(range(len(masks)), 2):
        overlap = dice(common[i], common[j])
        if overlap < gate:
            yield Finding(
                "low-agreement",
                "escalate",
                f"lesion {lesion}, readers {masks[i].reader} and {masks[j].reader}",
                f"3D Dice {overlap:.2f}; the gate for its size is {gate:.2f}",
                "the adjudicator draws it",
            )
