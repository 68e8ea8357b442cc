"""Shapes as fields, and the axial level that they are painted on.

A field is a function of mm that is positive inside a shape and falls with the distance from its
surface by about one per mm, so that a pixel cut by the surface takes its share of both tissues.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import EllipsisType

import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.floating]
Point = tuple[float, float, float]  # x to the patient's left, y to the back, z up, in mm
Window = tuple[slice, slice]

_SMOOTHING_MM = 8.0
_REACH_MM = 22.0  # how far around a shape its field counts: bending, fat and smoothing
_REACH_UP_MM = 12.0


@dataclass(frozen=True)
class Ellipsoid:
    """An organ by its centre and half axes."""

    center_xyz: Point
    radii_xyz: Point
    hu: float
    fat_mm: float = 2.5  # around it

    def extent(self) -> tuple[Point, Point, float, float]:
        """Return its ends, and how far it reaches from them in the plane and upwards."""
        return self.center_xyz, self.center_xyz, max(self.radii_xyz), self.radii_xyz[2]

    def field(self, x: Field, y: Field, z: float) -> Field:
        """How far inside it points are."""
        (cx, cy, cz), (rx, ry, rz) = self.center_xyz, self.radii_xyz
        squared = ((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2 + ((z - cz) / rz) ** 2
        return min(rx, ry, rz) * (1.0 - np.sqrt(squared))


@dataclass(frozen=True)
class Tube:
    """A straight round tube, or a cone where the radius at its end is another."""

    start_xyz: Point
    end_xyz: Point
    radius_mm: float
    hu: float
    fat_mm: float = 2.5
    end_radius_mm: float | None = None

    def extent(self) -> tuple[Point, Point, float, float]:
        """As in `Ellipsoid`."""
        widest = max(self.radius_mm, self.end_radius_mm or 0.0)
        return self.start_xyz, self.end_xyz, widest, widest

    def field(self, x: Field, y: Field, z: float) -> Field:
        """How far inside it points are."""
        (x0, y0, z0), (x1, y1, z1) = self.start_xyz, self.end_xyz
        dx, dy, dz = x1 - x0, y1 - y0, z1 - z0
        along = ((x - x0) * dx + (y - y0) * dy + (z - z0) * dz) / (dx * dx + dy * dy + dz * dz)
        along = np.clip(along, 0, 1)
        squared = (
            (x - x0 - along * dx) ** 2 + (y - y0 - along * dy) ** 2 + (z - z0 - along * dz) ** 2
        )
        end_radius = self.radius_mm if self.end_radius_mm is None else self.end_radius_mm
        return self.radius_mm + (end_radius - self.radius_mm) * along - np.sqrt(squared)


Shape = Ellipsoid | Tube


@dataclass(frozen=True)
class Level:
    """An axial level on which tissues are painted, each over what is there; all of float32."""

    z: float  # height above the carina in mm
    straight_x: Field  # (1, columns), pixel centres in mm
    straight_y: Field  # (rows, 1)
    x: Field  # (rows, columns), the same in the patient, who is bent
    y: Field
    pixel_mm: float  # width over which an edge is shared
    hu: Field

    def share(self, field: Field) -> Field:
        """Return the share of each pixel that lies inside."""
        share = field * np.float32(1 / self.pixel_mm)
        share += np.float32(0.5)
        return np.clip(share, 0, 1, out=share)

    def paint(self, field: Field, hu: float, at: Window | EllipsisType = ...) -> None:
        """Fill a shape whose field is known in a window."""
        here = self.hu[at]
        here += self.share(field) * (np.float32(hu) - here)

    def window(self, start: Sequence[float], end: Sequence[float], reach_mm: float) -> Window:
        """Return the rows and columns within `reach_mm` of the box that two points span."""
        columns, rows = (
            slice(*np.searchsorted(axis.ravel(), (min(a, b) - reach_mm, max(a, b) + reach_mm)))
            for axis, a, b in zip((self.straight_x, self.straight_y), start, end, strict=False)
        )
        return rows, columns

    def near(self, shapes: Sequence[Shape]) -> Iterator[tuple[Shape, Window, Field]]:
        """Yield each shape at this height, where it lies, and its field there."""
        for shape in shapes:
            start, end, around, up = shape.extent()
            up += _REACH_UP_MM
            if min(start[2], end[2]) - up < self.z < max(start[2], end[2]) + up:
                at = self.window(start, end, around + _REACH_MM)
                yield shape, at, shape.field(self.x[at], self.y[at], self.z)


def smooth_union(first: Field, second: Field) -> Field:
    """Return the union of two fields, filled in where their surfaces meet."""
    k = np.float32(_SMOOTHING_MM)
    mix = np.clip((second - first) / (2 * k) + np.float32(0.5), 0, 1)
    return first + mix * (second - first) + k * mix * (1 - mix)
