"""How one phantom patient is built: sizes, shapes and densities drawn from a seed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from medlib.phantom.shapes import Ellipsoid, Point, Shape, Tube

FAT, MUSCLE = -100.0, 55.0


@dataclass(frozen=True)
class Build:
    """One patient. Lengths in mm; the origin is the midline at the carina."""

    sex: Literal["F", "M"]
    age_years: int
    scale: float  # size of the organs against the average adult
    cavity_half_width_mm: float  # of the rib cage, inside, at its widest
    cavity_half_depth_mm: float
    apex_mm: float  # this and the domes of the diaphragm: height above the carina
    diaphragm_right_mm: float
    diaphragm_left_mm: float
    fat_mm: float  # under the skin
    muscle_mm: float  # of the chest wall
    breast_mm: float  # additional thickness in front
    lung_hu: float  # mean density
    gravity_hu: float  # how much denser the back of the lung is than its front
    emphysema: float  # share of the lung that is destroyed
    blood_hu: float  # higher where contrast was given
    vessel_radius_mm: float  # of the finest branches that are drawn
    # A row a wave that bends the patient: wave vector x, y, z in rad/mm, phase, amplitude along x
    # and y in mm, phase difference.
    warp: NDArray[np.float64]
    # A row a modulation of the rib cage's outline: relative amplitude, phase, twist in rad/mm.
    ripple: NDArray[np.float64]
    rib_phase_mm: float  # height of one of the ribs at the spine
    organs: tuple[Shape, ...]  # of the mediastinum, painted in this order
    airways: tuple[Tube, ...]  # trachea and main bronchi: lumen


def draw_build(rng: np.random.Generator) -> Build:
    """Draw a patient's build."""
    sex: Literal["F", "M"] = "F" if rng.random() < 0.45 else "M"
    age = int(np.clip(rng.normal(62, 10), 35, 88))
    scale = (0.94 if sex == "F" else 1.02) * rng.normal(1.0, 0.035)
    contrast = rng.random() < 0.4
    blood = rng.normal(170.0, 35.0) if contrast else rng.normal(42.0, 4.0)
    wave_number = 2 * np.pi / rng.uniform(110.0, 260.0, 4)
    direction = rng.standard_normal((4, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    warp = np.column_stack(
        [
            direction * wave_number[:, None],
            rng.uniform(0, 2 * np.pi, 4),
            rng.normal(0, 2.2, (4, 2)),
            rng.uniform(0, 2 * np.pi, 4),
        ]
    )
    orders = np.arange(2, 7)
    ripple = np.column_stack(
        [
            rng.normal(0, 0.03, 5) / (orders - 1),
            rng.uniform(0, 2 * np.pi, 5),
            rng.normal(0, 0.012, 5),
        ]
    )
    half_depth = scale * rng.normal(94.0, 5.0)
    return Build(
        sex=sex,
        age_years=age,
        scale=scale,
        cavity_half_width_mm=scale * rng.normal(121.0, 5.0),
        cavity_half_depth_mm=half_depth,
        apex_mm=scale * rng.normal(104.0, 6.0),
        diaphragm_right_mm=-scale * rng.normal(98.0, 9.0),
        diaphragm_left_mm=-scale * rng.normal(110.0, 9.0),
        fat_mm=float(np.clip(rng.gamma(4.0, 3.2), 4.0, 32.0)),
        muscle_mm=(11.0 if sex == "F" else 15.0) * rng.normal(1.0, 0.15),
        breast_mm=rng.uniform(8.0, 30.0) if sex == "F" else rng.uniform(0.0, 4.0),
        lung_hu=float(np.clip(rng.normal(-868.0, 34.0), -945.0, -790.0)),
        gravity_hu=rng.uniform(20.0, 95.0),
        emphysema=float(rng.beta(1.0, 3.0)) * 0.5 if rng.random() < 0.3 else 0.0,
        blood_hu=blood,
        vessel_radius_mm=rng.uniform(0.42, 0.54),
        warp=warp,
        ripple=ripple,
        rib_phase_mm=rng.uniform(0, 24.0),
        organs=_organs(rng, scale, half_depth, blood, contrast),
        airways=_airways(rng, scale),
    )


def _displaced(rng: np.random.Generator, scale: float, jitter_mm: float, *xyz: float) -> Point:
    x, y, z = (scale * np.array(xyz) + rng.normal(0, jitter_mm, 3)).tolist()
    return x, y, z


def _organs(
    rng: np.random.Generator, scale: float, half_depth_mm: float, blood: float, contrast: bool
) -> tuple[Shape, ...]:
    """Heart and great vessels, each with its own small displacement."""
    muscle = 85.0 if contrast else 48.0
    at = partial(_displaced, rng, scale, 2.0)

    def size(*radii: float) -> Point:
        x, y, z = (scale * np.array(radii) * rng.normal(1.0, 0.06, 3)).tolist()
        return x, y, z

    def radius(mm: float) -> float:
        return float(scale * mm * rng.normal(1.0, 0.08))

    spine = half_depth_mm / scale - 46.0  # front of the vertebrae
    arch_front, arch_back = at(-12, -18, 22), at(24, spine - 18, 20)
    arch_top = at(8, 2, 34)
    descending = at(24, spine - 12, -20)
    fat = -95.0
    return (
        Tube(at(0, 6, -70), at(0, 6, 110), 20.0, fat),  # what holds the organs together
        Tube(at(4, spine - 6, 110), at(5, spine - 4, -180), 15.0, fat),
        Tube(at(8, -30, -66), at(-2, -98, -66), 26.0, fat, 0.0, end_radius_mm=4.0),
        Tube(at(2, -24, -34), at(-2, -98, -34), 26.0, fat, 0.0, end_radius_mm=2.0),
        Tube(at(0, -20, -2), at(-2, -96, -4), 26.0, fat, 0.0, end_radius_mm=1.0),
        Tube(at(0, -14, 30), at(-1, -88, 26), 24.0, fat, 0.0, end_radius_mm=2.0),
        Tube(at(0, -8, 60), at(0, -70, 58), 22.0, fat, 0.0, end_radius_mm=3.0),
        Ellipsoid(at(20, -26, -72), size(56, 44, 46), muscle),  # ventricles
        Tube(at(14, -26, -66), at(52, -40, -88), radius(40.0), muscle, end_radius_mm=20.0),  # apex
        Ellipsoid(at(-22, -18, -62), size(32, 34, 36), blood),  # right atrium
        Ellipsoid(at(30, -16, -74), size(32, 23, 32), blood),  # left ventricle, cavity
        Ellipsoid(at(4, -44, -68), size(34, 20, 34), blood),  # right ventricle, cavity
        Ellipsoid(at(2, 6, -48), size(36, 20, 22), blood),  # left atrium
        Tube(at(20, -34, -44), at(16, -26, -12), radius(14.0), blood),  # pulmonary trunk
        Tube(at(14, -22, -14), at(-44, -4, -22), radius(9.5), blood, 2.0),  # right artery
        Tube(at(18, -22, -10), at(44, 4, -12), radius(10.0), blood, 2.0),  # left artery
        Tube(at(-44, -4, -22), at(-52, 8, -52), radius(7.5), blood, 1.0),
        Tube(at(44, 4, -12), at(52, 16, -48), radius(7.5), blood, 1.0),
        Tube(at(-24, 6, -48), at(-56, -2, -56), radius(6.5), blood, 1.0),  # right lower vein
        Tube(at(26, 8, -48), at(56, 12, -60), radius(6.5), blood, 1.0),  # left lower vein
        Tube(at(-26, -12, -44), at(-50, -16, -24), radius(5.5), blood, 1.0),  # right upper vein
        Tube(at(24, -6, -42), at(46, -20, -20), radius(5.5), blood, 1.0),  # left upper vein
        Tube(at(-4, -22, -46), arch_front, radius(15.5), blood),  # ascending aorta
        Tube(arch_front, arch_top, radius(14.5), blood),
        Tube(arch_top, arch_back, radius(13.5), blood),
        Tube(arch_back, descending, radius(12.5), blood),
        Tube(descending, at(20, spine - 10, -180), radius(12.0), blood),  # descending aorta
        Tube(at(-24, -20, -50), at(-24, -14, 50), radius(9.5), blood),  # superior vena cava
        Tube(at(-24, -14, 50), at(-14, -4, 110), radius(7.5), blood),
        Tube(at(10, -2, 36), at(26, 8, 110), radius(6.5), blood),  # left subclavian
        Tube(at(0, -8, 36), at(12, -2, 110), radius(6.0), blood),
        Tube(at(5, spine - 20, 110), at(8, spine - 22, -180), radius(7.0), 35.0),  # oesophagus
    )


def _airways(rng: np.random.Generator, scale: float) -> tuple[Tube, ...]:
    """Trachea, main bronchi and their first branches: the lumen."""
    at = partial(_displaced, rng, scale, 1.5)
    air = -985.0
    carina, right, left = at(0, 6, 0), at(-34, 10, -26), at(38, 14, -32)
    wide = scale * rng.normal(1.0, 0.07)
    return (
        Tube(at(0, -2, 120), carina, 8.5 * wide, air),
        Tube(carina, right, 6.8 * wide, air),
        Tube(carina, left, 5.8 * wide, air),
        Tube(at(-26, 9, -18), at(-48, 2, -6), 4.4 * wide, air),  # right upper lobe
        Tube(right, at(-44, 20, -66), 4.6 * wide, air),  # right intermediate, lower lobe
        Tube(left, at(50, 0, -26), 4.0 * wide, air),  # left upper lobe
        Tube(left, at(48, 26, -64), 4.3 * wide, air),  # left lower lobe
    )
