"""What surrounds the lungs at one level: couch, skin, fat, muscle, ribs and spine."""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import NDArray

from medlib.phantom.body import FAT, MUSCLE, Build
from medlib.phantom.shapes import Field, Level, Window

SKIN, CORTEX, MARROW, CARTILAGE, DISC, CANAL = 15.0, 780.0, 160.0, 115.0, 85.0, 25.0
RIB_PITCH_MM, RIB_DROP_MM = 25.0, 120.0
Profile = NDArray[np.float64]  # radius in mm over the angles
_ANGLES = np.linspace(-np.pi, np.pi, 721)


def cavity_shift_mm(z: float) -> float:
    """How far the middle of the rib cage lies behind that at the carina."""
    return 0.09 * z


def draw_wall(level: Level, build: Build) -> Field:
    """Draw all but the spine; return how far outside the rib cage's inner surface pixels are."""
    to_front = np.float32(cavity_shift_mm(level.z)) - level.y
    radius = np.hypot(level.x, to_front)
    angle = np.arctan2(level.x, to_front)  # 0 in front, positive to the left
    position = (angle + np.float32(np.pi)) * np.float32((len(_ANGLES) - 1) / (2 * np.pi))
    cavity, muscle, body = (_look_up(table, position) for table in _profiles(build, level.z))
    outward: Field = radius - cavity
    _couch(level, build)
    skin = body - radius
    level.paint(skin, SKIN)
    level.paint(skin - np.float32(2.2), FAT)
    level.paint(muscle - radius, MUSCLE)
    # Two layers of muscle with fat between them.
    layer = np.float32(0.45) * muscle + np.float32(0.55) * cavity + np.float32(4.0)
    plane = 0.7 + 1.0 * np.sin(5 * angle + np.float32(0.06 * level.z))
    level.paint(plane - np.abs(radius - layer), FAT)
    _shoulder_blade(level, np.abs(angle), radius - layer)
    level.paint(0.8 - np.abs(radius - cavity - np.float32(1.0)), FAT)
    _ribs(level, build, angle, outward)
    return outward


def _look_up(values: Profile, position: Field) -> Field:
    """Interpolate a table over the angle; `position` is the fractional index."""
    table = values.astype(np.float32)
    low = np.minimum(position.astype(np.int32), len(table) - 2)
    return table[low] + (position - low.astype(np.float32)) * np.diff(table)[low]


def _profiles(build: Build, z: float) -> tuple[Profile, Profile, Profile]:
    """Radius in mm over `_ANGLES` of the rib cage, the muscle's outside and the skin."""
    side = np.abs(_ANGLES)
    taper = np.clip((z + 45.0) / (build.apex_mm + 45.0), 0.0, 0.995)
    narrow = (1.0 - taper**2.6) ** 0.55
    half_width = build.cavity_half_width_mm * narrow
    half_depth = build.cavity_half_depth_mm * (0.35 + 0.65 * narrow)
    exponent = 2.2
    cavity = (
        np.abs(np.sin(side) / half_width) ** exponent
        + np.abs(np.cos(side) / half_depth) ** exponent
    ) ** (-1.0 / exponent)
    for order, (amplitude, phase, twist) in enumerate(build.ripple, start=2):
        cavity *= 1.0 + amplitude * np.cos(order * _ANGLES + phase + twist * z)

    def bump(center: float, width: float) -> Profile:
        return np.exp(-(((side - center) / width) ** 2))

    upper = 1.0 / (1.0 + np.exp(-(z + 15.0) / 25.0))  # 0 below the shoulders, 1 at their height
    muscle = cavity + build.muscle_mm * (
        0.9
        + 0.9 * upper * bump(0.75, 0.4)  # pectoral
        + (0.25 + 1.5 * upper) * bump(2.15, 0.5)  # latissimus, serratus, shoulder
        + 1.0 * bump(2.75, 0.35)  # erector of the spine
        + 0.5 * bump(np.pi, 0.3)
        - 0.3 * bump(0.0, 0.3)
    )
    # What the narrowing rib cage leaves to the shoulders.
    muscle += 0.85 * (build.cavity_half_width_mm - half_width) * bump(np.pi / 2, 0.55)
    below = 1.0 / (1.0 + np.exp(z / 15.0))
    fat = build.fat_mm * (0.7 + 0.35 * bump(1.4, 0.7) + 0.2 * bump(0.6, 0.5)) + 2.5
    fat += build.breast_mm * below * bump(0.72, 0.36)
    flat = np.where(side > 1.9, _back_mm(build) / np.maximum(-np.cos(side), 0.2), np.inf)
    body = np.minimum(muscle + fat, np.maximum(flat, muscle + 4.0))
    return cavity, _smooth(muscle), _smooth(body)


def _smooth(profile: Profile) -> Profile:
    """Smooth a closed profile over about 12 degrees."""
    kernel = np.hanning(49)
    closed = np.concatenate([profile[-25:-1], profile, profile[1:25]])
    return np.convolve(closed, kernel / kernel.sum(), mode="valid")


def _back_mm(build: Build) -> float:
    """Where the skin of the back lies: the patient lies on it and it is flat."""
    return build.cavity_half_depth_mm + 2.0 * build.muscle_mm + 0.8 * build.fat_mm + 6.0


def _couch(level: Level, build: Build) -> None:
    """Draw a curved couch below the back."""
    below = level.straight_y - (_back_mm(build) + 12.0 - level.straight_x**2 / 1500.0)
    level.paint(1.2 - np.abs(below), -250.0)
    level.paint(8.0 - np.abs(below - 10.0), -940.0)
    level.paint(1.2 - np.abs(below - 19.0), -250.0)


def _shoulder_blade(level: Level, side: Field, depth: Field) -> None:
    reach = 0.36 * float(np.clip((level.z + 60.0) / 60.0, 0.0, 1.0))
    if reach == 0.0:
        return
    bow = depth - 3.0 - 30.0 * (side - 2.2) ** 2
    field = np.minimum(2.4 - np.abs(bow), 90.0 * (reach - np.abs(side - 2.2)))
    level.paint(field, CORTEX)
    level.paint(field - 1.4, MARROW)


def _ribs(level: Level, build: Build, angle: Field, outward: Field) -> None:
    """Ribs fall from the spine to the front, so that a slice cuts each of them obliquely."""
    side = np.abs(angle)
    height = RIB_DROP_MM * (1.0 - side / np.pi) + 5.0 * np.sign(angle)  # sides differ a little
    height += level.z + build.rib_phase_mm
    from_rib = (height / RIB_PITCH_MM - np.round(height / RIB_PITCH_MM)) * RIB_PITCH_MM
    depth = outward - 6.0
    field = 4.0 * (1.0 - np.sqrt((from_rib / 6.3) ** 2 + (depth / 4.0) ** 2))
    bone = np.minimum(field, 40.0 * (side - 0.62))
    level.paint(bone, CORTEX)
    level.paint(bone - 1.3, MARROW)
    level.paint(np.minimum(field, 40.0 * (0.62 - side)), CARTILAGE)
    sternum = 6.0 * (1.0 - ((side / 0.2) ** 4 + (depth / 5.5) ** 4) ** 0.25)
    level.paint(sternum, CORTEX - 150.0)
    level.paint(sternum - 1.5, MARROW - 60.0)


class Spine:
    """The spine at one level: first where it lies, so that the lung spares it, then drawn."""

    def __init__(self, level: Level, build: Build) -> None:
        depth = build.cavity_half_depth_mm - 36.0 * build.scale
        z = level.z
        center_y = depth + 4.0 - 11.0 * ((z + 30.0) / 110.0) ** 2 + 0.5 * cavity_shift_mm(z)
        self.level, self.z = level, z + build.rib_phase_mm
        self.at: Window = level.window((0.0, center_y), (0.0, center_y + 40.0), 50.0)
        self.x, self.y = level.x[self.at], level.y[self.at] - np.float32(center_y)

    def spared(self) -> Field:
        """Return the field, in the window `at`, of the muscle and bone that the lung spares."""
        vertebra: Field = 20.0 * (1.0 - np.hypot(self.x / 22.0, (self.y - 2.0) / 18.5))
        behind: Field = 30.0 * (1.0 - np.hypot(self.x / 40.0, (self.y - 32.0) / 22.0))
        return np.maximum(vertebra, behind)

    def draw(self) -> None:
        """Draw the vertebra or disc, the arch, the processes and the canal."""
        x, y, paint = self.x, self.y, partial(self.level.paint, at=self.at)
        height = np.abs(self.z / RIB_PITCH_MM - np.round(self.z / RIB_PITCH_MM)) * RIB_PITCH_MM
        disc = height > 9.5
        waist = float(1.0 + 0.06 * (height / 10.0) ** 2)
        body = 14.0 * (1.0 - np.hypot(x / (17.5 * waist), y / (14.5 * waist)))
        arch = 3.2 - np.abs(np.hypot(x / 1.1, y - 22.0) - 11.0)
        paint(arch, CORTEX - 100.0)
        processes = [((0.0, 33.0), (0.0, 33.0 + 1.6 * float(12.5 - height)))]
        if not disc:
            processes += [((9.0 * side, 22.0), (29.0 * side, 31.0)) for side in (-1, 1)]
        for start, end in processes:
            process = 4.0 - _from_segment_mm(x, y, start, end)
            paint(process, CORTEX - 200.0)
            paint(process - 1.5, MARROW)
        if disc:
            paint(body, DISC)
        else:
            paint(body, CORTEX - 170.0)
            paint(body - 1.8, MARROW)
        paint(8.5 - np.hypot(x / 1.15, y - 22.0), CANAL)


def _from_segment_mm(
    x: Field, y: Field, start: tuple[float, float], end: tuple[float, float]
) -> Field:
    (x0, y0), (x1, y1) = start, end
    dx, dy = x1 - x0, y1 - y0
    along = np.clip(((x - x0) * dx + (y - y0) * dy) / max(dx * dx + dy * dy, 1e-6), 0, 1)
    return np.hypot(x - x0 - along * dx, y - y0 - along * dy)
