"""One axial level of a phantom patient: which tissue lies where.

Every structure is a function of mm that is positive inside and falls with the distance from its
surface by about one per mm, so that a pixel cut by a surface takes its share of both tissues.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from medlib.phantom.body import Build, Ellipsoid, Tube

Field = NDArray[np.floating]
Window = tuple[slice, slice]

AIR, FAT, MUSCLE, SKIN, LIVER = -1000.0, -100.0, 55.0, 15.0, 58.0
CORTEX, MARROW, CARTILAGE, DISC, CANAL = 780.0, 160.0, 115.0, 85.0, 25.0
RIB_PITCH_MM, RIB_DROP_MM = 25.0, 120.0
BRONCHIAL_WALL_MM = 1.3
_ANGLES = np.linspace(-np.pi, np.pi, 721)
_SMOOTHING_MM = 8.0
_REACH_MM = 22.0  # how far around an organ its field counts: bending, fat and smoothing


def draw_level(
    build: Build, z: float, x: Field, y: Field, pixel_mm: float
) -> tuple[Field, Field, Field]:
    """Draw the tissues at one height.

    Parameters
    ----------
    build : Build
    z : float
        Height above the carina in mm.
    x, y : ndarray of float32, shape (1, columns) and (rows, 1)
        Pixel centres in mm, x to the patient's left and y to the back.
    pixel_mm : float
        Width over which an edge is shared.

    Returns
    -------
    hu : ndarray of float32, shape (rows, columns)
        The lung is filled with the patient's mean density.
    lung : ndarray of float32, shape (rows, columns)
        Share of each pixel that is lung, 0..1.
    front_to_back : ndarray of float32, shape (rows, columns)
        Position in the chest, about -1 at the breast bone to 1 at the back.
    """
    z = float(z)  # a NumPy scalar would turn every field into float64
    straight_x, straight_y = x[0], y[:, 0]
    x, y = _bend(build, z, x, y)
    shift = np.float32(_cavity_shift(z))
    radius = np.hypot(x, y - shift)
    angle = np.arctan2(x, shift - y)  # 0 in front, positive to the left
    position = (angle + np.float32(np.pi)) * np.float32((len(_ANGLES) - 1) / (2 * np.pi))
    cavity, muscle, body = (_look_up(table, position) for table in _profiles(build, z))
    outward = radius - cavity  # mm outside the rib cage's inner surface
    above_diaphragm = _diaphragm(build, z, x, y)
    chest = np.minimum(-outward, above_diaphragm)

    hu = np.full(x.shape, AIR, dtype=np.float32)
    _table(hu, build, straight_x[None, :], straight_y[:, None], pixel_mm)
    _chest_wall(hu, z, angle, radius, (cavity, muscle, body), pixel_mm)
    _ribs(hu, build, z, angle, outward, pixel_mm)
    _abdomen(hu, x, np.minimum(-outward, -above_diaphragm), pixel_mm)

    organs = list(_fields(build.organs, z, x, y, straight_x, straight_y))
    airways = list(_fields(build.airways, z, x, y, straight_x, straight_y))
    spine_y = _spine_y(build, z)
    window = _window(straight_x, straight_y, (0.0, spine_y), (0.0, spine_y + 40.0), 50.0)
    spine_x, behind_spine = x[window], y[window] - np.float32(spine_y)
    edge = np.full(x.shape, -60.0, dtype=np.float32)  # of the mediastinum
    around_spine = _around_spine(spine_x, behind_spine)
    edge[window] = around_spine
    for shape, at, field in (*organs, *airways):
        edge[at] = _smooth_union(edge[at], field + np.float32(shape.fat_mm))
    _paint(hu, np.minimum(chest, edge), FAT, pixel_mm)
    _paint(hu[window], np.minimum(chest[window], around_spine), MUSCLE, pixel_mm)
    _spine(hu[window], spine_x, behind_spine, z + build.rib_phase_mm, pixel_mm)
    for shape, at, field in organs:
        _paint(hu[at], np.minimum(field, chest[at]), shape.hu, pixel_mm)
    lung = _share(np.minimum(chest, -edge), pixel_mm)
    hu += lung * (np.float32(build.lung_hu) - hu)
    for _, at, field in airways:
        wall = field + np.float32(BRONCHIAL_WALL_MM)
        _paint(hu[at], wall, 20.0, pixel_mm)
        lung[at] *= 1 - _share(wall, pixel_mm)
    for shape, at, field in airways:
        _paint(hu[at], field, shape.hu, pixel_mm)
    return hu, lung, (y - shift) / np.float32(build.cavity_half_depth_mm)


def _share(field: Field, pixel_mm: float) -> Field:
    """Share of a pixel inside, from the distance of its centre to the surface."""
    share = field * np.float32(1 / pixel_mm)
    share += np.float32(0.5)
    return np.clip(share, 0, 1, out=share)


def _paint(hu: Field, field: Field, value: float, pixel_mm: float) -> None:
    hu += _share(field, pixel_mm) * (np.float32(value) - hu)


def _smooth_union(first: Field, second: Field) -> Field:
    """Union of two fields, filled in where their surfaces meet."""
    k = np.float32(_SMOOTHING_MM)
    mix = np.clip((second - first) / (2 * k) + np.float32(0.5), 0, 1)
    return first + mix * (second - first) + k * mix * (1 - mix)


def _look_up(values: NDArray[np.float64], position: Field) -> Field:
    """Interpolate a table over the angle; `position` is the fractional index."""
    table = values.astype(np.float32)
    low = np.minimum(position.astype(np.int32), len(table) - 2)
    return table[low] + (position - low.astype(np.float32)) * np.diff(table)[low]


def _bend(build: Build, z: float, x: Field, y: Field) -> tuple[Field, Field]:
    """Displace the coordinates by long waves: what makes the outlines organic."""
    new_x, new_y = x + np.zeros_like(y), y + np.zeros_like(x)
    for kx, ky, kz, phase, along_x, along_y, lag in build.warp.tolist():
        a, b = kx * x + (phase + kz * z), ky * y
        # sin(a + b) from outer products: two transcendental functions a row and a column
        new_x += along_x * (np.sin(a) * np.cos(b) + np.cos(a) * np.sin(b))
        a = a + lag
        new_y += along_y * (np.sin(a) * np.cos(b) + np.cos(a) * np.sin(b))
    return new_x, new_y


def _cavity_shift(z: float) -> float:
    return 0.09 * z


def _spine_y(build: Build, z: float) -> float:
    depth = build.cavity_half_depth_mm - 36.0 * build.scale
    return depth + 4.0 - 11.0 * ((z + 30.0) / 110.0) ** 2 + 0.5 * _cavity_shift(z)


def _profiles(
    build: Build, z: float
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
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

    def bump(center: float, width: float) -> NDArray[np.float64]:
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
    body = muscle + fat
    flat = np.where(side > 1.9, _back_mm(build) / np.maximum(-np.cos(side), 0.2), np.inf)
    body = np.minimum(body, np.maximum(flat, muscle + 4.0))
    return cavity, _smooth(muscle), _smooth(body)


def _smooth(profile: NDArray[np.float64]) -> NDArray[np.float64]:
    """Smooth a closed profile over about 12 degrees."""
    kernel = np.hanning(49)
    closed = np.concatenate([profile[-25:-1], profile, profile[1:25]])
    return np.convolve(closed, kernel / kernel.sum(), mode="valid")


def _table(hu: Field, build: Build, x: Field, y: Field, pixel_mm: float) -> None:
    """Draw a curved couch below the back."""
    below = y - (_back_mm(build) + 12.0 - x**2 / 1500.0)
    _paint(hu, 1.2 - np.abs(below), -250.0, pixel_mm)
    _paint(hu, 8.0 - np.abs(below - 10.0), -940.0, pixel_mm)
    _paint(hu, 1.2 - np.abs(below - 19.0), -250.0, pixel_mm)


def _back_mm(build: Build) -> float:
    """Where the skin of the back lies: the patient lies on it and it is flat."""
    return build.cavity_half_depth_mm + 2.0 * build.muscle_mm + 0.8 * build.fat_mm + 6.0


def _chest_wall(
    hu: Field,
    z: float,
    angle: Field,
    radius: Field,
    profiles: tuple[Field, Field, Field],
    pixel_mm: float,
) -> None:
    """Skin, fat, two layers of muscle with fat between them, shoulder blade, fat at the pleura."""
    cavity, muscle, body = profiles
    skin = body - radius
    _paint(hu, skin, SKIN, pixel_mm)
    _paint(hu, skin - np.float32(2.2), FAT, pixel_mm)
    _paint(hu, muscle - radius, MUSCLE, pixel_mm)
    layer = np.float32(0.45) * muscle + np.float32(0.55) * cavity + np.float32(4.0)
    plane = 0.7 + 1.0 * np.sin(5 * angle + np.float32(0.06 * z))
    _paint(hu, plane - np.abs(radius - layer), FAT, pixel_mm)
    _shoulder_blade(hu, np.abs(angle), radius - layer, z, pixel_mm)
    _paint(hu, 0.8 - np.abs(radius - cavity - np.float32(1.0)), FAT, pixel_mm)


def _shoulder_blade(hu: Field, side: Field, depth: Field, z: float, pixel_mm: float) -> None:
    reach = 0.36 * float(np.clip((z + 60.0) / 60.0, 0.0, 1.0))
    if reach == 0.0:
        return
    bow = depth - 3.0 - 30.0 * (side - 2.2) ** 2
    field = np.minimum(2.4 - np.abs(bow), 90.0 * (reach - np.abs(side - 2.2)))
    _paint(hu, field, CORTEX, pixel_mm)
    _paint(hu, field - 1.4, MARROW, pixel_mm)


def _ribs(hu: Field, build: Build, z: float, angle: Field, outward: Field, pixel_mm: float) -> None:
    """Ribs fall from the spine to the front, so that a slice cuts each of them obliquely."""
    side = np.abs(angle)
    height = RIB_DROP_MM * (1.0 - side / np.pi) + 5.0 * np.sign(angle)  # sides differ a little
    height += z + build.rib_phase_mm
    from_rib = (height / RIB_PITCH_MM - np.round(height / RIB_PITCH_MM)) * RIB_PITCH_MM
    depth = outward - 6.0
    field = 4.0 * (1.0 - np.sqrt((from_rib / 6.3) ** 2 + (depth / 4.0) ** 2))
    bone = np.minimum(field, 40.0 * (side - 0.62))
    _paint(hu, bone, CORTEX, pixel_mm)
    _paint(hu, bone - 1.3, MARROW, pixel_mm)
    _paint(hu, np.minimum(field, 40.0 * (0.62 - side)), CARTILAGE, pixel_mm)
    sternum = 6.0 * (1.0 - ((side / 0.2) ** 4 + (depth / 5.5) ** 4) ** 0.25)
    _paint(hu, sternum, CORTEX - 150.0, pixel_mm)
    _paint(hu, sternum - 1.5, MARROW - 60.0, pixel_mm)


def _around_spine(x: Field, y: Field) -> Field:
    """Muscle and bone that the lung spares; `y` is measured from the vertebra's centre."""
    vertebra: Field = 20.0 * (1.0 - np.hypot(x / 22.0, (y - 2.0) / 18.5))
    behind: Field = 30.0 * (1.0 - np.hypot(x / 40.0, (y - 32.0) / 22.0))
    return np.maximum(vertebra, behind)


def _spine(hu: Field, x: Field, y: Field, z: float, pixel_mm: float) -> None:
    """Vertebra or disc, arch, processes and canal, written into `hu`."""
    level = np.abs(z / RIB_PITCH_MM - np.round(z / RIB_PITCH_MM)) * RIB_PITCH_MM
    disc = level > 9.5
    waist = float(1.0 + 0.06 * (level / 10.0) ** 2)
    body = 14.0 * (1.0 - np.hypot(x / (17.5 * waist), y / (14.5 * waist)))
    arch = 3.2 - np.abs(np.hypot(x / 1.1, y - 22.0) - 11.0)
    _paint(hu, arch, CORTEX - 100.0, pixel_mm)
    processes = [((0.0, 33.0), (0.0, 33.0 + 1.6 * float(12.5 - level)))]
    if not disc:
        processes += [((9.0 * side, 22.0), (29.0 * side, 31.0)) for side in (-1, 1)]
    for start, end in processes:
        process = 4.0 - _segment(x, y, start, end)
        _paint(hu, process, CORTEX - 200.0, pixel_mm)
        _paint(hu, process - 1.5, MARROW, pixel_mm)
    if disc:
        _paint(hu, body, DISC, pixel_mm)
    else:
        _paint(hu, body, CORTEX - 170.0, pixel_mm)
        _paint(hu, body - 1.8, MARROW, pixel_mm)
    _paint(hu, 8.5 - np.hypot(x / 1.15, y - 22.0), CANAL, pixel_mm)


def _segment(x: Field, y: Field, start: tuple[float, float], end: tuple[float, float]) -> Field:
    """Distance from a segment in the plane."""
    (x0, y0), (x1, y1) = start, end
    dx, dy = x1 - x0, y1 - y0
    along = np.clip(((x - x0) * dx + (y - y0) * dy) / max(dx * dx + dy * dy, 1e-6), 0, 1)
    return np.hypot(x - x0 - along * dx, y - y0 - along * dy)


def _diaphragm(build: Build, z: float, x: Field, y: Field) -> Field:
    """Height above the two domes, and what lies between them under the heart, in mm."""
    width = 0.62 * build.cavity_half_width_mm
    right = build.diaphragm_right_mm - 62.0 * ((x + 0.8 * width) / width) ** 2
    left = build.diaphragm_left_mm - 62.0 * ((x - 0.8 * width) / width) ** 2
    middle = build.diaphragm_right_mm - 12.0 - 62.0 * ((x - 4.0) / (0.7 * width)) ** 2
    dome: Field = np.maximum(np.maximum(right, left), middle)
    dome -= 55.0 * ((y + 22.0) / build.cavity_half_depth_mm) ** 2
    return 0.75 * (z - dome)


def _abdomen(hu: Field, x: Field, field: Field, pixel_mm: float) -> None:
    """Liver on the right, spleen on the left, fat between."""
    _paint(hu, field, FAT, pixel_mm)
    _paint(hu, np.minimum(field - 2.0, 0.8 * (28.0 - x)), LIVER, pixel_mm)
    _paint(hu, np.minimum(field - 2.0, 0.8 * (x - 62.0)), LIVER - 8.0, pixel_mm)


def _window(
    straight_x: NDArray[np.float32],
    straight_y: NDArray[np.float32],
    x_and_y: tuple[float, float],
    other: tuple[float, float],
    reach_mm: float,
) -> Window:
    """Rows and columns within `reach_mm` of the box that two points span."""
    columns, rows = (
        slice(*np.searchsorted(axis, (min(a, b) - reach_mm, max(a, b) + reach_mm)))
        for axis, a, b in zip((straight_x, straight_y), x_and_y, other, strict=True)
    )
    return rows, columns


def _fields(
    shapes: Sequence[Ellipsoid | Tube],
    z: float,
    x: Field,
    y: Field,
    straight_x: NDArray[np.float32],
    straight_y: NDArray[np.float32],
) -> Iterator[tuple[Ellipsoid | Tube, Window, Field]]:
    """Each shape near this height, where it lies, and how far inside it each pixel is in mm."""
    for shape in shapes:
        if isinstance(shape, Ellipsoid):
            low = high = shape.center_xyz
            reach = max(shape.radii_xyz) + _REACH_MM
            height = shape.radii_xyz[2] + 12.0
        else:
            low, high = shape.start_xyz, shape.end_xyz
            widest = max(shape.radius_mm, shape.end_radius_mm or 0.0)
            reach, height = widest + _REACH_MM, widest + 12.0
        if not min(low[2], high[2]) - height < z < max(low[2], high[2]) + height:
            continue
        window = _window(straight_x, straight_y, low[:2], high[:2], reach)
        here = (z, x[window], y[window])
        field = _ellipsoid(shape, *here) if isinstance(shape, Ellipsoid) else _tube(shape, *here)
        yield shape, window, field


def _ellipsoid(shape: Ellipsoid, z: float, x: Field, y: Field) -> Field:
    (cx, cy, cz), (rx, ry, rz) = shape.center_xyz, shape.radii_xyz
    squared = ((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2 + ((z - cz) / rz) ** 2
    return min(rx, ry, rz) * (1.0 - np.sqrt(squared))


def _tube(shape: Tube, z: float, x: Field, y: Field) -> Field:
    (x0, y0, z0), (x1, y1, z1) = shape.start_xyz, shape.end_xyz
    dx, dy, dz = x1 - x0, y1 - y0, z1 - z0
    along = ((x - x0) * dx + (y - y0) * dy + (z - z0) * dz) / (dx * dx + dy * dy + dz * dz)
    along = np.clip(along, 0, 1)
    squared = (x - x0 - along * dx) ** 2 + (y - y0 - along * dy) ** 2 + (z - z0 - along * dz) ** 2
    end_radius = shape.radius_mm if shape.end_radius_mm is None else shape.end_radius_mm
    return shape.radius_mm + (end_radius - shape.radius_mm) * along - np.sqrt(squared)
