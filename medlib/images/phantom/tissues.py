"""One axial level of a phantom patient: which tissue lies where.

Every structure is a function of mm that is positive inside and falls with the distance from its
surface by about one per mm, so that a pixel cut by a surface takes its share of both tissues.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from medlib.images.phantom.build import Build, Ellipsoid, Tube

Field = NDArray[np.float32]

AIR, FAT, MUSCLE, SKIN, LIVER = -1000.0, -100.0, 55.0, 15.0, 58.0
CORTEX, MARROW, CARTILAGE, DISC, CANAL = 620.0, 190.0, 115.0, 85.0, 25.0
RIB_PITCH_MM, RIB_DROP_MM = 25.0, 85.0
_ANGLES = np.linspace(-np.pi, np.pi, 721)
_SMOOTHING_MM = 7.0


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
    x, y = _bend(build, z, x, y)
    shift = _cavity_shift(z)
    radius = np.hypot(x, y - shift)
    angle = np.arctan2(x, shift - y)  # 0 in front, positive to the left
    profile = _profiles(build, z)
    position = (angle + np.pi) * ((len(_ANGLES) - 1) / (2 * np.pi))
    cavity, muscle, body = (_look_up(values, position) for values in profile)
    outward = radius - cavity  # mm outside the rib cage's inner surface

    hu = np.full(x.shape, AIR, dtype=np.float32)
    _table(hu, x, y, pixel_mm)
    _paint(hu, body - radius, SKIN, pixel_mm)
    _paint(hu, body - radius - 2.2, FAT, pixel_mm)
    _paint(hu, muscle - radius, MUSCLE, pixel_mm)
    # Fat between the inner and the outer layer of muscle.
    layer = 0.45 * muscle + 0.55 * cavity + 4.0
    _paint(hu, 0.9 + 0.8 * np.sin(5 * angle + 0.06 * z) - np.abs(radius - layer), FAT, pixel_mm)
    _shoulder_blade(hu, angle, radius - layer, z, pixel_mm)
    _paint(hu, 1.0 - np.abs(outward - 1.2), FAT, pixel_mm)
    _ribs(hu, build, z, angle, outward, pixel_mm)
    spine_y = _spine_y(build, z)
    spine = _spine(hu, x, y - spine_y, z + build.rib_phase_mm, pixel_mm)

    inside = -outward - 0.5
    above_diaphragm = _diaphragm(build, z, x, y)
    _abdomen(hu, x, np.minimum(inside, -above_diaphragm), pixel_mm)
    mediastinum = _mediastinum_edge(build, z, x, y)
    lung_field = np.minimum(inside, above_diaphragm)
    lung_field = np.minimum(lung_field, -np.maximum(mediastinum, spine))
    _paint(hu, np.minimum(np.minimum(inside, above_diaphragm), mediastinum), FAT, pixel_mm)
    for organ in build.organs:
        if (field := _field(organ, z, x, y)) is not None:
            _paint(hu, np.minimum(field, np.minimum(inside, above_diaphragm)), organ.hu, pixel_mm)
    lung = _share(lung_field, pixel_mm)
    hu += lung * (np.float32(build.lung_hu) - hu)
    for tube in build.airways:
        if (field := _field(tube, z, x, y)) is not None:
            _paint(hu, field + 1.4, 20.0, pixel_mm)
            lung *= 1.0 - _share(field + 1.4, pixel_mm)
    for tube in build.airways:
        if (field := _field(tube, z, x, y)) is not None:
            _paint(hu, field, tube.hu, pixel_mm)
    return hu, lung, ((y - shift) / np.float32(build.cavity_half_depth_mm))


def _share(field: Field, pixel_mm: float) -> Field:
    return np.clip(field / np.float32(pixel_mm) + np.float32(0.5), 0, 1)


def _paint(hu: Field, field: Field, value: float, pixel_mm: float) -> None:
    hu += _share(field, pixel_mm) * (np.float32(value) - hu)


def _look_up(values: NDArray[np.float64], position: Field) -> Field:
    """Interpolate a table over the angle; `position` is the fractional index."""
    low = position.astype(np.int32)
    np.clip(low, 0, len(values) - 2, out=low)
    table = values.astype(np.float32)
    step = np.diff(table)
    return table[low] + (position - low) * step[low]


def _bend(build: Build, z: float, x: Field, y: Field) -> tuple[Field, Field]:
    """Displace the coordinates by long waves: what makes the outlines organic."""
    new_x, new_y = x + np.zeros_like(y), y + np.zeros_like(x)
    for kx, ky, kz, phase, along_x, along_y, lag in build.warp:
        a, b = kx * x + phase + kz * z, ky * y
        # sin(a + b) from outer products: two transcendental functions a row and a column
        new_x += np.float32(along_x) * (np.sin(a) * np.cos(b) + np.cos(a) * np.sin(b))
        a = a + lag
        new_y += np.float32(along_y) * (np.sin(a) * np.cos(b) + np.cos(a) * np.sin(b))
    return new_x.astype(np.float32), new_y.astype(np.float32)


def _cavity_shift(z: float) -> float:
    return 0.09 * z


def _spine_y(build: Build, z: float) -> float:
    depth = build.cavity_half_depth_mm - 31.0 * build.scale
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
    exponent = 2.35
    cavity = (
        np.abs(np.sin(side) / half_width) ** exponent
        + np.abs(np.cos(side) / half_depth) ** exponent
    ) ** (-1.0 / exponent)
    for order, (amplitude, phase, twist) in enumerate(build.ripple, start=2):
        cavity *= 1.0 + amplitude * np.cos(order * _ANGLES + phase + twist * z)

    def bump(center: float, width: float) -> NDArray[np.float64]:
        return np.exp(-(((side - center) / width) ** 2))

    upper = 1.0 / (1.0 + np.exp(-(z + 25.0) / 22.0))  # 0 below the shoulders, 1 at their height
    muscle = cavity + build.muscle_mm * (
        0.95
        + 0.9 * upper * bump(0.75, 0.35)  # pectoral
        + (0.35 + 1.6 * upper) * bump(2.05, 0.38)  # latissimus, serratus, shoulder
        + 0.9 * bump(2.75, 0.3)  # erector of the spine
        + 0.45 * bump(np.pi, 0.25)
        - 0.35 * bump(0.0, 0.3)
    )
    # What the narrowing rib cage leaves to the shoulders.
    muscle += 0.85 * (build.cavity_half_width_mm - half_width) * bump(np.pi / 2, 0.55)
    lower_front = 1.0 / (1.0 + np.exp((z - 0.0) / 15.0))
    fat = build.fat_mm * (0.75 + 0.35 * bump(1.4, 0.6) + 0.2 * bump(0.6, 0.5)) + 2.5
    fat += build.breast_mm * lower_front * bump(0.72, 0.33)
    body = muscle + fat
    # The patient lies on the back: it is flattened there.
    back = build.cavity_half_depth_mm + 1.9 * build.muscle_mm + 0.8 * build.fat_mm + 6.0
    flat = np.where(side > 1.9, back / np.maximum(-np.cos(side), 0.2), np.inf)
    body = np.minimum(body, np.maximum(flat, muscle + 4.0))
    return cavity, _smooth(muscle), _smooth(body)


def _smooth(profile: NDArray[np.float64]) -> NDArray[np.float64]:
    """Smooth a closed profile over about 8 degrees."""
    kernel = np.hanning(33)
    closed = np.concatenate([profile[-17:-1], profile, profile[1:17]])
    return np.convolve(closed, kernel / kernel.sum(), mode="valid")


def _table(hu: Field, x: Field, y: Field, pixel_mm: float) -> None:
    top = 138.0 + x**2 / 1100.0
    _paint(hu, 1.2 - np.abs(y - top), -250.0, pixel_mm)
    _paint(hu, 8.0 - np.abs(y - top - 10.0), -940.0, pixel_mm)
    _paint(hu, 1.2 - np.abs(y - top - 19.0), -250.0, pixel_mm)


def _ribs(
    hu: Field, build: Build, z: float, angle: Field, outward: Field, pixel_mm: float
) -> None:
    """Ribs fall from the spine to the front, so that a slice cuts each of them obliquely."""
    side = np.abs(angle)
    height = z + build.rib_phase_mm + RIB_DROP_MM * (1.0 - side / np.pi)
    height += 5.0 * np.sign(angle)  # left and right are not mirror images
    from_rib = (height / RIB_PITCH_MM - np.round(height / RIB_PITCH_MM)) * RIB_PITCH_MM
    depth = outward - 6.5
    field = 4.3 * (1.0 - np.sqrt((from_rib / 6.8) ** 2 + (depth / 4.3) ** 2))
    bone = np.minimum(field, 40.0 * (side - 0.62))
    _paint(hu, bone, CORTEX, pixel_mm)
    _paint(hu, bone - 1.6, MARROW, pixel_mm)
    _paint(hu, np.minimum(field, 40.0 * (0.62 - side)), CARTILAGE, pixel_mm)
    sternum = 6.0 * (1.0 - np.sqrt((side / 0.2) ** 4 + (depth / 5.5) ** 4) ** 0.5)
    _paint(hu, sternum, CORTEX - 150.0, pixel_mm)
    _paint(hu, sternum - 1.5, MARROW - 60.0, pixel_mm)


def _shoulder_blade(hu: Field, angle: Field, depth: Field, z: float, pixel_mm: float) -> None:
    reach = 0.42 * float(np.clip((z + 75.0) / 60.0, 0.0, 1.0))
    if reach == 0.0:
        return
    side = np.abs(angle)
    bow = depth - 2.0 - 22.0 * (side - 2.1) ** 2
    field = np.minimum(2.6 - np.abs(bow), 90.0 * (reach - np.abs(side - 2.1)))
    _paint(hu, field, CORTEX, pixel_mm)
    _paint(hu, field - 1.5, MARROW, pixel_mm)


def _spine(hu: Field, x: Field, y: Field, z: float, pixel_mm: float) -> Field:
    """Vertebra at ``y = 0`` and what lies around it; returns the field that the lung spares."""
    in_vertebra = np.abs(z / RIB_PITCH_MM - np.round(z / RIB_PITCH_MM)) * RIB_PITCH_MM
    disc = in_vertebra > 9.5
    waist = 1.0 + 0.06 * (in_vertebra / 10.0) ** 2
    body = 14.0 * (1.0 - np.hypot(x / (17.5 * waist), y / (14.5 * waist)))
    arch = 3.2 - np.abs(np.hypot(x / 1.1, y - 22.0) - 11.0)
    _paint(hu, arch, CORTEX - 100.0, pixel_mm)
    if not disc:
        for sign in (-1, 1):
            process = 4.5 - _segment(x, y, (9.0 * sign, 22.0), (29.0 * sign, 31.0))
            _paint(hu, process, CORTEX - 200.0, pixel_mm)
            _paint(hu, process - 1.6, MARROW, pixel_mm)
    spinous = 3.4 - _segment(x, y, (0.0, 33.0), (0.0, 33.0 + 1.6 * (12.5 - in_vertebra)))
    _paint(hu, spinous, CORTEX - 200.0, pixel_mm)
    _paint(hu, spinous - 1.6, MARROW, pixel_mm)
    if disc:
        _paint(hu, body, DISC, pixel_mm)
    else:
        _paint(hu, body, CORTEX - 170.0, pixel_mm)
        _paint(hu, body - 1.8, MARROW, pixel_mm)
    _paint(hu, 8.5 - np.hypot(x / 1.15, y - 22.0), CANAL, pixel_mm)
    around = np.maximum(
        24.0 * (1.0 - np.hypot(x / 21.0, (y - 1.0) / 18.0)),
        30.0 * (1.0 - np.hypot(x / 38.0, (y - 32.0) / 22.0)),
    )
    return around.astype(np.float32)


def _segment(x: Field, y: Field, start: tuple[float, float], end: tuple[float, float]) -> Field:
    """Distance from a segment in the plane."""
    (x0, y0), (x1, y1) = start, end
    dx, dy = x1 - x0, y1 - y0
    along = np.clip(((x - x0) * dx + (y - y0) * dy) / max(dx * dx + dy * dy, 1e-6), 0, 1)
    return np.hypot(x - x0 - along * dx, y - y0 - along * dy).astype(np.float32)


def _diaphragm(build: Build, z: float, x: Field, y: Field) -> Field:
    """Height above the two domes in mm."""
    width, depth = 0.62 * build.cavity_half_width_mm, build.cavity_half_depth_mm
    right = build.diaphragm_right_mm - 62.0 * (((x + 0.8 * width) / width) ** 2)
    left = build.diaphragm_left_mm - 62.0 * (((x - 0.8 * width) / width) ** 2)
    dome = np.maximum(right, left) - 55.0 * ((y + 12.0) / depth) ** 2
    return (0.75 * (z - dome)).astype(np.float32)


def _abdomen(hu: Field, x: Field, field: Field, pixel_mm: float) -> None:
    _paint(hu, field, FAT, pixel_mm)
    _paint(hu, np.minimum(field - 2.0, 0.8 * (28.0 - x)), LIVER, pixel_mm)
    _paint(hu, np.minimum(field - 2.0, 0.8 * (x - 62.0)), LIVER - 8.0, pixel_mm)


def _mediastinum_edge(build: Build, z: float, x: Field, y: Field) -> Field:
    """Union of the organs with their fat, smoothed where two of them meet."""
    edge = np.full(x.shape, -60.0, dtype=np.float32)
    for organ in (*build.organs, *build.airways):
        field = _field(organ, z, x, y)
        if field is None:
            continue
        field = field + np.float32(organ.fat_mm)
        mix = np.clip(0.5 + 0.5 * (field - edge) / _SMOOTHING_MM, 0, 1)
        edge = edge + mix * (field - edge) + _SMOOTHING_MM * mix * (1 - mix)
    return edge


def _field(shape: Ellipsoid | Tube, z: float, x: Field, y: Field) -> Field | None:
    """How far inside a shape each pixel lies in mm; None where it is far from this height."""
    if isinstance(shape, Ellipsoid):
        (cx, cy, cz), (rx, ry, rz) = shape.center_xyz, shape.radii_xyz
        if abs(z - cz) > 1.5 * rz:
            return None
        squared = ((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2 + ((z - cz) / rz) ** 2
        return (min(rx, ry, rz) * (1.0 - np.sqrt(squared))).astype(np.float32)
    (x0, y0, z0), (x1, y1, z1) = shape.start_xyz, shape.end_xyz
    reach = shape.radius_mm + 12.0
    if not min(z0, z1) - reach < z < max(z0, z1) + reach:
        return None
    dx, dy, dz = x1 - x0, y1 - y0, z1 - z0
    along = ((x - x0) * dx + (y - y0) * dy + (z - z0) * dz) / (dx * dx + dy * dy + dz * dz)
    along = np.clip(along, 0, 1)
    squared = (x - x0 - along * dx) ** 2 + (y - y0 - along * dy) ** 2 + (z - z0 - along * dz) ** 2
    return (shape.radius_mm - np.sqrt(squared)).astype(np.float32)
